"""The built-in data set: CLEVR-like scenes drawn from a seed, and questions whose wording does not tell the answer.

Shapes: S scenes, O objects (padded to the most that a scene has).

What a question asks and its answer are drawn first; all answers that its family of questions allows are equally
likely. Then a scene is chosen in which this answer is right. So a model that always gives the most frequent answer, or
that reads only the words, does not score well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lxcompress.data.check_context import CheckContext
from lxcompress.data.facts import SPLITS
from lxcompress.data.objects import (
    ANSWERS,
    ATTRIBUTES,
    COUNTS,
    RADIUS,
    SIZES,
    answer_type,
    object_boxes,
    object_features,
    project,
)
from lxcompress.data.persian_scenes import PERSIAN_ANSWERS, ask_persian
from lxcompress.data.pictures import draw_pictures
from lxcompress.data.problems import Problems
from lxcompress.data.programs import Ask, Phrase, QuestionProgram, ask_english
from lxcompress.data.questions import Question, QuestionSet, SplitQuestions
from lxcompress.data.split import Regions
from lxcompress.recipe import ScenesData

FEWEST_OBJECTS, MOST_OBJECTS = 3, 7
"""How many objects a scene has; `data.objects` replaces the second."""
QUESTIONS_A_SCENE = 4
FEATURE_NOISE = 0.05
"""The standard deviation of the noise on each feature."""
WINDOW = 128
"""How many scenes are searched for one in which the drawn answer is right."""
TOKEN_LIMIT = 24
CAMERA_RIGHT = np.asarray([0.656, 0.755])
CAMERA_FRONT = np.asarray([0.755, -0.656])
RELATIONS = {"left of": ("right", -1), "right of": ("right", 1), "behind": ("front", -1), "in front of": ("front", 1)}


@dataclass(frozen=True)
class Scenes:
    """Scenes as arrays [S, O]: the attributes and the position of each object; `present` is false for padding."""

    present: np.ndarray
    values: Mapping[str, np.ndarray]
    right: np.ndarray
    front: np.ndarray

    def __len__(self) -> int:
        return len(self.present)

    def window(self, start: int) -> Scenes:
        """Return WINDOW scenes from `start`; after the last scene comes the first."""
        rows = np.arange(start, start + min(WINDOW, len(self))) % len(self)
        values = {name: array[rows] for name, array in self.values.items()}
        return Scenes(self.present[rows], values, self.right[rows], self.front[rows])


@dataclass(frozen=True)
class SceneQuestion:
    """A question as a program, the answers that its family allows, and the function that answers it for each scene."""

    program: QuestionProgram
    answers: tuple[str, ...]
    answer: Callable[[Scenes], np.ndarray]
    """scenes -> int [S]: an index into `answers`, or -1 for a scene in which the question makes no sense"""


@dataclass(frozen=True)
class SceneLanguage:
    """A language in which questions about scenes are asked."""

    ask: Ask
    answers: tuple[str, ...]
    """the answers, in the order of ANSWERS, so that a label has the same meaning in every language"""


LANGUAGES = {None: SceneLanguage(ask_english, ANSWERS), "fa": SceneLanguage(ask_persian, PERSIAN_ANSWERS)}


@dataclass(frozen=True)
class GeneratedImages:
    """The regions of the scenes of one split; the name of an image is the row of its scene."""

    regions: Regions

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return the regions of all scenes of the split, and the row of each question's scene."""
        return self.regions, [[int(question.images[0])] for question in questions]


def read_scenes(settings: ScenesData, problems: Problems | None = None) -> QuestionSet:
    """Generate the questions and scenes of the splits. No scene is in two; equal settings give equal data.

    If `pixels` is set, the same scenes and questions are generated, but each scene has one region: its picture. The
    language changes the words of questions and answers, and nothing else.
    """
    (problems or Problems.strict()).progress("drawing scenes")

    def draw(name: str, count: int) -> SplitQuestions:
        return _draw_split(name, count, settings)

    return QuestionSet(
        train=draw("train", settings.train),
        valid=draw("valid", settings.valid),
        test=None if settings.test is None else draw("test", settings.test),
        labels=LANGUAGES[settings.language].answers,
        token_limit=TOKEN_LIMIT,
        has_ids=False,
    )


