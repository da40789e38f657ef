"""CLEVR v1.0 (Johnson et al. 2017) as its authors publish it: scenes and questions JSON, plain or gzip.

The features of an object are computed from its attributes and its 3-D position, the box from its pixel coordinates,
size and depth (by our own rule, in data/objects.py). JSON's true and false as answers become "yes" and "no".

Shapes: S scenes, O objects (padded), F = 18 features.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lxcompress.data.check_context import CheckContext
from lxcompress.data.files import read_json, whole_number
from lxcompress.data.objects import ANSWERS, ATTRIBUTES, answer_type, object_boxes, object_features
from lxcompress.data.problems import Problems, few, several
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions
from lxcompress.data.split import Regions
from lxcompress.errors import DataError
from lxcompress.recipe import ClevrData
from lxcompress.text import shorten

HOLDOUT = 150
"""How many scenes are held out for validation, by default."""
TOKEN_LIMIT = 60
"""The most tokens of a question; CLEVR's longest question has 43 words (Johnson et al. 2017)."""
MOST_OBJECTS = 256
"""The most objects of a scene; CLEVR's scenes have at most 10. All scenes are padded to the size of the largest, so a
huge scene would fill the memory."""
NEAREST, FARTHEST = 1e-3, 1e6
"""The least depth of an object, and the largest magnitude of its coordinates; CLEVR's are within 500."""

SceneObjects = Mapping[int, list[dict[str, Any]]]
"""image_index of a scene -> its objects, as in the JSON"""


@dataclass(frozen=True)
class ClevrScenes:
    """The scenes of one split, which are from the file `path`."""

    scenes: SceneObjects
    path: Path

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return the objects of the scenes that `questions` are about, and for each question the row of its scene.

        The scenes are in the order of their file.
        """
        used = {image_of(question) for question in questions}
        images = [image for image in self.scenes if image in used]
        found = problems.read_records(images, lambda image, _: _parse_scene(self.scenes[image], image, self.path))
        rows = {scene.image: row for row, scene in enumerate(found)}
        return _build_regions(found), [[rows.get(image_of(question), -1)] for question in questions]


def read_clevr(settings: ClevrData, problems: Problems | None = None) -> QuestionSet:
    """Read the questions and scenes of the splits; without validation files, hold out the last `holdout` scenes.

    The last validation scenes that have `test` questions are the test split. A question about a scene that the scenes
    file lacks is an error. Raises DataError under the strict policy, which is the default.
    """
    problems = problems or Problems.strict()
    train = _read_split("train", settings.questions, settings.scenes, problems)
    if settings.valid_scenes and settings.valid_questions:
        valid = _read_split("valid", settings.valid_questions, settings.valid_scenes, problems)
    else:
        train, valid = _hold_out(train, settings, problems)
    valid, test = _hold_out_test(valid, settings, problems) if settings.test else (valid, None)
    for split in (train, valid):
        if split.is_complete and not split.questions:
            problems.add(
                DataError(
                    f"{split.where}: no question is left for the {split.name} split; give more, or change data.holdout"
                )
            )
    return QuestionSet(train, valid, ANSWERS, TOKEN_LIMIT, has_ids=False, test=test)


def check_clevr(context: CheckContext) -> None:
    """Add the facts of the scenes of each split, and warn of scenes that are in two splits."""
    question_set = context.question_set
    scenes = scenes_by_split(question_set)
    context.sheet.add("scenes", {name: len(found) for name, found in scenes.items()})
    asked = {name: {image_of(question) for question in questions} for name, questions in context.used.items()}
    unused = {name: len(found.keys() - asked[name]) for name, found in scenes.items() if name in asked}
    context.sheet.add("scenes not asked about", unused)
    means = {name: float(np.mean([len(objects) for objects in found.values()])) for name, found in scenes.items()}
    context.sheet.add("objects of a scene, mean", means)
    train = question_set.train.images
    for held_out in (question_set.valid, question_set.test):
        images = held_out.images if held_out else None
        if isinstance(train, ClevrScenes) and isinstance(images, ClevrScenes) and train.path != images.path:
            _check_scenes_differ(train, images, context.problems)


def _check_scenes_differ(train: ClevrScenes, valid: ClevrScenes, problems: Problems) -> None:
    """Warn of scenes that are in both splits. Their objects decide: CLEVR numbers the scenes of both splits from 0."""
    digests = [
        {hashlib.sha256(repr(objects).encode()).digest(): image for image, objects in found.scenes.items()}
        for found in (train, valid)
    ]
    both = [image for digest, image in digests[1].items() if digest in digests[0]]
    if both:
        problems.warn(
            valid.path,
            f"{len(both):,} of its {len(digests[1]):,} scenes are in {train.path} too (image_index {few(both)}); "
            "validate on scenes that are not trained on",
        )


def scenes_by_split(question_set: QuestionSet) -> dict[str, SceneObjects]:
    """Return the scenes of each split, without splits that have none: name of the split -> scenes."""
    images = {name: split.images for name, split in question_set.splits.items()}
    return {name: found.scenes for name, found in images.items() if isinstance(found, ClevrScenes) and found.scenes}


def read_scenes(path: Path, problems: Problems | None = None) -> dict[int, list[dict[str, Any]]]:
    """Read a scenes file; return image_index -> objects. Raises DataError under the strict policy, the default."""
    scenes: dict[int, list[dict[str, Any]]] = {}

    def read(record: Any, index: int) -> None:
        image, objects = _parse_scene_record(record, index, path)
        if image in scenes:
            raise DataError(f"{path}: image_index {image} comes twice; give a file with each scene once")
        scenes[image] = objects

    (problems or Problems.strict()).read_records(_read_list(path, "scenes"), read)
    return scenes


def read_questions(path: Path, problems: Problems | None = None) -> list[Question]:
    """Return the questions in a file, in its order. Raises DataError under the strict policy, which is the default."""
    records = _read_list(path, "questions")
    return (problems or Problems.strict()).read_records(records, lambda record, index: _question(record, index, path))


def answer_text(answer: Any) -> str:
    """Return an answer of CLEVR's JSON as text; true and false become "yes" and "no", and numbers become digits."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return str(answer)


