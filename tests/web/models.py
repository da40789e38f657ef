"""Small models and extractors as files, for the tests of pages."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from lxcompress.confidence.record import AnswerConfidence, make_record
from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.extractors.artifact import ExtractorArtifact
from lxcompress.filenames import EXTRACTOR_FILE, RELIABILITY_FILE
from lxcompress.machine import describe_machine
from lxcompress.models.checkpoints import save_model
from lxcompress.models.origin import set_origin
from lxcompress.models.start import NewLayers, load_start
from lxcompress.records import FeatureOrigin
from lxcompress.rundir import sha256, write_record


def export_engine(
    start: Path,
    folder: Path,
    *,
    name: str = "model-engine",
    origin: FeatureOrigin | None = None,
    features: int | None = None,
    precision: Literal["fp32", "int8"] = "fp32",
) -> Path:
    """Export the start model with a new answer head for scenes as the engine file folder/name, and return the path.

    With `origin` it reads photographs.
    """
    made, _ = load_start(str(start), ANSWERS, 0, layers=NewLayers(features=features))
    if origin is not None:
        set_origin(made.config, origin)
    save_model(folder / "model", made, made.weights, shipped_vocabulary())
    export(open_source(folder / "model"), folder / name, ExportOptions("engine", precision, layouts="table"))
    return folder / name


def write_confidence(folder: Path, *, temperature: float) -> None:
    """Write the confidence of a model whose answers are right if they are more probable than 0.5."""
    confidences = np.array([0.9, 0.8, 0.2, 0.1])
    credits = np.array([1.0, 1.0, 0.0, 0.0])
    answers = AnswerConfidence(
        temperature=temperature,
        labels=np.zeros(4, np.int64),
        confidences=confidences,
        raw=confidences,
        credits=credits,
        types=("color",) * 4,
        majority={"color": 0},
    )
    write_record(folder / RELIABILITY_FILE, make_record(answers))


def write_extractor(folder: Path, *, format: str) -> Path:
    """Write an exported extractor whose file nobody can run; return its folder."""
    folder.mkdir()
    (folder / "model.lxe").write_bytes(b"nothing")
    record = ExtractorArtifact(
        extractor="grid-efficientnet-lite0",
        format=format,
        precision="fp32",
        grid=2,
        side=224,
        features=1280,
        files={"model.lxe": sha256(folder / "model.lxe")},
        size_bytes=7,
        pictures=1,
        max_abs_difference=0.0,
        largest_feature=1.0,
        least_cosine=1.0,
        machine=describe_machine(),
    )
    write_record(folder / EXTRACTOR_FILE, record)
    return folder