def check_scenes(context: CheckContext) -> None:
    """Add the number of scenes of each split."""
    images = {name: split.images for name, split in context.question_set.splits.items()}
    counts = {name: len(found.regions.features) for name, found in images.items() if isinstance(found, GeneratedImages)}
    context.sheet.add("scenes", counts)


def draw_scenes(count: int, rng: np.random.Generator, most: int = MOST_OBJECTS) -> Scenes:
    """Return `count` scenes of 3 to `most` objects; no two objects of a scene have the same depth or side position."""
    shape = (count, most)
    objects = rng.integers(FEWEST_OBJECTS, most + 1, count)
    values = {name: rng.integers(0, len(names), shape) for name, names in ATTRIBUTES.items()}
    return Scenes(np.arange(most) < objects[:, None], values, _spread(shape, rng), _spread(shape, rng))


def draw_questions(
    count: int, scenes: Scenes, rng: np.random.Generator, ask: Ask = ask_english
) -> tuple[list[str], list[int], list[int]]:
    """Return `count` questions: their words, their labels (indices into ANSWERS) and the rows of their scenes.

    `ask` puts them into words; it does not change which questions are drawn.
    """
    words: list[str] = []
    labels: list[int] = []
    rows: list[int] = []
    while len(words) < count:
        question = FAMILIES[rng.integers(len(FAMILIES))](rng)
        wanted = rng.integers(len(question.answers))
        start = int(rng.integers(len(scenes)))
        fitting = np.flatnonzero(question.answer(scenes.window(start)) == wanted)
        if len(fitting):
            words.append(ask(question.program))
            labels.append(ANSWERS.index(question.answers[wanted]))
            rows.append((start + int(rng.choice(fitting))) % len(scenes))
    return words, labels, rows


def _draw_split(name: str, count: int, settings: ScenesData) -> SplitQuestions:
    """Return `count` questions and their scenes, drawn from the seed of the settings and the name of the split."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, SPLITS.index(name) + 1]))
    language = LANGUAGES[settings.language]
    scenes = draw_scenes(max(WINDOW, count // QUESTIONS_A_SCENE), rng, settings.objects or MOST_OBJECTS)
    words, labels, rows = draw_questions(count, scenes, rng, language.ask)
    credits = [{answer: 1.0} for answer in language.answers]
    types = [answer_type(answer) for answer in ANSWERS]
    questions = [
        Question(index, (str(row),), text, credits[label], types[label])
        for index, (text, label, row) in enumerate(zip(words, labels, rows, strict=True))
    ]
    regions = _detect(scenes, rng) if settings.pixels is None else _picture(scenes, settings.pixels)
    return SplitQuestions(name, questions, images=GeneratedImages(regions))


def _spread(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return positions [S, O] in -3..3, in random order; two positions in a row are at least 0.25 apart."""
    order = rng.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)
    return 6 * (order + rng.uniform(0.15, 0.85, shape)) / shape[1] - 3


def _detect(scenes: Scenes, rng: np.random.Generator) -> Regions:
    """Return the objects of the scenes as Regions. Their features have small random errors, as those of a detector."""
    height = _height(scenes)
    ground = scenes.right[..., None] * CAMERA_RIGHT + scenes.front[..., None] * CAMERA_FRONT
    exact = object_features(dict(scenes.values), np.concatenate([ground, height[..., None]], axis=-1))
    noise = rng.normal(0, FEATURE_NOISE, exact.shape).astype(np.float32)
    boxes = object_boxes(project(scenes.right, scenes.front, height), scenes.values["size"])
    objects = torch.from_numpy(scenes.present.sum(1))
    return Regions(torch.from_numpy(exact + noise), torch.from_numpy(boxes), objects)


