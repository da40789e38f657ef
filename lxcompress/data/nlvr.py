"""NLVR v1 (Suhr et al. 2017): sentences over structured scenes, JSON lines or a list, split by group.

A scene is three boxes of 100 x 100 units side by side; all their objects are the regions of one picture of 300 x 100.
The features are our rule, in the slots of data/objects.py, so that a model pre-trained on scenes reads them:

- colour: yellow, blue and (for black) gray; shape: sphere for a circle, cube for a square, cylinder for a triangle;
- size: small for 10, large for 30, half of each for 20; no material;
- the last three: the centre's place across the picture and down it, -1..1, and the box's number, -1, 0 or 1.

An identifier is group-number. The number gives the label away (93 % of it), and a group's scenes share their sentence:
so nothing of the identifier reaches a model, and a group is trained on or validated on, never both.

Shapes: Q questions, O objects (padded), F = 18 features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxcompress.data.files import read_records
from lxcompress.data.objects import COLORS, FEATURES, MATERIALS, SHAPES, SIZES
from lxcompress.data.question_set import read_part
from lxcompress.data.questions import Question, build_split
from lxcompress.data.split import AnswerTask, Regions, Split
from lxcompress.data.tokens import Vocabulary
from lxcompress.errors import DataError
from lxcompress.recipe import NlvrData
from lxcompress.text import shorten

LABELS = ("false", "true")
ONE_TYPE = "all"
HOLDOUT = 0.2
"""The share of training groups that validate where nothing else is said."""
TOKEN_LIMIT = 80
"""The longest published sentences have 26 tokens of BERT's vocabulary, and 68 of the shipped one."""
BOXES, BOX_SIDE = 3, 100
MOST_OBJECTS = 256
"""Of a box; NLVR's have 8. All scenes are padded to the fullest, so one of millions would fill the memory."""

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
    """A sentence about a scene, and the group that the scene was shown in."""

    question: Question
    group: str
    features: np.ndarray
    """float32 [O, F]"""
    boxes: np.ndarray
    """float32 [O, 4], x1 y1 x2 y2 of the whole picture, 0-1"""


def load_nlvr(settings: NlvrData, vocabulary: Vocabulary) -> AnswerTask:
    """Return the task in the files of `settings`; without `valid`, hold out the share `holdout` of the training groups.

    Weak questions of a group that validates are left out. Raises DataError.
    """
    train, weak = _read("train", settings.train, "label"), _read("weak", settings.weak or (), "weak_label")
    if settings.valid:
        valid = _read("valid", settings.valid, "label")
        _check_groups(train, valid, settings.train[0], settings.valid[0])
        valid_path = settings.valid[0]
    else:
        held = held_out({each.group for each in train}, settings.holdout or HOLDOUT, str(settings.train[0]))
        valid = [each for each in train if each.group in held]
        train = [each for each in train if each.group not in held]
        valid_path = settings.train[0]
    scored = {each.group for each in valid}
    trained = [*train, *(each for each in weak if each.group not in scored)]
    _check_once(trained, settings)
    return AnswerTask(
        train=_split(trained[: settings.max_train], vocabulary, settings.train[0]),
        valid=_split(valid[: settings.max_valid], vocabulary, valid_path),
        labels=LABELS,
        vocabulary=vocabulary,
    )


def held_out(groups: Iterable[str], share: float, where: str) -> frozenset[str]:
    """The `share` of `groups` that validates: those whose names' SHA-256 come first, so it is always the same.

    Raises DataError, naming `where`, if there are fewer than two groups.
    """
    ordered = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(ordered) < 2:
        raise DataError(f"{where}: has one group, too few to hold some out; give validation files as data.valid")
    return frozenset(ordered[: min(len(ordered) - 1, max(1, round(share * len(ordered))))])


def _read(name: str, files: Sequence[Path], label: str) -> list[Example]:
    """The examples of `files`, whose label is below the key `label`."""
    examples: list[Example] = []

    def read(path: Path) -> list[Question]:
        records = read_records(path, remedy=f"{_REMEDY}, as in --set data.{name}=PATH")
        found = [_example(record, place, path, label) for place, record in enumerate(records)]
        examples.extend(found)
        return [each.question for each in found]

    read_part(files, read)
    return examples


def _example(record: Mapping[str, Any], place: int, path: Path, key: str) -> Example:
    identifier, words, boxes = (record.get(name) for name in ("identifier", "sentence", "structured_rep"))
    group, _, number = str(identifier).partition("-")
    is_named = isinstance(identifier, str) and group and number and isinstance(words, str)
    if not (is_named and isinstance(boxes, list) and len(boxes) == BOXES):
        raise DataError(
            f"{path}: record {place} is {shorten(record)}, expected a sentence, an identifier (group-number) and a "
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
        group=group,
        features=np.asarray([features for features, _ in seen], dtype=np.float32).reshape(-1, FEATURES),
        boxes=np.asarray([corners for _, corners in seen], dtype=np.float32).reshape(-1, 4),
    )


def see_object(thing: Mapping[str, Any], box: int) -> tuple[list[float], list[float]]:
    """The features [F] and the corners [4] of an object in box 0, 1 or 2 of the picture.

    Raises KeyError, TypeError or ValueError for what is no object of NLVR.
    """
    color, shape, size, x, y = (thing[name] for name in ("color", "type", "size", "x_loc", "y_loc"))
    if str(color).lower() not in _COLOR:
        raise ValueError(f"color {color!r} is none of Yellow, #0099ff, Black")
    if shape not in _SHAPE:
        raise ValueError(f"type {shape!r} is none of {', '.join(_SHAPE)}")
    if size not in _SIZE:
        raise ValueError(f"size {size!r} is none of {', '.join(map(str, _SIZE))}")
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


def _check_groups(train: Iterable[Example], valid: Iterable[Example], train_path: Path, valid_path: Path) -> None:
    trained = {each.group for each in train}
    shared = sorted({each.group for each in valid if each.group in trained})
    if shared:
        raise DataError(
            f"{valid_path}: {len(shared)} of its groups are in {train_path} too (group {shared[0]} is the first), so "
            "their sentences would be known; give files without a group in common, or leave data.valid out"
        )


def _check_once(trained: Iterable[Example], settings: NlvrData) -> None:
    """Raises DataError if a weak example is a training example too."""
    seen: set[int | str] = set()
    for each in trained:
        if each.question.id in seen:
            files = " and ".join(str(path) for path in (*settings.train, *(settings.weak or ())))
            raise DataError(f"{files}: {each.question.id} comes twice; give files with each example once")
        seen.add(each.question.id)


def _split(examples: Sequence[Example], vocabulary: Vocabulary, path: Path) -> Split:
    return build_split(
        [each.question for each in examples],
        regions=_regions(examples),
        rows=[[row] for row in range(len(examples))],
        labels=LABELS,
        vocabulary=vocabulary,
        limit=TOKEN_LIMIT,
        where=str(path),
    )


def _regions(examples: Sequence[Example]) -> Regions:
    """The scenes of `examples`, padded to the fullest; a scene without an object is one region that shows nothing."""
    counts = np.asarray([max(1, len(each.features)) for each in examples], dtype=np.int64)
    shape = (len(examples), int(counts.max(initial=1)))
    features, boxes = np.zeros((*shape, FEATURES), np.float32), np.zeros((*shape, 4), np.float32)
    for row, each in enumerate(examples):
        features[row, : len(each.features)], boxes[row, : len(each.boxes)] = each.features, each.boxes
    return Regions(torch.from_numpy(features), torch.from_numpy(boxes), torch.from_numpy(counts))
