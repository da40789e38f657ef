"""Groups, artifacts and runs made by hand, in memory: a law needs few numbers and no folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread, Stage
from lxcompress.analysis.prediction import Prediction
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.usage import UsageTotals
from lxcompress.recipe import Method
from lxcompress.records import Artifact, BenchRecord, Floors, Measurement, Samples, Score, Task
from tests.report.synthetic import MACHINE, recipe

ROOT = Path("run")
USAGE = UsageTotals(1, 60.0, 0.0, (), None, None, None, counted=0, resumed=0)
LOW = Method()


def spread(*values: float) -> Spread:
    """The values of seeds 0, 1, ..."""
    return Spread(dict(enumerate(values)))


def stage(*values: float) -> Stage:
    return Stage(spread(*values), {})


def group(*accuracies: float, dense: Sequence[float] = (), method: Method = LOW, **given: Any) -> SeedGroup:
    """A group with these retrained accuracies of seeds 0, 1, ...; `dense` are 0.8 unless given."""
    own = stage(*accuracies)
    dense = tuple(dense) or (0.8,) * len(accuracies)
    baseline = sum(dense) / len(dense)
    values: dict[str, Any] = {
        "key": GroupKey(method, given.pop("target", 0.5)),
        "missing": (),
        "achieved": spread(*[given.pop("achieved", 0.5)] * len(accuracies)),
        "of_live": 0.4,
        "of_all": 0.4,
        "removed": 100.0,
        "regrown": spread(*[0] * len(accuracies)),
        "pruned": own,
        "rewound": own,
        "retrained": own,
        "paired": spread(*[mine - its for mine, its in zip(accuracies, dense, strict=True)]),
        "retained": own.overall.mean / baseline if baseline else None,
        "ratios": None,
        "parameters": 1_000_000.0,
        "flops": None,
        "cell_s": 60.0,
        "steps": 1.0,
        "usage": USAGE,
    }
    return SeedGroup(**{**values, **given})


def score(accuracy: float, questions: int = 1000) -> Score:
    return Score(accuracy=accuracy, by_type={}, questions=questions)


def floors(majority: float, question_only: float, per_type: float = 0.0) -> Floors:
    return Floors(majority=score(majority), majority_per_type=score(per_type), question_only=score(question_only))


def task(**given: Any) -> Task:
    values = {"runtime": "onnxruntime", "threads": 1, "batch": 1, "tokens": 9, "objects": 5, "warmup": 1, "runs": 8}
    return Task.model_validate({**values, **given})


def measured(name: str, latency_ms: float, peak_mb: float | None = 100.0, **given: Any) -> Measurement:
    """A measurement whose samples, in eight rounds, are all the same."""
    own_task = task(**{key: given.pop(key) for key in tuple(given) if key in Task.model_fields})
    values: dict[str, Any] = {
        "artifact": name,
        "artifact_path": f"artifacts/{name}",
        "artifact_sha256": "0" * 64,
        "cell": None,
        "format": "onnx",
        "task": own_task,
        "machine": MACHINE,
        "latency": Samples(unit="ms", values=[latency_ms] * 8),
        "rounds": [1] * 8,
        "doubts": [],
        "load_s": 0.1,
        "peak_bytes": None if peak_mb is None else round(peak_mb * 1e6),
        "size_bytes": 1,
    }
    return Measurement(**{**values, **given})


def artifact(name: str = "file", *, cell: str | None = None, **given: Any) -> Artifact:
    values: dict[str, Any] = {
        "name": name,
        "source": f"tickets/{cell}" if cell else "seeds/0/dense",
        "cell": cell,
        "format": "onnx",
        "precision": "fp32",
        "files": {"model.onnx": "0" * 64},
        "size_bytes": 5_000_000,
        "answers": 28,
        "tokens": 20,
        "objects": 10,
        "feature_size": 32,
        "prunable_zeros": 0.0,
        "parity": None,
        "unproven": None,
        "source_accuracy": score(0.8),
        "accuracy": score(0.8),
        "machine": MACHINE,
    }
    return Artifact.model_validate({**values, **given})


def exported(name: str = "file", *measurements: Measurement, **given: Any) -> ExportedArtifact:
    """An artifact of 5 MB with accuracy 0.8; the measurements are of no bench until `bench` puts them into one."""
    own = {key: given.pop(key) for key in tuple(given) if key in ExportedArtifact.__dataclass_fields__}
    values: dict[str, Any] = {
        "folder": ROOT / "artifacts" / name,
        "artifact": artifact(name, **given),
        "sha256": "0" * 64,
        "measurements": measurements,
        "outdated": None,
        "warnings": (),
    }
    return ExportedArtifact(**{**values, **own})


def bench(*artifacts: ExportedArtifact, again: Sequence[Measurement] = ()) -> list[ExportedArtifact]:
    """The artifacts with their measurements in a new bench; its baseline, the first one, was measured `again`."""
    found = BenchRecord(
        started="2026-01-02T03:04:05Z",
        measurements=[measurement for artifact in artifacts for measurement in artifact.measurements],
        noise=list(again),
    )
    return [
        replace(artifact, benches=(*((measurement, found) for measurement in artifact.measurements), *artifact.benches))
        for artifact in artifacts
    ]


def prediction(**given: Any) -> Prediction:
    """An int8 file in ONNX of 2 MB that can be exported here."""
    values: dict[str, Any] = {
        "cell": "cell",
        "ticket": ROOT / "tickets" / "cell",
        "folder": ROOT / "artifacts" / "cell-onnx-int8",
        "format": "onnx",
        "precision": "int8",
        "size_mb": 2.0,
        "missing": None,
        "sibling": None,
    }
    return Prediction(**{**values, **given})


def summary(*groups: SeedGroup, dense: Sequence[float] = (0.8,), **given: Any) -> RunSummary:
    """A finished run of these groups, without floors unless they are given."""
    values: dict[str, Any] = {
        "root": ROOT,
        "recipe": recipe(seeds=tuple(range(len(dense))), criteria=["low-magnitude"], sparsities=(0.5,)),
        "machine": MACHINE,
        "floors": None,
        "dense": stage(*dense),
        "dense_missing": (),
        "groups": groups,
        "twins": (),
        "unstarted": (),
        "artifacts": (),
        "usage": None,
        "dense_runs": (),
        "results": (),
        "twin_results": (),
        "warnings": (),
    }
    return RunSummary(**{**values, **given})
