"""Check what is asked about a photograph, and find the model that answers and the extractor of its features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
from lxcompress.errors import DataError, ModelError, RunError
from lxcompress.filenames import EXTRACTOR_FILE
from lxcompress.output import command_line
from lxcompress.workflow.features import ExtractOptions

if TYPE_CHECKING:
    import numpy as np

    from lxcompress.data.fit import ModelShape
    from lxcompress.extractors.source import Extractor
    from lxcompress.records import FeatureOrigin


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


def check_version(folder: Path, shape: ModelShape, extractor: Extractor) -> None:
    """Raise ModelError unless the extractor has the weights with which the features of the training were made."""
    from lxcompress.data.regions.identity import is_same_extractor, name_extractors

    if shape.extractor and not is_same_extractor(shape.extractor, extractor.record):
        own, other = name_extractors(shape.extractor, extractor.record)
        raise ModelError(
            f"{folder}: was trained on features of {own}, not of {other}; give the weights of the training"
        )


def check_width(folder: Path, shape: ModelShape, features: np.ndarray, extractor: str) -> None:
    """Raise ModelError unless the model reads as many features of a region as the extractor gives."""
    width = features.shape[-1]
    if shape.feature_size != width:
        raise ModelError(
            f"{folder}: reads regions of {shape.feature_size:,} features, but {extractor} gives {width:,}; give the "
            "extractor that it was trained with, or another model"
        )


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
