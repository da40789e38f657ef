"""Laws of sensitivity: each rise equals the loss by hand, and the model is unchanged afterwards."""

from __future__ import annotations

import pytest
import torch

from lxcompress.data.objects import ANSWERS
from lxcompress.data.tasks import load_task
from lxcompress.errors import PruneError
from lxcompress.models.start import load_start
from lxcompress.pruning.choose import mask_from_scores
from lxcompress.pruning.criteria import score_weights
from lxcompress.pruning.selection import Selection
from lxcompress.recipe import ScenesData, Train
from lxcompress.training.calibration import CalibrationSpec, draw_sample
from lxcompress.training.device import DeviceSpec
from lxcompress.training.losses import LOSSES
from lxcompress.training.sensitivity import BATCH_SIZE, measure_sensitivity, sensitivity_masks
from tests.complain import complain

CPU = DeviceSpec(torch.device("cpu"), "fp32")
QUESTIONS, SEED = 20, 4


@pytest.fixture(scope="module")
def toy(tiny_start):
    model, start = load_start(str(tiny_start), ANSWERS, 0)
    task = load_task(ScenesData(kind="scenes", train=60, valid=10))
    scores = score_weights(model.prunable, criterion="low-magnitude", seed=0)
    return model, start, scores, task


def run(toy, *, sparsities=(0.5, 0.9), granularity="weight", keep_dense=(), progress=None, **fields):
    model, start, scores, task = toy
    given = {"settings": Train(), "device": CPU, "seed": SEED, "questions": QUESTIONS, "batch_size": BATCH_SIZE}
    selection = Selection(0.0, granularity, keep_dense=tuple(keep_dense))
    masks = sensitivity_masks(scores, selection, sparsities)
    return measure_sensitivity(model, start, masks, CalibrationSpec(task, **{**given, **fields}), progress)


def loss_by_hand(toy, weights, loss) -> float:
    """Return the mean loss of the sample as one padded batch."""
    model, _, _, task = toy
    model.load(weights)
    sample = draw_sample(task.train, QUESTIONS, SEED)
    rows = torch.arange(QUESTIONS)
    with torch.no_grad():
        scores = model.family.answer(model.module.eval(), sample.padded_inputs(rows))
        return float(LOSSES[loss](scores, sample.targets(rows, len(ANSWERS))))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_rise_is_the_loss_with_one_matrix_pruned_less_the_dense_loss(toy, loss) -> None:
    model, start, scores, _ = toy
    rises = run(toy, settings=Train(loss=loss), batch_size=7)
    assert list(rises) == list(model.prunable)
    dense = loss_by_hand(toy, start, loss)
    for name, rise_of in rises.items():
        assert list(rise_of) == [0.5, 0.9]
        for sparsity, rise in rise_of.items():
            alone = mask_from_scores({name: scores[name]}, Selection(sparsity))
            expected = loss_by_hand(toy, alone.apply(start), loss) - dense
            assert rise == pytest.approx(expected, abs=1e-5 * dense), (name, sparsity)
    assert any(rise != 0 for rise_of in rises.values() for rise in rise_of.values())


def test_the_model_holds_its_weights_afterwards_and_the_numbers_repeat(toy) -> None:
    model, start, _, _ = toy
    model.module.train()
    first, again = run(toy), run(toy)
    assert first == again
    assert first != run(toy, seed=SEED + 1)
    assert not model.module.training
    assert all(torch.equal(model.weights[name], each) for name, each in start.items())


def test_it_prunes_at_the_granularity_and_leaves_out_what_stays_dense(toy) -> None:
    narrow = [name for name, score in toy[2].items() if score.shape[1] % 4]
    assert narrow
    rises = run(toy, granularity="block-1x4")
    assert set(rises) == set(toy[2]) - set(narrow)
    assert rises == run(toy, granularity="block-1x4", keep_dense=narrow)
    assert rises != {name: each for name, each in run(toy).items() if name in rises}


def test_what_it_measures_shares_a_sparsity_out(toy) -> None:
    _, _, scores, _ = toy
    rises = run(toy, sparsities=(0.3, 0.6, 0.9))
    mask = mask_from_scores(scores, Selection(0.6, scope="sensitivity"), sensitivities=rises)
    assert mask.count(10**6, 10**6).achieved == pytest.approx(0.6, abs=1e-4)
    shares = {round(float(kept.float().mean()), 2) for kept in mask.kept.values()}
    assert len(shares) > 3


def test_a_sparsity_that_empties_a_matrix_is_told_before_it_is_measured(toy) -> None:
    heard: list[tuple[int, int]] = []
    complain(
        lambda: run(toy, sparsities=(0.5, 0.9999), progress=lambda *done: heard.append(done)),
        "0.9999 would remove all",
        kind=PruneError,
    )
    assert not heard


def test_progress_is_told_by_matrix(toy) -> None:
    heard: list[tuple[int, int]] = []
    run(toy, progress=lambda what, done, total: heard.append((done, total)))
    assert heard == [(done + 1, len(toy[2])) for done in range(len(toy[2]))]
