"""Laws of the floors: they are learnt on training questions, and do not depend on the image."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from lxcompress.data.images import blank_regions
from lxcompress.data.objects import ANSWERS, answer_type
from lxcompress.data.split import AnswerTask, Split, single_answers
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.recipe import ScenesData
from lxcompress.records import Floors
from lxcompress.training.floors import find_floors


@pytest.fixture(scope="module")
def task() -> AnswerTask:
    return load_task(ScenesData(kind="scenes", train=400, valid=150))


@pytest.fixture(scope="module")
def floors(task) -> Floors:
    return find_floors(task)


def split_of(asked: list[tuple[str, str]]) -> Split:
    """Return questions and answers about one empty scene."""
    labels = [ANSWERS.index(answer) for _, answer in asked]
    answers, credits = single_answers(labels)
    return Split(
        input_ids=torch.from_numpy(tokenize([words for words, _ in asked], shipped_vocabulary(), 24)),
        scene=torch.zeros(len(asked), dtype=torch.int64),
        regions=blank_regions(18),
        answers=answers,
        credits=credits,
        types=tuple(answer_type(answer) for _, answer in asked),
    )


def task_of(train: list[tuple[str, str]], valid: list[tuple[str, str]]) -> AnswerTask:
    return AnswerTask(split_of(train), split_of(valid), ANSWERS, shipped_vocabulary())


def share(split: Split, said: list[int]) -> float:
    right = [label == answer for label, answer in zip(said, split.answers[:, 0].tolist(), strict=True)]
    return sum(right) / len(right)


def test_the_majority_floor_is_the_commonest_training_answer(task, floors) -> None:
    ((commonest, _),) = Counter(task.train.answers[:, 0].tolist()).most_common(1)
    assert floors.majority.accuracy == pytest.approx(share(task.valid, [commonest] * 150))
    assert floors.majority.questions == 150


def test_the_majority_of_each_type_is_the_commonest_of_that_type(task, floors) -> None:
    counts: dict[str, Counter[int]] = {}
    for kind, label in zip(task.train.types, task.train.answers[:, 0].tolist(), strict=True):
        counts.setdefault(kind, Counter())[label] += 1
    commonest = {kind: count.most_common(1)[0][0] for kind, count in counts.items()}
    assert floors.majority_per_type.accuracy == pytest.approx(
        share(task.valid, [commonest[kind] for kind in task.valid.types])
    )
    assert set(floors.majority_per_type.by_type) == {"yes/no", "number", "other"}


def test_soft_credits_make_the_majority() -> None:
    train = split_of([("is there a cube?", "yes")] * 3 + [("is there a cube?", "no")] * 2)
    train = replace(train, credits=torch.tensor([[0.3], [0.3], [0.3], [1.0], [1.0]]))
    task = AnswerTask(train, split_of([("is there a cube?", "no")] * 4), ANSWERS, shipped_vocabulary())
    assert find_floors(task).majority.accuracy == 1


def test_a_type_that_training_lacks_falls_back_on_the_majority() -> None:
    task = task_of([("is there a cube?", "yes")] * 4, [("how many cubes are there?", "2"), ("is there a cube?", "yes")])
    assert find_floors(task).majority_per_type.accuracy == 0.5


def test_a_task_that_its_wording_decides_is_learnt_from_its_wording() -> None:
    """The answer is the last colour in the question, so single words do not show it, but pairs of words do."""
    colors = ("red", "blue", "green", "gray")
    asked = [
        (f"is the {first} cube behind the {second} {shape}?", second)
        for first in colors
        for second in colors
        for shape in ("sphere", "cylinder")
    ]
    floors = find_floors(task_of(asked * 4, asked))
    assert floors.question_only.accuracy == 1
    assert floors.majority.accuracy == 0.25


def test_one_word_that_decides_is_learnt_for_questions_never_seen() -> None:
    nouns = ("cube", "sphere", "cylinder", "thing")
    asked = [
        (f"is there a {size} {color} {noun}?", "yes" if size == "small" else "no")
        for size in ("small", "large")
        for color in ("red", "blue", "green", "gray", "cyan", "brown")
        for noun in nouns
    ]
    held_out = [question for index, question in enumerate(asked) if index % 5 == 0]
    train = [question for question in asked if question not in held_out]
    floors = find_floors(task_of(train * 4, held_out))
    assert floors.question_only.accuracy == 1


def test_wording_that_says_nothing_is_not_learnt() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 2, (400,), generator=generator).tolist()
    asked = [("is there a cube?", "yes" if each else "no") for each in drawn]
    floors = find_floors(task_of(asked[:200], asked[200:]))
    assert floors.question_only.accuracy == pytest.approx(0.5, abs=0.1)


def test_no_floor_sees_the_image(task, floors) -> None:
    blind = {
        name: replace(split, regions=blank_regions(18), scene=0 * split.scene)
        for name, split in (("train", task.train), ("valid", task.valid))
    }
    assert find_floors(replace(task, **blind)) == floors


def test_floors_are_the_same_each_time_and_leave_the_global_randomness_alone(task, floors) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert find_floors(task) == floors
    assert torch.equal(torch.get_rng_state(), before)
