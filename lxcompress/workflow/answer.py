"""Answer questions about one photograph: extract its features once, and ask a model about them.

Shapes: S pixels a side, O regions, F features, L tokens, A answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.catalog.extractors import (
    DETECTOR,
    EXTRACTOR_NAMES,
    PIXELS,
    TRANSFORMERS,
    is_extractor,
    read_extractor,
)
from lxcompress.confidence.measures import RISKS
from lxcompress.confidence.record import ConfidenceScale, find_scale
from lxcompress.errors import DataError, ModelError, RunError
from lxcompress.filenames import ARTIFACT_FILE, EXTRACTOR_FILE
from lxcompress.output import command_line
from lxcompress.workflow.features import ExtractOptions, open_extractor

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
UNSCALED = ConfidenceScale(temperature=1.0, thresholds={})
"""For a model whose confidence was not measured."""
MOST_NATURAL_ZEROS = 0.01
"""The published weights have 0.2 % zeros in their 1 x 1 convolutions; with more than this they were pruned."""
MOST_TOKENS = 1_000_000
"""More tokens than any question has: a question is never cut."""


@dataclass(frozen=True)
class AnswerOptions:
    """The options of an answer.

    `extractor` is by default the one that the model was trained with. `weights` are its weights, if it comes without
    any. `top` is the number of answers to a question.
    The model is not sure of an answer whose probability is below `threshold` (0-1). None is the threshold that kept the
    mean credit of wrong answers at `risk` (0.01, 0.05 or 0.1) in the model's study; without one it always answers.
    """

    extractor: str | None = None
    top: int = 5
    threshold: float | None = None
    threads: int = 1
    weights: Path | None = None
    risk: float = 0.05


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
    depend on the question; it is None if the runtime repeats this part for each question. `warnings` are for the user.
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
    _check_version(folder, shape, extractor)
    if exported is not None and exported.pruned > MOST_NATURAL_ZEROS:
        warnings += (
            f"{options.extractor}: {100 * exported.pruned:.0f} % of its 1 x 1 convolutions are removed; the model was "
            "trained on features of the whole extractor",
        )
    started = time.perf_counter()
    picture = _read_picture(photo, extractor)
    seen = time.perf_counter()
    image = _keep_regions(_extract(extractor, picture, options.threads), origin)
    extracted = time.perf_counter()
    _check_width(folder, shape, image["visual_feats"], extract_options.extractor)
    answerer = _open_answerer(folder, shape, options.threads)
    image_ms, answers = _ask(answerer, image, questions, options)
    return PhotoAnswers(
        photo=photo,
        model=folder,
        runtime=answerer.runtime,
        extractor=extract_options.extractor,
        threshold=_find_threshold(answerer.scale, options),
        photo_ms=MS * (seen - started),
        extractor_ms=MS * (extracted - seen),
        image_ms=image_ms,
        answers=answers,
        warnings=warnings,
    )


def check_request(photo: Path, questions: Sequence[str], options: AnswerOptions) -> None:
    """Raise DataError for an option that has no meaning, before any library is imported."""
    if not questions:
        raise DataError(f'{photo}: is a photograph without a question; give one: lxcompress answer {photo} "..."')
    if any(not question.strip() for question in questions):
        raise DataError("question: is empty; write what you want to know about the photograph")
    if photo.is_dir() or not photo.exists():
        what = "is a folder" if photo.is_dir() else "no such file"
        raise DataError(f"{photo}: {what}; give one JPEG, PNG or WebP photograph")
    if options.top < 1:
        raise DataError(f"--top {options.top}: expected 1 or more")
    if options.threads < 1:
        raise DataError(f"--threads {options.threads}: expected 1 or more")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise DataError(f"--threshold {options.threshold:g}: expected a probability, 0 to 1")
    if options.risk not in RISKS:
        raise DataError(f"--risk {options.risk:g}: expected one of {', '.join(map(str, RISKS))}")
    if options.extractor is not None and not is_known_extractor(options.extractor):
        raise DataError(
            f"--extractor {options.extractor}: is unknown; give one of {', '.join(EXTRACTOR_NAMES)}, or "
            "the folder of an exported extractor"
        )


def is_known_extractor(extractor: str) -> bool:
    """Return whether `extractor` is the name of an extractor, or the folder of an exported one."""
    return is_extractor(extractor) or (Path(extractor) / EXTRACTOR_FILE).is_file()


def find_answering_folder(model: Path) -> Path:
    """Return the folder of the model that answers: `model` itself, or the picked file of the run folder `model`.

    Raises RunError if nothing in the run satisfies its rule, and ModelError if there is no such model.
    """
    from lxcompress.rundir import RunDir, read_run
    from lxcompress.workflow.checks import check_scored

    if not RunDir(model).recipe.is_file():
        check_scored(str(model))
        return model
    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise

    summary = summarise(read_run(model))
    picked = pick_ticket(summary, default_rule(summary)).picked
    if picked is None:
        raise RunError(
            f"{model}: no ticket of this run satisfies its rule ({command_line('pick', model)} says why); give one of "
            "its tickets, or the dense model in seeds/SEED/dense"
        )
    return picked.exported.folder if picked.exported else picked.ticket


def choose_extractor(
    folder: Path, shape: ModelShape, origin: FeatureOrigin | None, wanted: str | None
) -> tuple[ExtractOptions, tuple[str, ...]]:
    """Return the options of the extractor that makes the features which the model reads, and warnings for the user.

    `origin` is how the features of its training were made, and `wanted` the extractor that the user named. Raises
    ModelError if the model was trained on other features.
    """
    found = read_extractor(origin.made_with) if origin else None
    if origin is None or found is None:
        trained = _describe_training(folder)
        if wanted is None:
            raise ModelError(
                f"{folder}: {trained}, so its answers about a photograph mean nothing; give a model that was trained "
                "on a store of lxcompress features (docs/photos.md), or name the extractor of its features with "
                "--extractor"
            )
        side = shape.picture_size if wanted == PIXELS else None
        return ExtractOptions(extractor=wanted, side=side), (
            f"{folder}: {trained}; if it never saw features of {wanted}, these answers mean nothing",
        )
    name, side = found
    is_folder = name.startswith(TRANSFORMERS)  # the model names the folder, and only the user knows where it is
    if is_folder and wanted is None:
        raise ModelError(
            f"{folder}: was trained on features of {name}; give the folder of this network as "
            f"--extractor {TRANSFORMERS}FOLDER"
        )
    if wanted not in (None, name) and not (is_folder and str(wanted).startswith(TRANSFORMERS)):
        raise ModelError(
            f"{folder}: was trained on features of {name} ({shape.feature_size:,} for a region), not of {wanted}; "
            "leave --extractor out"
        )
    if not is_extractor(name):
        raise ModelError(
            f"{folder}: was trained on features of {name}, which this lxcompress lacks; upgrade it, or give another "
            "model"
        )
    grid = None if name in (PIXELS, DETECTOR) else math.isqrt(origin.regions)
    return ExtractOptions(extractor=wanted or name, grid=grid, side=side), ()


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


def _describe_training(folder: Path) -> str:
    """Return a clause that says on what a model was trained whose config names no extractor."""
    from lxcompress.recipe import load_run_recipe
    from lxcompress.records import Provenance, read_record
    from lxcompress.rundir import find_run
    from lxcompress.tickets import is_ticket

    kind = None
    if is_ticket(folder):
        from lxcompress.filenames import TICKET_FILE

        kind = (read_record(folder / TICKET_FILE, Provenance).data or {}).get("kind")
    elif run := find_run(folder):
        kind = load_run_recipe(run.recipe).data.kind
    if kind == "scenes":
        return "was trained on generated scenes, and never saw a photograph"
    return "names no extractor of photographs that it was trained with"


def _check_version(folder: Path, shape: ModelShape, extractor: Extractor) -> None:
    """Raise ModelError unless the extractor has the weights with which the features of the training were made."""
    from lxcompress.data.regions.identity import is_same_extractor, name_extractors

    if shape.extractor and not is_same_extractor(shape.extractor, extractor.record):
        own, other = name_extractors(shape.extractor, extractor.record)
        raise ModelError(
            f"{folder}: was trained on features of {own}, not of {other}; give the weights of the training"
        )


def _read_picture(photo: Path, extractor: Extractor) -> Picture:
    """Return the photograph as the extractor reads it. Raises DataError."""
    from lxcompress.data.regions.rows import RowError
    from lxcompress.extractors.photo import quiet_pillow

    try:
        with quiet_pillow():
            return extractor.read(photo)
    except RowError as problem:
        raise DataError(f"{photo}: {problem}") from None


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


def _check_width(folder: Path, shape: ModelShape, features: np.ndarray, extractor: str) -> None:
    """Raise ModelError unless the model reads as many features of a region as the extractor gives."""
    width = features.shape[-1]
    if shape.feature_size != width:
        raise ModelError(
            f"{folder}: reads regions of {shape.feature_size:,} features, but {extractor} gives {width:,}; give the "
            "extractor that it was trained with, or another model"
        )


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
    started = time.perf_counter()
    answerer.session.see(image)
    seen_ms = MS * (time.perf_counter() - started)
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
    started = time.perf_counter()
    scores = answerer.session.ask({"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    model_ms = MS * (time.perf_counter() - started)
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