def _picture(scenes: Scenes, side: int) -> Regions:
    """Return each scene as one region, its picture of `side` x `side` pixels; the features are the pixels.

    The pixels are stored as float16, which has a different number for each of the 256 shades.
    """
    positions = project(scenes.right, scenes.front, _height(scenes))
    pictures = torch.from_numpy(draw_pictures(scenes.values, positions, scenes.present, side=side)).half()
    return Regions(
        features=pictures.reshape(len(scenes), 1, -1),
        boxes=torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(scenes), 1, 1),
        objects=torch.ones(len(scenes), dtype=torch.int64),
    )


def _height(scenes: Scenes) -> np.ndarray:
    """Return the height of each object's centre above the ground, [S, O]."""
    return np.asarray([RADIUS[name] for name in SIZES])[scenes.values["size"]]


# Families of questions. Each function draws the program of a question, and returns it with its answer function.


def match(phrase: Phrase, scenes: Scenes) -> np.ndarray:
    """Return which objects of the scenes fit the description: bool [S, O]."""
    found = scenes.present
    for name, value in phrase.wanted.items():
        found = found & (scenes.values[name] == value)
    return found


def _draw_phrase(rng: np.random.Generator, *, without: str | None = None, most: int = 2) -> Phrase:
    """Return a random Phrase with 1 to `most` attributes; the attribute `without` is never one of them."""
    names = [name for name in ATTRIBUTES if name != without]
    chosen = rng.permutation(names)[: rng.integers(1, most + 1)]
    return Phrase({str(name): int(rng.integers(len(ATTRIBUTES[str(name)]))) for name in chosen})


def _draw_relation(rng: np.random.Generator) -> str:
    """Return a random one of RELATIONS."""
    return tuple(RELATIONS)[rng.integers(len(RELATIONS))]


def _draw_attribute(rng: np.random.Generator) -> str:
    """Return the name of a random attribute."""
    return tuple(ATTRIBUTES)[rng.integers(len(ATTRIBUTES))]


