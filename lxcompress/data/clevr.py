"""CLEVR v1.0 (Johnson et al. 2017) as its authors publish it: scenes and questions JSON, plain or gzip.

Object features come from the scene's attributes and 3-D positions, boxes from pixel coordinates, size and depth
(data/objects.py states the rule, which is ours). Answers that are JSON true and false are "yes" and "no".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxcompress.data.files import read_json, whole_number
from lxcompress.data.objects import ANSWERS, ATTRIBUTES, answer_type, object_boxes, object_features
from lxcompress.data.split import AnswerTask, Regions, Split, single_answers
from lxcompress.data.tokens import Vocabulary, tokenize
from lxcompress.errors import DataError
from lxcompress.recipe import ClevrData
from lxcompress.text import shorten

HOLDOUT = 150
"""Scenes that validate where nothing else is said."""
TOKEN_LIMIT = 60
"""CLEVR's longest question has 43 words (Johnson et al. 2017)."""
MOST_OBJECTS = 256
"""Of a scene; CLEVR's have 10. All scenes are padded to the fullest, so one of millions would fill the memory."""
NEAREST, FARTHEST = 1e-3, 1e6
"""Bounds of an object's depth and coordinates; CLEVR's are within 500."""


def load_clevr(settings: ClevrData, vocabulary: Vocabulary) -> AnswerTask:
    """The AnswerTask in the files of `settings`; without validation files, the last `holdout` scenes validate.

    Questions about scenes that the scenes file lacks are an error, not a silence. Raises DataError.
    """
    scenes = read_scenes(settings.scenes)
    questions = read_questions(settings.questions)
    _check_images(questions, scenes, settings.questions, settings.scenes)
    train_files = valid_files = (settings.questions, settings.scenes)
    if settings.valid_scenes and settings.valid_questions:
        valid_files = (settings.valid_questions, settings.valid_scenes)
        valid_scenes = read_scenes(settings.valid_scenes)
        valid_questions = read_questions(settings.valid_questions)
        _check_images(valid_questions, valid_scenes, *valid_files)
    else:
        holdout = settings.holdout or HOLDOUT
        if len(scenes) <= holdout:
            raise DataError(
                f"{settings.scenes}: has {len(scenes)} scenes, too few to hold {holdout} out for validation; "
                f"give --set data.holdout={max(1, len(scenes) // 5)} or validation files"
            )
        last = sorted(scenes)[-holdout:]
        valid_scenes = {image: scenes.pop(image) for image in last}
        valid_questions = [question for question in questions if question["image_index"] in valid_scenes]
        questions = [question for question in questions if question["image_index"] in scenes]
    return AnswerTask(
        train=_split(questions[: settings.max_train], scenes, vocabulary, train_files),
        valid=_split(valid_questions[: settings.max_valid], valid_scenes, vocabulary, valid_files),
        labels=ANSWERS,
        vocabulary=vocabulary,
    )


def read_scenes(path: Path) -> dict[int, list[dict[str, Any]]]:
    """image_index -> objects. Raises DataError."""
    scenes: dict[int, list[dict[str, Any]]] = {}
    for place, scene in enumerate(_read_list(path, "scenes")):
        fields = scene if isinstance(scene, dict) else {}
        image, objects = whole_number(fields.get("image_index")), fields.get("objects")
        if image is None or not isinstance(objects, list):
            raise DataError(
                f"{path}: scene {place} is {shorten(scene)}, expected a whole number as image_index and a list of "
                "objects; give CLEVR's scenes JSON"
            )
        if image in scenes:
            raise DataError(f"{path}: image_index {image} comes twice; give a file with each scene once")
        if not objects:
            raise DataError(f"{path}: scene of image_index {image} has no object; take it out of the file")
        if len(objects) > MOST_OBJECTS:
            raise DataError(
                f"{path}: scene of image_index {image} has {len(objects):,} objects, expected at most {MOST_OBJECTS}; "
                "give CLEVR's scenes JSON"
            )
        scenes[image] = objects
    return scenes


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Questions with `question`, `image_index` and `answer` (a string of ANSWERS). Raises DataError."""
    questions = []
    for place, question in enumerate(_read_list(path, "questions")):
        fields = question if isinstance(question, dict) else {}
        lacking = next((name for name in ("question", "image_index", "answer") if fields and name not in fields), None)
        if lacking:
            raise DataError(
                f"{path}: question {place} has no {lacking}; the test split has no answers, give train or val"
            )
        words, image, given = fields.get("question"), whole_number(fields.get("image_index")), fields.get("answer")
        if not isinstance(words, str) or image is None:
            raise DataError(
                f"{path}: question {place} is {shorten(question)}, expected a text as question and a whole number as "
                "image_index; give CLEVR's questions JSON"
            )
        answer = answer_text(given)
        if answer not in ANSWERS:
            raise DataError(
                f"{path}: question {place} has the answer {given!r}, which is none of CLEVR's {len(ANSWERS)}; "
                "give CLEVR's questions JSON"
            )
        questions.append({"question": words, "image_index": image, "answer": answer})
    return questions


def answer_text(answer: Any) -> str:
    """CLEVR's answer as text: true and false are yes and no (before 1 and 0 are taken for them: True == 1)."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return str(answer)


