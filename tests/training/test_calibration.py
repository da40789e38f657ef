"""Laws of calibration statistics: they equal a computation by hand, depend on the seed, and change no model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lxcompress.catalog.criteria import CRITERIA
from lxcompress.data.objects import ANSWERS
from lxcompress.data.split import Split
from lxcompress.data.tasks import load_task
from lxcompress.errors import PruneError
from lxcompress.models.start import load_start
from lxcompress.pruning.choose import choose_mask
from lxcompress.pruning.criteria import CalibrationStatistics
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import ScenesData, Train
from lxcompress.training.calibration import CalibrationSpec, batches_without_padding, collect_statistics, draw_sample
from lxcompress.training.device import DeviceSpec
from lxcompress.training.losses import LOSSES
from tests.complain import complain
from tests.models.families import TOYS, family_params, save_start

CPU = DeviceSpec(torch.device("cpu"), "fp32")
QUESTIONS, SEED = 11, 3


@pytest.fixture(scope="module", params=family_params())
def family(request, tmp_path_factory):
    """Return a toy's model, its start weights, and scenes in the form that it reads."""
    toy = TOYS[request.param]
    folder = save_start(toy, tmp_path_factory.mktemp(request.param))
    task = load_task(ScenesData(kind="scenes", train=40, valid=10, **toy.data))
    model, start = load_start(str(folder), ANSWERS, 0)
    return model, start, task


def collect(family, kind, *, settings=None, seed=SEED, questions=QUESTIONS, batch_size=4, task=None):
    model, start, own = family
    spec = CalibrationSpec(task or own, settings or Train(), CPU, seed, questions=questions, batch_size=batch_size)
    return collect_statistics(model, start, kind, spec)


def gradients_by_hand(family, loss, rows):
    """Return dL/dw of each prunable weight, for the mean loss of `rows` padded to the split's full width."""
    model, _, task = family
    model.module.zero_grad()
    scores = model.family.answer(model.module.eval(), task.train.padded_inputs(rows))
    LOSSES[loss](scores, task.train.targets(rows, len(ANSWERS))).backward()
    prunable = model.prunable
    found = {name: each.grad.clone() for name, each in model.module.named_parameters() if name in prunable}
    model.module.zero_grad()
    return found


def indices_of(sample: Split, split: Split) -> list[int]:
    """Return the rows of `split` that are in `sample`."""
    return [split.ids.index(question_id) for question_id in sample.ids]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "power"), [("gradient", 1), ("squared_gradient", 2)])
def test_gradients_are_those_of_autograd(family, kind, power, loss) -> None:
    model, start, task = family
    found = collect(family, kind, settings=Train(loss=loss), batch_size=1)
    model.load(start)
    chosen = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(SEED))[:QUESTIONS]
    by_hand = [gradients_by_hand(family, loss, row[None]) for row in chosen]
    assert found.keys() == model.prunable.keys()
    for name, each in found.items():
        expected = torch.stack([one[name].abs() ** power for one in by_hand]).mean(0)
        assert each.dtype == torch.float32
        assert each.shape == start[name].shape
        assert torch.allclose(each, expected, rtol=1e-3, atol=1e-5 * float(expected.max())), name


def test_one_batch_of_all_has_the_gradient_of_their_mean_loss(family) -> None:
    found = collect(family, "gradient", questions=len(family[2].train), batch_size=len(family[2].train))
    expected = gradients_by_hand(family, "binary", torch.arange(len(family[2].train)))
    for name, each in found.items():
        assert torch.allclose(each, expected[name].abs(), rtol=1e-3, atol=1e-5 * float(expected[name].abs().max())), (
            name
        )


class Listening(TorchFunctionMode):
    """Sums the squares of the inputs of every linear product, by the address of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.squares: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is nn.functional.linear:
            seen, weight = args[0], args[1]
            square = seen.double().square().reshape(-1, weight.shape[1]).sum(0)
            self.squares[weight.data_ptr()] = self.squares.get(weight.data_ptr(), 0) + square
        return func(*args, **(kwargs or {}))


def heard_by_hand(model, start, task) -> dict[int, torch.Tensor]:
    """Return the sums of squares of each linear product's inputs, computed one question at a time."""
    model.load(start)
    model.module.eval()
    chosen = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(SEED))[:QUESTIONS]
    with Listening() as heard, torch.no_grad():
        for row in chosen:
            model.family.answer(model.module, task.train.inputs(row[None]))
    return heard.squares