def _only(match: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each scene the value of the only object that matches, int [S]; -1 if none or several match."""
    return np.where(match.sum(1) == 1, values[np.arange(len(match)), match.argmax(1)], -1)


def _related(scenes: Scenes, relation: str, anchor: np.ndarray) -> np.ndarray:
    """Return which objects are in `relation` to the first object that `anchor` (bool [S, O]) marks: bool [S, O]."""
    axis, sign = RELATIONS[relation]
    position = getattr(scenes, axis)
    origin = position[np.arange(len(position)), anchor.argmax(1)]
    return scenes.present & (sign * (position - origin[:, None]) > 0) & ~anchor


def _yes_no(truth: np.ndarray) -> np.ndarray:
    """Return for each scene the index into YES_NO: 0 where `truth` is true, else 1. int [S]."""
    return np.where(truth, 0, 1)


def _where(sense: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Return `answer` [S], with -1 for scenes in which the question makes no sense."""
    return np.where(sense, answer, -1)


YES_NO = ("yes", "no")
SMALL_COUNTS = COUNTS[:5]


def _exists(rng: np.random.Generator) -> SceneQuestion:
    """Ask whether there is an object."""
    phrase = _draw_phrase(rng, most=3)
    return SceneQuestion(
        QuestionProgram("exists", (phrase,)), YES_NO, lambda scenes: _yes_no(np.any(match(phrase, scenes), 1))
    )


def _counts(rng: np.random.Generator) -> SceneQuestion:
    """Ask how many objects there are."""
    phrase = _draw_phrase(rng)
    return SceneQuestion(QuestionProgram("count", (phrase,)), SMALL_COUNTS, lambda scenes: match(phrase, scenes).sum(1))


def _asks_value(rng: np.random.Generator) -> SceneQuestion:
    """Ask for an attribute of the only object that fits a description."""
    attribute = _draw_attribute(rng)
    phrase = _draw_phrase(rng, without=attribute)

    def answer(scenes: Scenes) -> np.ndarray:
        return _only(match(phrase, scenes), scenes.values[attribute])

    return SceneQuestion(QuestionProgram("value", (phrase,), attribute), ATTRIBUTES[attribute], answer)


def _compares_counts(rng: np.random.Generator) -> SceneQuestion:
    """Ask whether there are more (or fewer) objects of one description than of another."""
    first, second = _draw_phrase(rng, most=1), _draw_phrase(rng, most=1)
    comparison: Literal["more", "fewer"] = "fewer" if rng.integers(2) else "more"
    sign = 1 if comparison == "more" else -1

    def answer(scenes: Scenes) -> np.ndarray:
        return _yes_no(sign * (match(first, scenes).sum(1) - match(second, scenes).sum(1)) > 0)

    return SceneQuestion(QuestionProgram("compare-counts", (first, second), comparison=comparison), YES_NO, answer)


def _compares_values(rng: np.random.Generator) -> SceneQuestion:
    """Ask whether two objects have the same value of an attribute."""
    attribute = _draw_attribute(rng)
    first, second = _draw_phrase(rng, without=attribute), _draw_phrase(rng, without=attribute)

    def answer(scenes: Scenes) -> np.ndarray:
        one, other = match(first, scenes), match(second, scenes)
        values = scenes.values[attribute]
        sense = (one.sum(1) == 1) & (other.sum(1) == 1) & ~(one & other).any(1)
        return _where(sense, _yes_no(_only(one, values) == _only(other, values)))

    return SceneQuestion(QuestionProgram("compare-values", (first, second), attribute), YES_NO, answer)


def _relates(rng: np.random.Generator) -> SceneQuestion:
    """Ask whether one object is in a relation to another."""
    relation, first, second = _draw_relation(rng), _draw_phrase(rng), _draw_phrase(rng)

    def answer(scenes: Scenes) -> np.ndarray:
        one, other = match(first, scenes), match(second, scenes)
        sense = (one.sum(1) == 1) & (other.sum(1) == 1) & ~(one & other).any(1)
        return _where(sense, _yes_no((_related(scenes, relation, other) & one).any(1)))

    return SceneQuestion(QuestionProgram("relation", (first, second), relation=relation), YES_NO, answer)


def _counts_related(rng: np.random.Generator) -> SceneQuestion:
    """Ask how many objects are in a relation to another object."""
    relation, phrase, anchor = _draw_relation(rng), _draw_phrase(rng, most=1), _draw_phrase(rng)

    def answer(scenes: Scenes) -> np.ndarray:
        origin = match(anchor, scenes)
        found = (_related(scenes, relation, origin) & match(phrase, scenes)).sum(1)
        return _where(origin.sum(1) == 1, found)

    return SceneQuestion(QuestionProgram("count-related", (phrase, anchor), relation=relation), SMALL_COUNTS, answer)


def _asks_value_of_related(rng: np.random.Generator) -> SceneQuestion:
    """Ask for an attribute of the only object that is in a relation to another object."""
    attribute, relation = _draw_attribute(rng), _draw_relation(rng)
    phrase, anchor = _draw_phrase(rng, without=attribute, most=1), _draw_phrase(rng)

    def answer(scenes: Scenes) -> np.ndarray:
        origin = match(anchor, scenes)
        found = _related(scenes, relation, origin) & match(phrase, scenes)
        return _where(origin.sum(1) == 1, _only(found, scenes.values[attribute]))

    return SceneQuestion(QuestionProgram("value", (phrase, anchor), attribute, relation), ATTRIBUTES[attribute], answer)


FAMILIES: tuple[Callable[[np.random.Generator], SceneQuestion], ...] = (
    _exists,
    _counts,
    _asks_value,
    _asks_value,
    _compares_counts,
    _compares_values,
    _relates,
    _counts_related,
    _asks_value_of_related,
)