def image_of(question: Question) -> int:
    """Return the image_index of the scene that a question is about."""
    return int(question.images[0])


def _read_split(name: str, questions_path: Path, scenes_path: Path, problems: Problems) -> SplitQuestions:
    """Return the questions in a file, with all scenes in the scenes file of the same split."""
    problems.progress(f"reading {scenes_path.name}")
    scenes = problems.attempt(lambda: read_scenes(scenes_path, problems))
    problems.progress(f"reading {questions_path.name}")
    questions = problems.attempt(lambda: read_questions(questions_path, problems))
    if scenes and questions:
        missing = sorted({image_of(question) for question in questions} - set(scenes))
        if missing:
            problems.add(
                DataError(
                    f"{questions_path}: asks about {several(missing, 'image')} that {scenes_path} lacks (by their "
                    "image_index); give the scenes file of the same split"
                )
            )
    return SplitQuestions(
        name,
        questions or (),
        paths=(questions_path,),
        is_complete=questions is not None,
        images=ClevrScenes(scenes or {}, scenes_path),
    )


def _hold_out(train: SplitQuestions, settings: ClevrData, problems: Problems) -> tuple[SplitQuestions, SplitQuestions]:
    """Return two splits: `train` without its last scenes and their questions, and these scenes as validation split."""
    assert isinstance(train.images, ClevrScenes)
    scenes, holdout = train.images.scenes, settings.holdout or HOLDOUT
    nothing = replace(train, name="valid", questions=(), is_complete=False, images=None)
    if not scenes:
        return train, nothing
    if len(scenes) <= holdout:
        problems.add(
            DataError(
                f"{settings.scenes}: has {len(scenes)} scenes, too few to hold {holdout} out for validation; give "
                f"--set data.holdout={max(1, len(scenes) // 5)} or validation files"
            )
        )
        return train, nothing
    return _part(train, set(sorted(scenes)[-holdout:]), "valid")


