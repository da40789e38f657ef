"""Laws of the score: it is the credit of each answer, whatever the batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lxcompress.data.objects import ANSWERS
from lxcompress.data.split import AnswerTask, Inputs, Split
from lxcompress.data.tasks import load_task
from lxcompress.models.checkpoints import Model
from lxcompress.models.start import load_start
from lxcompress.recipe import ScenesData, Train
from lxcompress.training.device import DeviceSpec
from lxcompress.training.evaluate import (
    batches_by_length,
    best_answers,
    best_labels,
    make_evaluation_batch,
    score_answers,
    score_split,
)
from lxcompress.training.feed import prefetch
from lxcompress.training.fit import score
from lxcompress.training.losses import binary_loss

CPU = DeviceSpec(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def task() -> AnswerTask:
    """Return scenes with soft credits as in VQA: several answers for each question, padded with label 0 at credit 0."""
    task = load_task(ScenesData(kind="scenes", train=8, valid=90))
    generator = torch.Generator().manual_seed(0)
    others = torch.randint(1, len(ANSWERS), (90, 2), generator=generator)
    credits = torch.tensor([1.0, 0.6, 0.3]).repeat(90, 1)
    answers = torch.cat([task.valid.answers, others], dim=1)
    padded = torch.arange(90) % 3 == 0
    answers[padded, 1:], credits[padded, 1:] = 0, 0
    repeated = (answers[:, 1] == answers[:, 0]) | (answers[:, 2] == answers[:, 0]) | (answers[:, 1] == answers[:, 2])
    credits[repeated, 1:] = 0
    return replace(task, valid=replace(task.valid, answers=answers, credits=credits))


@pytest.fixture(scope="module")
def model(tiny_start) -> Model:
    return load_start(str(tiny_start), ANSWERS, 0)[0]


def hashed(inputs: Inputs) -> Tensor:
    """Return answer scores that depend on all inputs of a question and on nothing else."""
    seen = inputs.visual_attention_mask[..., None]
    words = (inputs.input_ids * inputs.attention_mask).sum(1)
    objects = (inputs.visual_feats * seen).sum((1, 2)) + 7 * (inputs.visual_pos * seen).sum((1, 2))
    index = (words * 31 + (objects.double() * 1000).round().long()) % len(ANSWERS)
    return torch.nn.functional.one_hot(index, len(ANSWERS)).float()


def slow_score(answer, split: Split) -> tuple[float, dict[str, float]]:
    """Return the score by a slow way: one question at a time."""
    credits: dict[str, list[float]] = {}
    for row in range(len(split)):
        with torch.no_grad():
            said = int(answer(split.inputs(torch.tensor([row])))[0].argmax())
        votes: dict[int, float] = {}
        for label, credit in zip(split.answers[row].tolist(), split.credits[row].tolist(), strict=True):
            votes[label] = max(votes.get(label, 0.0), credit)
        credits.setdefault(split.types[row], []).append(votes.get(said, 0.0))
    every = [credit for kind in credits.values() for credit in kind]
    return sum(every) / len(every), {kind: sum(each) / len(each) for kind, each in credits.items()}


@pytest.mark.parametrize("batch_size", [1, 7, 89, 90, 1000])
def test_the_score_is_that_of_one_question_at_a_time(batch_size, task, model) -> None:
    for answer in (hashed, lambda inputs: model.family.answer(model.module, inputs)):
        accuracy, by_type = slow_score(answer, task.valid)
        found = score_split(answer, task.valid, batch_size, CPU)
        assert found.accuracy == pytest.approx(accuracy)
        assert found.by_type == pytest.approx(by_type)
        assert found.questions == 90
    assert 0 < accuracy < 1


def test_soft_credits_count_as_they_are(task) -> None:
    for index in range(3):
        found = score_answers(task.valid.answers[:, index], task.valid)
        hit = task.valid.credits * (task.valid.answers == task.valid.answers[:, index, None])
        assert found.accuracy == pytest.approx(float(hit.sum(1).mean()))
    assert score_answers(task.valid.answers[:, 0], task.valid).accuracy == pytest.approx(1.0)


def test_what_nobody_said_earns_nothing_nor_does_padding(task) -> None:
    assert score_answers(torch.full((90,), -1), task.valid).accuracy == 0
    padding = torch.where(task.valid.answers[:, 0] == 0, -1, 0)
    rows = torch.arange(90)[(task.valid.credits[:, 1] == 0) & (padding == 0)]
    assert len(rows) > 10
    assert score_answers(padding[rows], task.valid.take(rows)).accuracy == 0


def test_types_weigh_by_their_questions(task) -> None:
    found = score_split(hashed, task.valid, 16, CPU)
    shares = {kind: task.valid.types.count(kind) / 90 for kind in set(task.valid.types)}
    assert found.by_type.keys() == shares.keys()
    assert sum(shares[kind] * accuracy for kind, accuracy in found.by_type.items()) == pytest.approx(found.accuracy)


@pytest.mark.parametrize("batch_size", [1, 8, 90, 91])
def test_batches_hold_every_row_once_shortest_first(batch_size, task) -> None:
    batches = list(batches_by_length(task.valid, batch_size))
    rows = torch.cat(batches)
    assert sorted(rows.tolist()) == list(range(90))
    lengths = (task.valid.input_ids != 0).sum(1)[rows].tolist()
    assert lengths == sorted(lengths)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_answers_come_back_in_the_order_of_the_questions(task) -> None:
    turned = torch.arange(89, -1, -1)
    straight = best_answers(hashed, task.valid, 16, CPU)
    assert torch.equal(best_answers(hashed, task.valid.take(turned), 16, CPU), straight[turned])


def test_scoring_leaves_no_gradient_and_no_trace_of_randomness(task, model) -> None:
    before = torch.get_rng_state()
    score(model.module, task, answer=model.family.answer, settings=Train(), device=CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in model.module.parameters())


def test_targets_are_the_credits_at_their_labels(task) -> None:
    rows = torch.arange(90)
    targets = task.valid.targets(rows, len(ANSWERS))
    assert targets.shape == (90, len(ANSWERS))
    for row in rows.tolist():
        for label, credit in zip(task.valid.answers[row].tolist(), task.valid.credits[row].tolist(), strict=True):
            if credit:
                assert float(targets[row, label]) == pytest.approx(credit)
    assert float(targets.sum()) == pytest.approx(float(task.valid.credits.sum()), rel=1e-5)


def test_the_loss_is_the_sum_over_answers_and_the_mean_over_questions() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(5, 7, generator=generator), torch.rand(5, 7, generator=generator)
    chance = torch.sigmoid(scores)
    each = -(targets * chance.log() + (1 - targets) * (1 - chance).log())
    assert float(binary_loss(scores, targets)) == pytest.approx(float(each.sum(1).mean()), rel=1e-5)


def test_prefetched_batches_have_the_same_score(task) -> None:
    """The threads that score on a GPU, on the CPU: each batch keeps its own rows, inputs and choices."""
    generator = torch.Generator().manual_seed(0)
    split = replace(task.valid, choices=torch.randint(0, len(ANSWERS), (90, 4), generator=generator))
    chosen = torch.empty(len(split), dtype=torch.int64)
    for asked in prefetch(batches_by_length(split, 7), lambda rows: make_evaluation_batch(split, rows)):
        chosen[asked.rows] = best_labels(hashed(asked.inputs), asked.choices)
    assert torch.equal(chosen, best_answers(hashed, split, 7, CPU))
    assert not torch.equal(chosen, best_answers(hashed, task.valid, 7, CPU))
