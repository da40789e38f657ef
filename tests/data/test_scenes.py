"""Laws of the embedded data: seeded, balanced, its answers true of its scenes, its splits apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lxcompress.data.objects import ANSWERS, ATTRIBUTES, FEATURES, answer_type
from lxcompress.data.scenes import FAMILIES, MOST_OBJECTS, RELATIONS, draw_questions, draw_scenes
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.recipe import ScenesData
from lxcompress.training.floors import find_floors


@pytest.fixture(scope="module")
def task():
    return load_task(ScenesData(kind="scenes", train=3000, valid=600, test=600))


def test_the_same_seed_gives_the_same_task_and_another_seed_another() -> None:
    first, again, other = (load_task(ScenesData(kind="scenes", train=60, valid=20, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first.train.input_ids, again.train.input_ids)
    assert torch.equal(first.train.regions.features, again.train.regions.features)
    assert first.train.regions.features.shape != other.train.regions.features.shape or not torch.equal(
        first.train.regions.features, other.train.regions.features
    )


def test_the_splits_share_no_scene(task) -> None:
    scenes = [{row.numpy().tobytes() for row in split.regions.boxes} for split in task.splits]
    assert [len(found) for found in scenes] == [len(split.regions.boxes) for split in task.splits]
    assert len(scenes[0] | scenes[1] | scenes[2]) == sum(map(len, scenes))


def test_a_test_split_changes_no_other_split() -> None:
    with_test, without = (load_task(ScenesData(kind="scenes", train=60, valid=20, test=test)) for test in (40, None))
    assert without.test is None
    assert with_test.test is not None
    assert len(with_test.test) == 40
    for split, same in ((with_test.train, without.train), (with_test.valid, without.valid)):
        assert torch.equal(split.input_ids, same.input_ids)
        assert torch.equal(split.regions.features, same.regions.features)
        assert torch.equal(split.answers, same.answers)


def test_every_word_is_in_the_vocabulary(task) -> None:
    unknown = task.vocabulary.index("[UNK]")
    assert not bool((task.train.input_ids == unknown).any())


def test_boxes_and_features_have_the_shape_lxmert_reads(task) -> None:
    boxes = task.valid.regions.boxes[torch.arange(MOST_OBJECTS) < task.valid.regions.objects[:, None]]
    assert bool((boxes >= 0).all())
    assert bool((boxes <= 1).all())
    assert bool((boxes[:, 0] < boxes[:, 2]).all())
    assert bool((boxes[:, 1] < boxes[:, 3]).all())
    assert task.feature_size == FEATURES


def test_floors_are_far_below_what_can_be_known(task) -> None:
    floors = find_floors(task)
    assert floors.majority.accuracy < 0.3
    assert floors.question_only.accuracy < 0.5
    assert set(floors.majority.by_type) == {"yes/no", "number", "other"}


def test_yes_and_no_are_even_within_each_family() -> None:
    rng = np.random.default_rng(0)
    scenes = draw_scenes(600, rng)
    words, labels, _ = draw_questions(3000, scenes, rng)
    for opening in ("is there", "are there more", "are there fewer", "is the"):
        answers = [ANSWERS[label] for text, label in zip(words, labels, strict=True) if text.startswith(opening)]
        share = answers.count("yes") / len(answers)
        assert 0.4 < share < 0.6, f"{opening}: {share:.2f} of {len(answers)} are yes"


def describe(scenes, row: int) -> list[dict]:
    """A scene as words and numbers, for the slow obvious reader below."""
    return [
        {name: names[scenes.values[name][row, column]] for name, names in ATTRIBUTES.items()}
        | {"right": scenes.right[row, column], "front": scenes.front[row, column]}
        for column in range(MOST_OBJECTS)
        if scenes.present[row, column]
    ]


def fits(thing: dict, phrase: str) -> bool:
    """Whether a thing is what a noun phrase says."""
    known = {value for values in ATTRIBUTES.values() for value in values}
    said = {word if word in known else word.removesuffix("s") for word in phrase.split()} - {"thing", "the", "a"}
    return said <= {thing[name] for name in ATTRIBUTES}


def read_answer(question: str, things: list[dict]) -> str:
    """The answer to a question, read from its words alone: slow, obvious, and written apart from the generator."""
    text = question.removesuffix("?")

    def matching(phrase: str) -> list[dict]:
        for relation, (axis, sign) in RELATIONS.items():
            if f" {relation} " in phrase:
                described, _, anchor = phrase.partition(f" {relation} ")
                (origin,) = matching(anchor)
                others = [each for each in matching(described) if each is not origin]
                return [other for other in others if sign * (other[axis] - origin[axis]) > 0]
        return [thing for thing in things if fits(thing, phrase)]

    if text.startswith("is there "):
        return "yes" if matching(text.removeprefix("is there ")) else "no"
    if text.startswith("how many ") and text.endswith(" are there"):
        return str(len(matching(text.removeprefix("how many ").removesuffix(" are there"))))
    if text.startswith("how many "):
        return str(len(matching(text.removeprefix("how many ").replace(" are ", " ", 1))))
    if text.startswith("are there "):
        comparison, _, rest = text.removeprefix("are there ").partition(" ")
        one, two = (len(matching(phrase)) for phrase in rest.split(" than "))
        return "yes" if (one > two if comparison == "more" else one < two) else "no"
    if text.startswith("what is "):
        (thing,) = matching(text.removeprefix("what is ").removesuffix(" made of"))
        return thing["material"]
    if text.startswith("what "):
        attribute, _, phrase = text.removeprefix("what ").partition(" is ")
        (thing,) = matching(phrase)
        return thing[attribute]
    phrase = text.removeprefix("is ")
    if " made of the same material as " in phrase:
        pairs = [("material", phrase.split(" made of the same material as "))]
    else:
        pairs = [
            (attribute, phrase.split(f" the same {attribute} as "))
            for attribute in ATTRIBUTES
            if f" the same {attribute} as " in phrase
        ]
    if pairs:
        attribute, (first, second) = pairs[0]
        (one,), (two,) = matching(first), matching(second)
        return "yes" if one[attribute] == two[attribute] else "no"
    relation = next(relation for relation in RELATIONS if f" {relation} " in phrase)
    described, _, anchor = phrase.partition(f" {relation} ")
    (one,), (two,) = matching(described), matching(anchor)
    axis, sign = RELATIONS[relation]
    return "yes" if sign * (one[axis] - two[axis]) > 0 else "no"


def test_every_answer_is_true_of_its_scene() -> None:
    rng = np.random.default_rng(11)
    scenes = draw_scenes(400, rng)
    words, labels, places = draw_questions(1500, scenes, rng)
    for question, label, place in zip(words, labels, places, strict=True):
        assert read_answer(question, describe(scenes, place)) == ANSWERS[label], question


def test_there_are_several_kinds_of_question() -> None:
    assert len(set(FAMILIES)) >= 5
    assert {answer_type(answer) for answer in ANSWERS} == {"yes/no", "number", "other"}


def test_tokens_are_cut_as_bert_cuts_them() -> None:
    vocabulary = shipped_vocabulary()
    (ids,) = tokenize(["Is there a RED cube?"], vocabulary, 24)
    assert [vocabulary[number] for number in ids] == ["[CLS]", "is", "there", "a", "red", "cube", "?", "[SEP]"]
    (cut,) = tokenize(["how many red things are there?"], vocabulary, 5)
    assert len(cut) == 5
    assert vocabulary[cut[-1]] == "[SEP]"
    (spelled,) = tokenize(["zebra"], vocabulary, 24)
    assert [vocabulary[number] for number in spelled] == ["[CLS]", "z", "##e", "##b", "##r", "##a", "[SEP]"]