def _hold_out_test(
    valid: SplitQuestions, settings: ClevrData, problems: Problems
) -> tuple[SplitQuestions, SplitQuestions]:
    """Return two splits: `valid` without its last scenes and their questions, and a test split about these scenes.

    The scenes are the fewest that have `data.test` questions; the first questions about them are the test split.
    Scenes without a question stay where they are.
    """
    assert settings.test is not None
    counts = Counter(image_of(question) for question in valid.questions)
    last: set[int] = set()
    found = 0
    for image in sorted(counts, reverse=True):
        if found >= settings.test:
            break
        last.add(image)
        found += counts[image]
    if valid.questions and (found < settings.test or len(last) == len(counts)):
        fewest = counts[min(counts)]
        problems.add(
            DataError(
                f"{valid.where}: its validation scenes have {len(valid.questions):,} questions, too few to hold "
                f"{settings.test:,} out for the test split and to validate on others; give a data.test of at most "
                f"{len(valid.questions) - fewest:,}, or more validation scenes"
            )
        )
    rest, test = _part(valid, last, "test")
    return rest, replace(test, questions=test.questions[: settings.test])


def _part(split: SplitQuestions, chosen: Container[int], name: str) -> tuple[SplitQuestions, SplitQuestions]:
    """Return two splits: `split` without the scenes `chosen` and their questions, and a split `name` of these."""
    parts = []
    for part_name, is_chosen in ((split.name, False), (name, True)):
        questions = [question for question in split.questions if (image_of(question) in chosen) is is_chosen]
        images = split.images
        if isinstance(images, ClevrScenes):
            scenes = {image: objects for image, objects in images.scenes.items() if (image in chosen) is is_chosen}
            images = replace(images, scenes=scenes)
        parts.append(replace(split, name=part_name, questions=questions, images=images))
    return parts[0], parts[1]


