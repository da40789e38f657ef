"""Answer questions about one photograph: extract its features once, and ask a model about them.

Shapes: S pixels a side, O regions, F features, L tokens, A answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lxcompress.catalog.extractors import is_extractor
from lxcompress.confidence.record import ConfidenceScale, find_scale
from lxcompress.errors import DataError, ModelError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.workflow.answer_request import (
    AnswerOptions,
    check_request,
    check_version,
    check_width,
    choose_extractor,
    find_answering_folder,
)
from lxcompress.workflow.features import ExtractOptions, open_extractor, read_picture

if TYPE_CHECKING:
    import numpy as np

    from lxcompress.data.fit import ModelShape
    from lxcompress.data.tokens import Vocabulary
    from lxcompress.extractors.artifact import ExtractorArtifact
    from lxcompress.extractors.photo import Picture
    from lxcompress.extractors.source import Extractor
    from lxcompress.records import FeatureOrigin
    from lxcompress.runtimes.image import ImageSession

MS = 1000.0
SLOW = 2.0
"""A step of more seconds is not repeated: what a library does in its first call is a small part of it."""
UNSCALED = ConfidenceScale(temperature=1.0, thresholds={})
"""For a model whose confidence was not measured."""
MOST_NATURAL_ZEROS = 0.01
"""The published weights have 0.2 % zeros in their 1 x 1 convolutions; with more than this they were pruned."""
MOST_TOKENS = 1_000_000
"""More tokens than any question has: a question is never cut."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class PossibleAnswer:
    """An answer, and its probability (0-1)."""

    text: str
    probability: float


@dataclass(frozen=True)
class QuestionAnswer:
    """The most probable answers to one question, the best first, and the time of the model in milliseconds.

    `is_sure` says whether the probability of the best answer reaches the threshold; None without a threshold.
    """

    question: str
    answers: tuple[PossibleAnswer, ...]
    is_sure: bool | None
    model_ms: float


