"""Read NLVR v1 (Suhr et al. 2017): sentences about structured scenes, as JSON lines or a JSON list.

A scene is three boxes of 100 x 100 units next to each other. Their objects are the regions of one picture of 300 x 100.
How features are made of an object is our own rule. The features have the layout of data/objects.py, so that a model
pre-trained on scenes can read them:

- colour: yellow, blue and (for black) gray; shape: sphere for a circle, cube for a square, cylinder for a triangle;
- size: small for 10, large for 30, 0.5 for both for 20; all zeros for the material;
- the last three: the horizontal and vertical position of the centre, -1..1, and the number of the box, -1, 0 or 1.

The identifier of an example is GROUP-NUMBER. The number alone predicts 93 % of the labels, and all scenes of a group
have the same sentence. So no part of the identifier is given to a model, and all examples of a group are in one split.

Shapes: Q questions, O objects (padded), F = 18 features.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lxcompress.data.check_context import CheckContext
from lxcompress.data.facts import Fact
from lxcompress.data.files import read_records
from lxcompress.data.images import ListedImages
from lxcompress.data.objects import COLORS, FEATURES, MATERIALS, SHAPES, SIZES
from lxcompress.data.problems import Problems, several
from lxcompress.data.question_set import read_split
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions
from lxcompress.errors import DataError
from lxcompress.recipe import NlvrData
from lxcompress.text import shorten

LABELS = ("false", "true")
ONE_TYPE = "all"
HOLDOUT = 0.2
"""The fraction of the training groups that is held out for validation, by default."""
TOKEN_LIMIT = 80
"""The most tokens of a sentence. The longest published one has 26 with BERT's vocabulary, 68 with the shipped one."""
BOXES, BOX_SIDE = 3, 100
MOST_OBJECTS = 256
"""The most objects of a box; NLVR's boxes have at most 8. All scenes are padded to the size of the largest, so a huge
scene would fill the memory."""

_SHAPE_SLOT, _SIZE_SLOT = len(COLORS), len(COLORS) + len(SHAPES)
_PLACE_SLOT = _SIZE_SLOT + len(SIZES) + len(MATERIALS)
_COLOR = {"yellow": COLORS.index("yellow"), "#0099ff": COLORS.index("blue"), "black": COLORS.index("gray")}
_SHAPE = {
    "circle": _SHAPE_SLOT + SHAPES.index("sphere"),
    "square": _SHAPE_SLOT + SHAPES.index("cube"),
    "triangle": _SHAPE_SLOT + SHAPES.index("cylinder"),
}
_SIZE = {10: (1.0, 0.0), 20: (0.5, 0.5), 30: (0.0, 1.0)}
_REMEDY = "give NLVR v1's JSON as its authors publish it"


@dataclass(frozen=True)
class Example:
    """One example: a sentence, and the regions of the scene that it is about."""

    question: Question
    features: np.ndarray
    """float32 [O, F]"""
    boxes: np.ndarray
    """float32 [O, 4], x1 y1 x2 y2 over the width and height of the whole picture, 0-1"""


Scenes = Mapping[int | str, tuple[np.ndarray, np.ndarray]]
"""identifier of an example -> features [O, F] and boxes [O, 4] of its scene"""


