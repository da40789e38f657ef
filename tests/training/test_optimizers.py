"""Laws of the optimizers: BertAdam equals the reference's arithmetic, and rates follow each schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lxcompress.recipe import Train
from lxcompress.training.optimizers import BertAdam, make_optimizer, reference_schedule, schedule, set_rate


def slow_bert_adam(weight: Tensor, gradients: list[Tensor], rates: list[float], decay: float) -> Tensor:
    """Return the weights after BERT's optimizer, number by number: no bias correction, decay added to the update."""
    values = [float(each) for each in weight.flatten()]
    mean, square = [0.0] * len(values), [0.0] * len(values)
    for gradient, rate in zip(gradients, rates, strict=True):
        for index, slope in enumerate(gradient.flatten().tolist()):
            mean[index] = 0.9 * mean[index] + 0.1 * slope
            square[index] = 0.999 * square[index] + 0.001 * slope * slope
            update = mean[index] / (math.sqrt(square[index]) + 1e-6) + decay * values[index]
            values[index] -= rate * update
    return torch.tensor(values).view_as(weight)


def test_bert_adam_is_the_slow_one() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, bias = (nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((3, 4), (5,)))
    starts = [matrix.detach().clone(), bias.detach().clone()]
    rates = [0.1 * reference_schedule(step, 10, 0.3) for step in range(10)]
    gradients = [[torch.randn(weight.shape, generator=generator) for weight in (matrix, bias)] for _ in rates]
    optimizer = BertAdam([matrix, bias], lr=0.1, weight_decay=0.01)
    for rate, pair in zip(rates, gradients, strict=True):
        matrix.grad, bias.grad = (each.clone() for each in pair)
        set_rate(optimizer, rate)
        optimizer.step()
    for index, weight in enumerate((matrix, bias)):
        slow = slow_bert_adam(starts[index], [pair[index] for pair in gradients], rates, 0.01)
        torch.testing.assert_close(weight.detach(), slow, rtol=1e-5, atol=1e-6)


def test_bert_adam_decays_biases_too_and_adamw_does_not() -> None:
    moved = {}
    for name in ("bert-adam", "adamw"):
        layer = nn.Linear(2, 2)
        nn.init.ones_(layer.bias)
        optimizer = make_optimizer(
            dict(layer.named_parameters()), Train(optimizer=name, learning_rate=0.1, weight_decay=0.5), captured=False
        )
        for weight in layer.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        moved[name] = float(layer.bias.detach()[0])
    assert moved == {"bert-adam": pytest.approx(0.95), "adamw": 1.0}


def test_what_has_no_gradient_stays() -> None:
    one, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    one.grad = torch.ones(2)
    optimizer = BertAdam([one, other], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert not torch.equal(one.detach(), torch.ones(2))
    assert torch.equal(other.detach(), torch.ones(2))


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.1), (100, 0.25), (7, 0.5)])
def test_the_reference_schedule_starts_at_nothing_and_peaks_at_the_end_of_the_warm_up(total, warmup) -> None:
    shares = [reference_schedule(step, total, warmup) for step in range(total + 1)]
    assert shares[0] == 0
    assert shares[-1] == 0
    assert all(0 <= share <= 1 for share in shares)
    peak = shares.index(max(shares))
    assert abs(peak - total * warmup) <= 1
    assert shares[: peak + 1] == sorted(shares[: peak + 1])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)


def test_both_schedules_fall_alike() -> None:
    for step in range(20, 100):
        assert schedule(step, 100, 0.2) == reference_schedule(step, 100, 0.2)


def test_a_rate_in_a_tensor_is_changed_in_place() -> None:
    """A CUDA graph reads the rate from the tensor that it captured."""
    weight = nn.Parameter(torch.ones(1))
    rate = torch.tensor(0.5)
    optimizer = BertAdam([weight], lr=rate, weight_decay=0.0)
    set_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25