def agree(found, model, start, squares) -> None:
    prunable = model.prunable
    assert found.keys() == prunable.keys()
    for name, each in found.items():
        expected = squares[prunable[name].data_ptr()].sqrt().float()
        assert each.shape == (start[name].shape[1],)
        assert torch.allclose(each, expected, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_input_norms_are_those_of_every_linear_product_without_padding(family, batch_size) -> None:
    model, start, task = family
    found = collect(family, "input_norm", batch_size=batch_size)
    agree(found, model, start, heard_by_hand(model, start, task))


def test_input_norms_of_a_head_over_two_images_are_as_wide_as_both(tiny_start) -> None:
    scenes = load_task(ScenesData(kind="scenes", train=40, valid=10))
    pairs = replace(scenes.train, scene=torch.stack([scenes.train.scene] * 2, dim=1))
    task = replace(scenes, train=pairs)
    model, start = load_start(str(tiny_start), ANSWERS, 0, images=2)
    agree(collect((model, start, task), "input_norm"), model, start, heard_by_hand(model, start, task))


@pytest.mark.parametrize("family", ["lxmert"], indirect=True)
def test_the_first_layer_of_the_regions_has_the_norms_of_the_data(family) -> None:
    task = family[2]
    found = collect(family, "input_norm")["lxmert.encoder.visn_fc.visn_fc.weight"]
    sample = draw_sample(task.train, QUESTIONS, SEED)
    regions = sample.regions
    seen = torch.cat([regions.features[scene, : regions.objects[scene]] for scene in sample.scene.tolist()])
    assert torch.allclose(found, seen.norm(dim=0), rtol=1e-4)


@pytest.mark.parametrize("kind", ["gradient", "squared_gradient", "input_norm"])
def test_statistics_depend_on_the_seed_and_leave_the_model_unchanged(family, kind) -> None:
    model, start, _ = family
    model.module.train()
    state = torch.get_rng_state()
    first, again, other = (collect(family, kind, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.module.training
    assert all(torch.equal(model.weights[name], each) for name, each in start.items())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert not any(module._forward_pre_hooks for module in model.module.modules())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(bool(torch.isfinite(each).all()) for each in first.values())


def test_every_criterion_can_draw_a_mask_from_it(family) -> None:
    model, _, _ = family
    kinds = ("gradient", "squared_gradient", "input_norm")
    statistics = CalibrationStatistics(**{kind: collect(family, kind) for kind in kinds})
    drawn = {
        criterion: choose_mask(model.prunable, Selection(0.5), criterion=criterion, seed=0, statistics=statistics)
        for criterion in CRITERIA
        if CRITERIA[criterion].needs != "movement"
    }
    names = list(drawn)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            kept, others = drawn[one].kept, drawn[other].kept
            assert any(not torch.equal(kept[name], others[name]) for name in kept), (one, other)


def test_batches_without_padding_hold_every_row_once_and_nothing_empty(family) -> None:
    split = family[2].train
    batches = list(batches_without_padding(split, 4))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(split)))
    for batch in batches:
        inputs = split.inputs(batch)
        assert len(batch) <= 4
        assert bool(inputs.attention_mask.all())
        assert bool(inputs.visual_attention_mask.all())


def test_a_sample_has_different_questions_and_never_more_than_there_are(family) -> None:
    split = replace(family[2].train, ids=tuple(range(len(family[2].train))))
    indices = indices_of(draw_sample(split, 15, 0), split)
    assert len(set(indices)) == 15
    assert indices == sorted(indices)
    assert indices_of(draw_sample(split, 10_000, 0), split) == list(range(len(split)))


def test_progress_is_told(family) -> None:
    model, start, task = family
    heard: list[tuple[int, int]] = []
    spec = CalibrationSpec(task, Train(), CPU, 0, questions=10, batch_size=4)
    collect_statistics(model, start, "gradient", spec, lambda what, done, total: heard.append((done, total)))
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_a_kind_that_cannot_be_collected_is_an_error(family) -> None:
    complain(lambda: collect(family, "movement"), "movement", "gradient, squared_gradient, input_norm", kind=PruneError)