def read_nlvr(settings: NlvrData, problems: Problems | None = None) -> QuestionSet:
    """Read the sentences of the splits; without `valid`, hold out the fraction `holdout` of the training groups.

    Weakly labelled sentences (`weak`) are added to the training split, but not those of a group in the validation
    or the test split. Raises DataError under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    train, scenes = _read_split(settings, "train", problems)
    weak, weak_scenes = _read_split(settings, "weak", problems)
    if settings.valid:
        valid, valid_scenes = _read_split(settings, "valid", problems)
        _check_groups(train, valid, "leave data.valid out", problems)
    else:
        groups, share = {group_of(question) for question in train.questions}, settings.holdout or HOLDOUT
        held = problems.attempt(lambda: held_out(groups, share, train.where)) if train.questions else None
        validating = [question for question in train.questions if held and group_of(question) in held]
        training = [question for question in train.questions if not (held and group_of(question) in held)]
        valid, valid_scenes = replace(train, name="valid", questions=validating), scenes
        train = replace(train, questions=training)
    test, test_scenes = _read_split(settings, "test", problems)
    for split in (train, valid):
        _check_groups(split, test, "leave data.test out", problems)
    scored = {group_of(question) for question in (*valid.questions, *test.questions)}
    kept = [question for question in weak.questions if group_of(question) not in scored]
    questions = [*train.questions, *kept]
    _check_once(questions, settings, problems)
    facts: tuple[Fact, ...] = ()
    if settings.weak:
        dropped = len(weak.questions) - len(kept)
        facts = (Fact("weak questions", {"train": len(kept)}), Fact("weak questions dropped", {"train": dropped}))
    return QuestionSet(
        train=replace(train, questions=questions, images=_list_images(questions, {**weak_scenes, **scenes})),
        valid=replace(valid, images=_list_images(valid.questions, valid_scenes)),
        labels=LABELS,
        token_limit=TOKEN_LIMIT,
        facts=facts,
        test=replace(test, images=_list_images(test.questions, test_scenes)) if settings.test else None,
    )


def check_nlvr(context: CheckContext) -> None:
    """Add facts: the number of groups of each split, and statistics of its scenes."""
    sheet, used = context.sheet, context.used
    sheet.add("groups", {name: len({group_of(question) for question in asked}) for name, asked in used.items()})
    objects = {}
    for name, asked in used.items():
        images = context.question_set.splits[name].images
        assert isinstance(images, ListedImages)
        objects[name] = [len(images.images[question.images[0]][0]) for question in asked]
    sheet.add("objects of a scene, mean", {name: float(np.mean(counts)) for name, counts in objects.items()})
    sheet.add("scenes without an object", {name: counts.count(0) for name, counts in objects.items()})


def group_of(question: Question) -> str:
    """Return the group of an example: its identifier up to the hyphen. The examples of a group share their sentence."""
    return str(question.id).partition("-")[0]


def held_out(groups: Iterable[str], share: float, where: str) -> frozenset[str]:
    """Return the groups that are held out for validation: the fraction `share` of `groups`.

    They are the first in the order of the SHA-256 of their names, so they are always the same.

    Raises DataError, which names `where`, if there are fewer than two groups.
    """
    ordered = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(ordered) < 2:
        raise DataError(f"{where}: has one group, too few to hold some out; give validation files as data.valid")
    return frozenset(ordered[: min(len(ordered) - 1, max(1, round(share * len(ordered))))])


def _read_split(settings: NlvrData, name: str, problems: Problems) -> tuple[SplitQuestions, Scenes]:
    """Return the sentences in the files of the setting `data.{name}`, and the scene of each example."""
    key = "weak_label" if name == "weak" else "label"
    scenes: dict[int | str, tuple[np.ndarray, np.ndarray]] = {}

    def read(path: Path) -> list[Question]:
        records = read_records(path, remedy=f"{_REMEDY}, as in --set data.{name}=PATH")
        examples = problems.read_records(records, lambda record, index: _example(record, index, path, key))
        for example in examples:
            scenes.setdefault(example.question.id, (example.features, example.boxes))
        return [example.question for example in examples]

    return read_split(name, getattr(settings, name) or (), read, problems), scenes


def _list_images(questions: Sequence[Question], scenes: Scenes) -> ListedImages:
    """Return the scenes of `questions`, in the order of the questions, as ListedImages."""
    return ListedImages({question.images[0]: scenes[question.id] for question in questions})


def _example(record: Mapping[str, Any], index: int, path: Path, key: str) -> Example:
    """Return the Example of a record, whose label is in the field `key`. Raises DataError."""
    identifier, words, boxes = (record.get(name) for name in ("identifier", "sentence", "structured_rep"))
    group, _, number = str(identifier).partition("-")
    if not (
        isinstance(identifier, str)
        and group
        and number
        and isinstance(words, str)
        and isinstance(boxes, list)
        and len(boxes) == BOXES
    ):
        raise DataError(
            f"{path}: record {index} is {shorten(record)}, expected a sentence, an identifier (group-number) and a "
            f"structured_rep of {BOXES} boxes; {_REMEDY}"
        )
    label = record.get(key)
    if label not in LABELS:
        hint = "; give the file as data.weak" if key == "label" and "weak_label" in record else f"; {_REMEDY}"
        raise DataError(f"{path}: the {key} of {identifier} is {shorten(label)}, expected {' or '.join(LABELS)}{hint}")
    if not all(isinstance(things, list) and len(things) <= MOST_OBJECTS for things in boxes):
        raise DataError(f"{path}: {identifier} has a box that is no list of at most {MOST_OBJECTS} objects; {_REMEDY}")
    try:
        seen = [see_object(thing, box) for box, things in enumerate(boxes) for thing in things]
    except (KeyError, TypeError, ValueError) as problem:
        reason = f"no {problem}" if isinstance(problem, KeyError) else problem
        raise DataError(f"{path}: {identifier} has an object that is not NLVR's ({reason}); {_REMEDY}") from None
    return Example(
        question=Question(id=identifier, images=(identifier,), words=words, credits={label: 1.0}, type=ONE_TYPE),
        features=np.asarray([features for features, _ in seen], dtype=np.float32).reshape(-1, FEATURES),
        boxes=np.asarray([corners for _, corners in seen], dtype=np.float32).reshape(-1, 4),
    )


def see_object(thing: Mapping[str, Any], box: int) -> tuple[list[float], list[float]]:
    """Return the features [F] and the corners [4] (x1 y1 x2 y2 of the picture, 0-1) of an object in box 0, 1 or 2.

    Raises KeyError, TypeError or ValueError for anything that is not an object of NLVR.
    """
    color, shape, size, x, y = (thing[name] for name in ("color", "type", "size", "x_loc", "y_loc"))
    if str(color).lower() not in _COLOR:
        raise ValueError(f"color {color!r} is not one of Yellow, #0099ff, Black")
    if shape not in _SHAPE:
        raise ValueError(f"type {shape!r} is not one of {', '.join(_SHAPE)}")
    if size not in _SIZE:
        raise ValueError(f"size {size!r} is not one of {', '.join(map(str, _SIZE))}")
    for name, value in (("x_loc", x), ("y_loc", y)):
        if type(value) not in (int, float) or not 0 <= value + size / 2 <= BOX_SIDE:
            raise ValueError(f"{name} {value!r} is not within its box")
    width, left = BOXES * BOX_SIDE, box * BOX_SIDE + x
    corners = [left / width, y / BOX_SIDE, (left + size) / width, (y + size) / BOX_SIDE]
    features = [0.0] * FEATURES
    features[_COLOR[str(color).lower()]] = features[_SHAPE[shape]] = 1.0
    features[_SIZE_SLOT : _SIZE_SLOT + len(SIZES)] = _SIZE[size]
    features[_PLACE_SLOT:] = 2 * (left + size / 2) / width - 1, 2 * (y + size / 2) / BOX_SIDE - 1, box - 1
    return features, [min(1.0, max(0.0, corner)) for corner in corners]


def _check_groups(train: SplitQuestions, valid: SplitQuestions, remedy: str, problems: Problems) -> None:
    """Report an error if a group of examples is in both splits; `remedy` says what to do without other files."""
    trained = {group_of(question) for question in train.questions}
    shared = sorted({group_of(question) for question in valid.questions} & trained)
    if shared:
        problems.add(
            DataError(
                f"{valid.where}: {several(shared, 'group')} {'is' if len(shared) == 1 else 'are'} in {train.where} "
                f"too, so their sentences would be known; give files without a group in common, or {remedy}"
            )
        )


def _check_once(questions: Iterable[Question], settings: NlvrData, problems: Problems) -> None:
    """Report an error if an example is both a weakly labelled one and a training example."""
    counts = Counter(question.id for question in questions)
    twice = [identifier for identifier, count in counts.items() if count > 1]
    if twice and settings.weak:
        files = " and ".join(str(path) for path in (*settings.train, *settings.weak))
        verb = "comes" if len(twice) == 1 else "come"
        problems.add(DataError(f"{files}: {several(twice, 'example')} {verb} twice; give files with each example once"))