def _parse_scene_record(record: Any, index: int, path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Return the image_index and the objects of a record of the scenes file. Raises DataError."""
    fields = record if isinstance(record, dict) else {}
    image, objects = whole_number(fields.get("image_index")), fields.get("objects")
    if image is None or not isinstance(objects, list):
        raise DataError(
            f"{path}: scene {index} is {shorten(record)}, expected a whole number as image_index and a list of "
            "objects; give CLEVR's scenes JSON"
        )
    if not objects:
        raise DataError(f"{path}: scene of image_index {image} has no object; take it out of the file")
    if len(objects) > MOST_OBJECTS:
        raise DataError(
            f"{path}: scene of image_index {image} has {len(objects):,} objects, expected at most {MOST_OBJECTS}; "
            "give CLEVR's scenes JSON"
        )
    return image, objects


def _question(record: Any, index: int, path: Path) -> Question:
    """Return the Question of a record. Raises DataError, also for an answer that is not one of ANSWERS."""
    fields = record if isinstance(record, dict) else {}
    lacking = next((name for name in ("question", "image_index", "answer") if fields and name not in fields), None)
    if lacking:
        raise DataError(f"{path}: question {index} has no {lacking}; the test split has no answers, give train or val")
    words, image = fields.get("question"), whole_number(fields.get("image_index"))
    if not isinstance(words, str) or image is None:
        raise DataError(
            f"{path}: question {index} is {shorten(record)}, expected a text as question and a whole number as "
            "image_index; give CLEVR's questions JSON"
        )
    answer = answer_text(fields.get("answer"))
    if answer not in ANSWERS:
        raise DataError(
            f"{path}: question {index} has the answer {fields.get('answer')!r}, which is not one of CLEVR's "
            f"{len(ANSWERS)}; give CLEVR's questions JSON"
        )
    return Question(index, (str(image),), words, {answer: 1.0}, answer_type(answer))


class _Scene(NamedTuple):
    """The objects of a scene as numbers."""

    image: int
    values: list[list[int]]
    """for each object, the index of its value of each attribute in ATTRIBUTES"""
    positions: list[np.ndarray]
    """for each object, its 3-D coordinates"""
    pixels: list[np.ndarray]
    """for each object, its x and y in pixels, and its depth"""


def _parse_scene(objects: Sequence[Any], image: int, path: Path) -> _Scene:
    """Return the objects of a scene as numbers. Raises DataError."""
    scene = _Scene(image, [], [], [])
    for number, thing in enumerate(objects):
        try:
            scene.values.append([_value_index(thing, name, names) for name, names in ATTRIBUTES.items()])
            scene.positions.append(_three_numbers(thing, "3d_coords"))
            scene.pixels.append(_three_numbers(thing, "pixel_coords"))
        except (KeyError, TypeError, ValueError) as problem:
            reason = f"no {problem}" if isinstance(problem, KeyError) else problem
            raise DataError(
                f"{path}: object {number} of image_index {image} is not a CLEVR object ({reason}); give CLEVR v1.0's "
                "scenes JSON"
            ) from None
        # NaN fails both comparisons. Larger coordinates would overflow float32, and no camera is so near an object.
        is_near = np.abs([*scene.positions[-1], *scene.pixels[-1]]).max() < FARTHEST
        if not (is_near and scene.pixels[-1][2] > NEAREST):
            raise DataError(
                f"{path}: object {number} of image_index {image} has a position outside of the camera's view; give "
                "CLEVR v1.0's scenes JSON"
            )
    return scene


def _build_regions(scenes: Sequence[_Scene]) -> Regions:
    """Return the objects of the scenes as Regions; scenes are padded to the scene with most objects."""
    counts = np.asarray([len(scene.values) for scene in scenes], dtype=np.int64)
    shape = (len(scenes), int(counts.max(initial=1)))
    values = np.zeros((*shape, len(ATTRIBUTES)), dtype=np.int64)
    positions, pixels = np.zeros((*shape, 3)), np.ones((*shape, 3))
    for row, scene in enumerate(scenes):
        values[row, : counts[row]] = scene.values
        positions[row, : counts[row]], pixels[row, : counts[row]] = scene.positions, scene.pixels
    by_name = {name: values[..., column] for column, name in enumerate(ATTRIBUTES)}
    present = (np.arange(shape[1]) < counts[:, None])[..., None]
    features = object_features(by_name, positions) * present
    boxes = object_boxes(pixels, by_name["size"]) * present
    arrays = (features.astype(np.float32), boxes.astype(np.float32), counts)
    return Regions(*map(torch.from_numpy, arrays))


def _value_index(thing: dict[str, Any], name: str, names: Sequence[str]) -> int:
    """Return the index in `names` of the object's value of an attribute. Raises KeyError, TypeError or ValueError."""
    if thing[name] not in names:
        raise ValueError(f"{name} {thing[name]!r} is not one of {', '.join(names)}")
    return names.index(thing[name])


def _three_numbers(thing: dict[str, Any], name: str) -> np.ndarray:
    """Return the three numbers in the field `name` of an object. Raises ValueError for anything else.

    Fewer numbers must be refused, because numpy would repeat them; a missing field raises KeyError.
    """
    numbers = np.asarray(thing[name] if isinstance(thing[name], list) else None)
    if numbers.shape != (3,) or numbers.dtype.kind not in "if":
        raise ValueError(f"{name} {thing[name]!r} is not three numbers")
    return numbers


def _read_list(path: Path, key: str) -> list[Any]:
    """Return the list below `key` in a JSON file, plain or gzip. Raises DataError."""
    document = read_json(path, remedy=f"give the path of CLEVR's {key} JSON, as in --set data.{key}=PATH")
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: has no list of {key}; give CLEVR's {key} JSON")
    return found