def _split(
    questions: Sequence[dict[str, Any]],
    scenes: dict[int, list[dict[str, Any]]],
    vocabulary: Vocabulary,
    files: tuple[Path, Path],
) -> Split:
    """The Split of `questions` over `scenes`; `files` are where each came from, for what is wrong with them."""
    questions_path, scenes_path = files
    if not questions:
        raise DataError(
            f"{questions_path}: no question is left for one of the splits; give more, or change data.holdout"
        )
    used = {question["image_index"] for question in questions}
    images = [image for image in scenes if image in used]
    row = {image: place for place, image in enumerate(images)}
    features, boxes, counts = _see([scenes[image] for image in images], images, scenes_path)
    labels = [ANSWERS.index(question["answer"]) for question in questions]
    answers, credits = single_answers(labels)
    ids = tokenize([question["question"] for question in questions], vocabulary, TOKEN_LIMIT)
    return Split(
        input_ids=torch.from_numpy(ids),
        scene=torch.tensor([row[question["image_index"]] for question in questions]),
        regions=Regions(torch.from_numpy(features), torch.from_numpy(boxes), torch.from_numpy(counts)),
        answers=answers,
        credits=credits,
        types=tuple(answer_type(question["answer"]) for question in questions),
    )


def _see(
    scenes: Sequence[list[dict[str, Any]]], images: Sequence[int], path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [S, O, F], boxes [S, O, 4] and object counts [S] of the scenes, padded to the fullest."""
    counts = np.asarray([len(objects) for objects in scenes])
    shape = (len(scenes), int(counts.max()))
    values = {name: np.zeros(shape, dtype=np.int64) for name in ATTRIBUTES}
    places, pixels = np.zeros((*shape, 3)), np.ones((*shape, 3))
    for row, objects in enumerate(scenes):
        for column, each in enumerate(objects):
            try:
                for name, names in ATTRIBUTES.items():
                    values[name][row, column] = _place(each, name, names)
                places[row, column], pixels[row, column] = _three(each, "3d_coords"), _three(each, "pixel_coords")
            except (KeyError, TypeError, ValueError) as problem:
                reason = f"no {problem}" if isinstance(problem, KeyError) else problem
                raise DataError(
                    f"{path}: object {column} of image_index {images[row]} is not a CLEVR object ({reason}); "
                    "give CLEVR v1.0's scenes JSON"
                ) from None
            # NaN is not less either. Beyond these bounds float32 ends, and no camera stands so near.
            is_near = np.abs([*places[row, column], *pixels[row, column]]).max() < FARTHEST
            if not (is_near and pixels[row, column, 2] > NEAREST):
                raise DataError(
                    f"{path}: object {column} of image_index {images[row]} has a position that cannot be seen; give "
                    "CLEVR v1.0's scenes JSON"
                )
    present = np.arange(shape[1]) < counts[:, None]
    features = object_features(values, places) * present[..., None]
    boxes = object_boxes(pixels, values["size"]) * present[..., None]
    return features.astype(np.float32), boxes.astype(np.float32), counts


def _place(thing: dict[str, Any], name: str, names: Sequence[str]) -> int:
    if thing[name] not in names:
        raise ValueError(f"{name} {thing[name]!r} is none of {', '.join(names)}")
    return names.index(thing[name])


def _three(thing: dict[str, Any], name: str) -> np.ndarray:
    """Three numbers; fewer would be spread over all three by numpy."""
    numbers = np.asarray(thing[name] if isinstance(thing[name], list) else None)
    if numbers.shape != (3,) or numbers.dtype.kind not in "if":
        raise ValueError(f"{name} {thing[name]!r} is not three numbers")
    return numbers


def _check_images(
    questions: Iterable[dict[str, Any]], scenes: dict[int, Any], questions_path: Path, scenes_path: Path
) -> None:
    missing = sorted({question["image_index"] for question in questions} - set(scenes))
    if missing:
        raise DataError(
            f"{questions_path}: asks about {len(missing)} images that {scenes_path} lacks (image_index {missing[0]} is "
            "the first); give the scenes file of the same split"
        )


def _read_list(path: Path, key: str) -> list[Any]:
    """The list below `key` in a JSON file, plain or gzip."""
    document = read_json(path, remedy=f"give the path of CLEVR's {key} JSON, as in --set data.{key}=PATH")
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: has no list of {key}; give CLEVR's {key} JSON")
    return found