@dataclass(frozen=True)
class PhotoAnswers:
    """The answers about one photograph, and the milliseconds that its steps took.

    `model` is the folder that answered, in the runtime `runtime`. `photo_ms` is the time to decode and resize the
    photograph, and `extractor_ms` that of the extractor. `image_ms` is the time of the part of the model that does not
    depend on the question; it is None if the runtime repeats this part for each question. No time includes the first
    call of a library. `warnings` are for the user.
    """

    photo: Path
    model: Path
    runtime: str
    extractor: str
    threshold: float | None
    photo_ms: float
    extractor_ms: float
    image_ms: float | None
    answers: tuple[QuestionAnswer, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Answerer:
    """A loaded model, with its vocabulary and the texts of its answers."""

    folder: Path
    runtime: str
    session: ImageSession
    shape: ModelShape
    vocabulary: Vocabulary
    labels: Sequence[str]
    scale: ConfidenceScale | None
    """the temperature of its probabilities, and its thresholds; None if they were not measured"""


def answer_photo(
    photo: Path, questions: Sequence[str], model: Path, options: AnswerOptions | None = None
) -> PhotoAnswers:
    """Return the answers of `model` (a ticket, a model, an artifact or a run folder) to questions about a photograph.

    The features are extracted once. Of a run folder, the file that `lxcompress pick` chooses answers. Raises LxError.
    """
    options = options or AnswerOptions()
    check_request(photo, questions, options)
    folder = find_answering_folder(model)
    from lxcompress.models.checkpoints import read_config
    from lxcompress.models.origin import get_origin
    from lxcompress.models.shape import describe_folder

    shape, origin = describe_folder(str(folder)), get_origin(read_config(str(folder))[0])
    if shape.images != 1:
        raise ModelError(f"{folder}: reads {shape.images} images for a question; give a model that reads one")
    exported = _read_exported(options.extractor)
    wanted = exported.extractor if exported else options.extractor
    extract_options, warnings = choose_extractor(folder, shape, origin, wanted)
    extractor = _open_extractor(replace(extract_options, weights=options.weights), options, exported)
    check_version(folder, shape, extractor)
    if exported is not None and exported.pruned > MOST_NATURAL_ZEROS:
        warnings += (
            f"{options.extractor}: {100 * exported.pruned:.0f} % of its 1 x 1 convolutions are removed; the model was "
            "trained on features of the whole extractor",
        )
    picture, photo_ms = _time_warm(lambda: read_picture(photo, extractor))
    extracted, extractor_ms = _time_warm(lambda: _extract(extractor, picture, options.threads))
    image = _keep_regions(extracted, origin)
    check_width(folder, shape, image["visual_feats"], extract_options.extractor)
    answerer = _open_answerer(folder, shape, options.threads)
    image_ms, answers = _ask(answerer, image, questions, options)
    return PhotoAnswers(
        photo=photo,
        model=folder,
        runtime=answerer.runtime,
        extractor=extract_options.extractor,
        threshold=_find_threshold(answerer.scale, options),
        photo_ms=photo_ms,
        extractor_ms=extractor_ms,
        image_ms=image_ms,
        answers=answers,
        warnings=warnings,
    )


def _time_warm(step: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of a step, and its milliseconds.

    The step runs twice, and the second time counts, because the first call of a library is slower. A step of more than
    SLOW seconds runs once.
    """
    started = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - started
    if seconds < SLOW:
        started = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - started
    return result, MS * seconds


def _read_exported(extractor: str | None) -> ExtractorArtifact | None:
    """Return the record of an exported extractor, if `extractor` is its folder; else None. Raises DataError."""
    if extractor is None or is_extractor(extractor):
        return None
    from lxcompress.extractors.artifact import read_extractor_artifact

    return read_extractor_artifact(Path(extractor))


def _open_extractor(wanted: ExtractOptions, options: AnswerOptions, exported: ExtractorArtifact | None) -> Extractor:
    """Load the extractor, or its exported file. Raises DataError if the file has another grid than the model reads."""
    if exported is None:
        return open_extractor(wanted)
    if wanted.grid not in (None, exported.grid):
        raise DataError(
            f"{options.extractor}: gives a grid of {exported.grid} x {exported.grid}, but the model was trained on "
            f"{wanted.grid} x {wanted.grid}; export the extractor with --grid {wanted.grid}"
        )
    from lxcompress.runtimes.extractor import open_file_extractor

    return open_file_extractor(Path(str(options.extractor)), threads=options.threads)


def _extract(extractor: Extractor, picture: Picture, threads: int) -> dict[str, np.ndarray]:
    """Return the inputs of a model that depend on the photograph, each [1, O, ...]: features, boxes and their mask."""
    import numpy as np

    from lxcompress.runtimes.torch import held_to

    with held_to(threads):
        features, boxes = extractor.find_regions(picture)
    stored = features.astype(np.float16).astype(np.float32)  # as the store of the training has them
    return {
        "visual_feats": stored[None],
        "visual_pos": boxes[None],
        "visual_attention_mask": np.ones((1, len(features)), dtype=np.int64),
    }


def _keep_regions(image: dict[str, np.ndarray], origin: FeatureOrigin | None) -> dict[str, np.ndarray]:
    """Return the inputs with as few regions as the model saw in its training."""
    if origin is None or origin.kept_regions is None:
        return image
    import numpy as np
    import torch

    from lxcompress.data.regions.fewer import keep_first
    from lxcompress.data.split import Regions

    features, boxes = (torch.from_numpy(image[name]) for name in ("visual_feats", "visual_pos"))
    given = features.shape[1]
    kept = keep_first(Regions(features.half(), boxes, torch.tensor([given])), min(given, origin.kept_regions))
    return {
        "visual_feats": kept.features.float().numpy(),
        "visual_pos": np.ascontiguousarray(kept.boxes.numpy()),
        "visual_attention_mask": np.ones((1, kept.features.shape[1]), dtype=np.int64),
    }


def _open_answerer(folder: Path, shape: ModelShape, threads: int) -> _Answerer:
    """Load the model in `folder`, after its files were compared with their checksums. Raises LxError."""
    from lxcompress.checksums import check_folder
    from lxcompress.measure.plan import read_artifacts
    from lxcompress.models.source import find_folder
    from lxcompress.models.vocabulary import load_vocabulary
    from lxcompress.runtimes import open_session, runtime_of
    from lxcompress.runtimes.image import ImageSession

    labels = shape.labels or [f"answer {index}" for index in range(shape.answers or 0)]
    if (folder / ARTIFACT_FILE).is_file():
        (artifact,) = read_artifacts([folder])
        runtime, path = runtime_of(artifact.record.format), folder
    else:
        check_folder(folder)
        runtime, path = "torch", find_folder(str(folder))
    session = ImageSession(path, open_session(path, threads=threads, runtime=runtime))
    return _Answerer(folder, runtime, session, shape, load_vocabulary(str(folder)), labels, find_scale(path))


def _ask(
    answerer: _Answerer, image: dict[str, np.ndarray], questions: Sequence[str], options: AnswerOptions
) -> tuple[float | None, tuple[QuestionAnswer, ...]]:
    """Return the milliseconds of the part of the model that sees only the image, and the answers."""
    _, seen_ms = _time_warm(lambda: answerer.session.see(image))
    answers = tuple(_ask_one(answerer, question, options) for question in questions)
    return seen_ms if answerer.session.keeps_image else None, answers


def _ask_one(answerer: _Answerer, question: str, options: AnswerOptions) -> QuestionAnswer:
    """Return the most probable answers to one question about the image that the session has seen."""
    import numpy as np

    from lxcompress.data.tokens import tokenize

    ids = tokenize([question], answerer.vocabulary, MOST_TOKENS).astype(np.int64)
    most = answerer.shape.positions
    if most is not None and ids.shape[1] > most:
        raise DataError(f"question: has {ids.shape[1]} tokens, but the model reads at most {most}; ask a shorter one")
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    scores, model_ms = _time_warm(lambda: answerer.session.ask(feeds)[0])
    scale = answerer.scale or UNSCALED
    probabilities = scale.probabilities(scores[None])[0]
    best = np.argsort(-probabilities, kind="stable")[: options.top]
    answers = tuple(PossibleAnswer(answerer.labels[index], float(probabilities[index])) for index in best)
    return QuestionAnswer(question, answers, _judge(answers[0].probability, answerer.scale, options), model_ms)


def _judge(probability: float, scale: ConfidenceScale | None, options: AnswerOptions) -> bool | None:
    """Return whether an answer of this probability may be given; None if there is no threshold."""
    if options.threshold is None and scale is not None:
        return scale.is_sure(probability, options.risk)
    return None if options.threshold is None else probability >= options.threshold


def _find_threshold(scale: ConfidenceScale | None, options: AnswerOptions) -> float | None:
    """Return the threshold of the options, else that of the model's study; None if there is none."""
    if options.threshold is not None or scale is None:
        return options.threshold
    return scale.thresholds[options.risk]
