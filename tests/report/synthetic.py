"""Run folders written out of real records, with scores that a rule chooses instead of a training."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxcompress.catalog.criteria import find_criterion
from lxcompress.catalog.runtimes import list_serving
from lxcompress.recipe import Cell, Recipe, dump_recipe, plain_method
from lxcompress.records import (
    Artifact,
    BenchRecord,
    Dense,
    Epoch,
    Floors,
    Machine,
    Measurement,
    Parity,
    Record,
    Result,
    Samples,
    Score,
    Sparsity,
    Task,
    Usage,
    dump_sealed,
    read_record,
)
from lxcompress.rundir import RunDir, sha256

TYPES = ("yes/no", "number", "other")
PRUNABLE = 1_800_000
LIVE = 2_000_000
ALL = 2_100_000

VQA = {"kind": "vqa", "train": "train.json", "valid": "minival.json", "features": "features"}
TENTHS = tuple(tenth / 10 for tenth in range(1, 10))

METHODS: tuple[dict[str, Any], ...] = (
    {"criterion": "low-magnitude"},
    {"criterion": "random"},
    {"criterion": "high-magnitude"},
    {"criterion": "movement"},
    {"criterion": "taylor"},
    {"criterion": "wanda", "scope": "row"},
    {"criterion": "fisher"},
    {"scope": "global"},
    {"scope": "modality", "relative_rates": {"language": 1.0, "vision": 0.5, "cross": 1.0, "head": 0.0}},
    {"scope": "sensitivity"},
    {"criterion": "fisher", "schedule": "iterative", "rate": 0.2},
    {"schedule": "iterative-retrain", "rate": 0.2, "rewind": "step", "rewind_at": 0.05},
    {"schedule": "gradual"},
    {"rewind": "learning-rate"},
    {"rewind": "none", "name": "tuned"},
    {"distill": {}},
    {"granularity": "block-1x4"},
    {"granularity": "2:4"},
    {"granularity": "neuron"},
    {"granularity": "head"},
    {"granularity": "neuron+head", "scope": "global"},
    {"control": "shuffled"},
    {"control": "reinitialised"},
    {"control": "dense-longer"},
    {"control": "small-dense"},
)
"""One method of each kind, 25 in all."""
DENSE_FLOPS = 31_000_000
STARTED = "2026-01-02T03:04:05Z"

MACHINE = Machine(
    system="Linux-6.1-x86_64",
    processor="Toy Processor 9000",
    cores=2,
    memory_bytes=16_000_000_000,
    python="3.11.9",
    accelerator=None,
    packages={"torch": "2.9.0", "transformers": "5.0.0", "onnxruntime": "1.23.0"},
)


@dataclass(frozen=True)
class Accuracies:
    """What a synthetic cell scores at its three stages."""

    pruned: float
    rewound: float
    retrained: float


def recipe(
    *,
    criteria: Sequence[str] | None = ("low-magnitude", "random", "high-magnitude"),
    methods: Sequence[Mapping[str, Any]] = (),
    sparsities: Sequence[float] = (0.5, 0.7, 0.9),
    seeds: Sequence[int] = (0, 1, 2),
    retain: float = 0.99,
    data: Mapping[str, object] | None = None,
    protocol: str | Sequence[str] = "corrected",
) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "seeds": seeds,
            "protocol": protocol,
            "data": data or {"kind": "scenes"},
            "prune": {"criteria": criteria, "methods": methods, "sparsities": sparsities},
            "pick": {"retain": retain},
        }
    )


def many(**given: Any) -> Recipe:
    """A recipe of 25 methods, structured ones and controls among them, at four sparsities."""
    return recipe(**{"criteria": None, "methods": METHODS, "sparsities": (0.5, 0.7, 0.8, 0.9), **given})


def curve(cell: Cell) -> Accuracies:
    """A study with something to find: low-magnitude holds until 70 %, random falls slowly, high-magnitude at once."""
    noise = random.Random(cell.id).uniform(-0.004, 0.004)
    steep = {"low-magnitude": 5.0, "random": 1.9, "high-magnitude": 1.1}.get(cell.method.criterion, 4.0)
    is_plain = cell.method == plain_method(cell.method.criterion, cell.method.granularity)
    steep += 0.0 if is_plain else random.Random(cell.method.id).uniform(-0.8, 1.5)
    if cell.method.control in ("dense-longer", "small-dense"):
        return Accuracies(0.1, 0.1, 0.815 - 0.09 * cell.sparsity**2 + noise)
    if cell.method.is_structured:
        steep /= 2
    lost = cell.sparsity**steep
    return Accuracies(
        pruned=0.78 - 0.36 * min(1, 1.2 * lost) + noise,
        rewound=0.36 - 0.04 * lost + noise,
        retrained=0.80 - 0.2 * lost * cell.sparsity**2 + noise,
    )


def dense_curve(seed: int) -> float:
    return 0.80 + random.Random(seed).uniform(-0.006, 0.006)


def write_text(path: Path, text: str) -> None:
    """Write a file without a guard against a kill, which takes a folder and a lock of its own for each file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_record(path: Path, record: Record) -> None:
    write_text(path, dump_sealed(record))


def write_run(
    root: Path,
    recipe: Recipe,
    *,
    score: Callable[[Cell], Accuracies | None] = curve,
    dense: Callable[[int], float | None] = dense_curve,
    types: Sequence[str] = TYPES,
    floor: float | None = 0.42,
    questions: int = 1500,
    usage: Callable[[str], Usage | None] = lambda name: None,
    regrown: Callable[[Cell], int] = lambda cell: 0,
) -> RunDir:
    """A run folder; a cell or dense run scored None is not finished.

    `usage` is asked with dense-seed0 or a cell's id; what it gives ran on a GPU.
    """
    run = RunDir(root)
    write_text(run.recipe, dump_recipe(recipe))
    write_record(run.machine, MACHINE)
    if floor is not None:
        write_record(run.floors, floors(floor, types))
    for seed in recipe.seeds:
        accuracy = dense(seed)
        if accuracy is not None:
            write_record(run.dense_result(seed), dense_record(seed, accuracy, types, usage(f"dense-seed{seed}")))
    for cell in recipe.cells():
        accuracies = score(cell)
        if accuracies is not None:
            result = result_record(cell, accuracies, types, questions, usage(cell.id))
            write_record(run.result(cell), result.model_copy(update={"regrown": regrown(cell)}))
    return run


def write_artifact(
    run: RunDir,
    name: str,
    *,
    cell: str | None,
    size_bytes: int = 9_000_000,
    source: float = 0.8,
    accuracy: float | None = 0.8,
    precision: str = "fp32",
    format: str = "onnx",
    twin: str | None = None,
    unproven: str | None = None,
    parameters: int | None = None,
) -> Path:
    """An artifact's record in its folder; returns the folder."""
    folder = run.artifacts / name
    parity = Parity(questions=64, inputs="validation", max_abs_difference=2.4e-6, changed_answers=0, tolerance=1e-4)
    artifact = Artifact(
        name=name,
        source=f"tickets/{cell}" if cell else "seeds/0/dense",
        cell=cell,
        twin=twin,
        format=format,
        precision=precision,
        files={"model.onnx": "0" * 64},
        size_bytes=size_bytes,
        answers=28,
        tokens=20,
        objects=10,
        feature_size=32,
        prunable_zeros=0.7 if cell else 0.0,
        parameters=parameters,
        parity=None if unproven else parity,
        unproven=unproven,
        source_accuracy=score(source),
        accuracy=None if accuracy is None else score(accuracy),
        machine=MACHINE,
    )
    write_record(folder / "artifact.json", artifact)
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(size_bytes)  # a hole: it takes no space on the disk
    return folder


TWINS = (
    ("dense", "onnx", "fp32", 856_000_000, 0.7220, 0.128, 800_000_000),
    ("dense int8", "onnx", "int8", 207_000_000, 0.7203, 0.044, 426_000_000),
    ("ticket", "onnx", "fp32", 856_000_000, 0.7310, 0.127, 800_000_000),
    ("ticket int8", "onnx", "int8", 207_000_000, 0.7291, 0.043, 427_000_000),
    ("structured", "onnx", "fp32", 430_000_000, 0.7150, 0.071, 470_000_000),
    ("ticket fp16", "bitmask", "fp16", 266_000_000, 0.7308, 0.187, 1_240_000_000),
    ("dense int8", "openvino", "int8", 209_000_000, 0.7198, 0.034, 696_000_000),
    ("ticket int8", "executorch", "int8", 286_000_000, 0.7288, 0.034, 662_000_000),
)
"""What stands for what, its format, precision, bytes, accuracy, p90 latency and peak memory: like full-size LXMERT."""


def write_twins(run: RunDir, cell: str, *, threads: Sequence[int] = (1, 2)) -> list[Path]:
    """The ticket of `cell` beside its alternatives, in some formats, each measured at some numbers of threads."""
    folders = []
    for kind, format, precision, size, accuracy, latency, peak in TWINS:
        base = kind.split(" ")[0]
        folder = write_artifact(
            run,
            f"{base if base != 'ticket' else cell}-{format}-{precision}",
            cell={"dense": None, "structured": "neuron+head-50-seed0"}.get(base, cell),
            size_bytes=size,
            source=0.722 if base == "dense" else 0.731,
            accuracy=accuracy,
            precision=precision,
            format=format,
            twin=kind,
        )
        folders.append(folder)
        for count in threads:
            write_bench(
                run,
                f"{folder.name}-{count}",
                [folder],
                latency_s=latency / count**0.8,
                peak_bytes=peak,
                threads=count,
                lengths=(7, 9, 9, 12, 8) * 9,
                runtime=list_serving(format)[0],
                steady_bytes=round(0.8 * peak),
                cold_load_s=2.5,
                energy_j=14 * latency,
            )
    for count in threads:
        parts = [run.measurements / f"{folder.name}-{count}.json" for folder in folders]
        measured = [measurement for part in parts for measurement in read_record(part, BenchRecord).measurements]
        for part in parts:
            part.unlink()
        write_record(run.measurements / f"twins-{count}.json", BenchRecord(started=STARTED, measurements=measured))
    return folders


def write_bench(
    run: RunDir,
    name: str,
    folders: Sequence[Path],
    *,
    started: str = STARTED,
    latency_s: float | Sequence[float] = 0.004,
    peak_bytes: int | Sequence[int] | None = 120_000_000,
    doubts: Mapping[str, Sequence[str]] | None = None,
    threads: int = 1,
    lengths: Sequence[int] = (),
    runtime: str = "onnxruntime",
    target: str | None = None,
    steady_bytes: int | None = None,
    cold_load_s: float | None = None,
    energy_j: float | None = None,
) -> None:
    """One bench of the artifacts in `folders`; the p90 latency is exactly `latency_s`, the same for all or one each."""
    measurements = []
    times = [latency_s] * len(folders) if isinstance(latency_s, float) else list(latency_s)
    peaks = list(peak_bytes) if isinstance(peak_bytes, Sequence) else [peak_bytes] * len(folders)
    for folder, time, peak in zip(folders, times, peaks, strict=True):
        artifact = Artifact.model_validate_json((folder / "artifact.json").read_text(encoding="utf-8"))
        task = Task(
            runtime=runtime,
            threads=threads,
            batch=1,
            tokens=sorted(lengths)[len(lengths) // 2] if lengths else 20,
            objects=10,
            lengths=list(lengths),
            warmup=5,
            runs=41,
        )
        measurements.append(
            Measurement(
                artifact=artifact.name,
                artifact_path=str(folder),
                artifact_sha256=sha256(folder / "artifact.json"),
                cell=artifact.cell,
                twin=artifact.twin,
                format=artifact.format,
                precision=artifact.precision,
                task=task,
                machine=MACHINE,
                target=target,
                latency=Samples(unit="s", values=[time * (0.64 + 0.01 * step) for step in range(41)]),
                load_s=0.12,
                cold_load_s=cold_load_s,
                peak_bytes=peak,
                steady_bytes=steady_bytes,
                size_bytes=artifact.size_bytes,
                energy_j=energy_j,
                doubts=list((doubts or {}).get(artifact.name, ())),
            )
        )
    write_record(run.measurements / f"{name}.json", BenchRecord(started=started, measurements=measurements))


def score(accuracy: float, types: Sequence[str] = TYPES, questions: int = 1500) -> Score:
    """A Score whose types lie around its accuracy."""
    accuracy = max(0.0, round(accuracy, 6))
    by_type = {name: max(0.0, min(1.0, accuracy + 0.06 - 0.06 * index)) for index, name in enumerate(types)}
    return Score(accuracy=accuracy, by_type=by_type, questions=questions)


def floors(accuracy: float, types: Sequence[str] = TYPES) -> Floors:
    return Floors(
        majority=score(accuracy - 0.2, types),
        majority_per_type=score(accuracy - 0.06, types),
        question_only=score(accuracy, types),
    )


def dense_record(seed: int, accuracy: float, types: Sequence[str], usage: Usage | None = None) -> Dense:
    return Dense(
        seed=seed,
        start=score(0.12, types),
        trained=score(accuracy, types),
        epochs=_epochs(seed, accuracy, types),
        steps=752,
        duration_s=61.0,
        **_where(usage),
    )


def result_record(
    cell: Cell, accuracies: Accuracies, types: Sequence[str], questions: int, usage: Usage | None = None
) -> Result:
    method = cell.method
    is_smaller = method.is_structured or method.control == "small-dense"
    # Widths are multiples of 8, so that a structured ticket seldom has just what was asked of it.
    kept = PRUNABLE - round((cell.sparsity - 0.013 * is_smaller) * PRUNABLE)
    removed = PRUNABLE - kept
    share = kept / PRUNABLE if is_smaller else 1.0
    trainings = 2 if method.control == "dense-longer" else 1
    if method.schedule == "iterative-retrain":
        trainings = math.ceil(math.log(1 - cell.sparsity) / math.log(1 - (method.rate or 0.2)))
    drawing_s = 0.0 if find_criterion(method.criterion).reads_weights_only else 4.0
    return Result(
        cell=cell.id,
        method={"id": method.id, **method.model_dump(mode="json", exclude_defaults=True)},
        criterion=method.criterion,
        granularity=method.granularity,
        scope=method.scope,
        target=cell.sparsity,
        seed=cell.seed,
        sparsity=Sparsity(
            prunable=PRUNABLE,
            kept=kept,
            achieved=removed / PRUNABLE,
            of_live=removed / LIVE,
            of_all=removed / ALL,
            live=LIVE,
            all=ALL,
        ),
        pruned=score(accuracies.pruned, types),
        rewound=score(accuracies.rewound, types),
        retrained=score(accuracies.retrained, types, questions),
        kept_by_modality={
            "language": kept / PRUNABLE,
            "vision": kept / PRUNABLE,
            "cross": kept / PRUNABLE,
            "head": 1.0,
        },
        parameters=ALL - (removed if is_smaller else 0),
        flops=round(DENSE_FLOPS * share),
        drawing_s=drawing_s,
        epochs=_epochs(cell.seed, accuracies.retrained, types),
        steps=752 * trainings,
        duration_s=63.0 * trainings + drawing_s,
        **_where(usage),
    )


def gpu_usage(name: str) -> Usage:
    """What a run of that name took of a GPU: drawn by its name, over a second more than the run's own time."""
    chance = random.Random(name)
    return Usage(
        gpu="Toy GPU 80GB",
        peak_bytes=chance.randint(9_000_000_000, 12_000_000_000),
        utilisation=chance.uniform(0.7, 0.95),
        energy_j=chance.uniform(15_000, 25_000),
        duration_s=(61.0 if name.startswith("dense") else 63.0) + 1.0,
    )


def _where(usage: Usage | None) -> dict[str, Any]:
    place = {"device": "cpu", "precision": "fp32"} if usage is None else {"device": "cuda", "precision": "bf16"}
    return {**place, "machine": MACHINE, "usage": usage}


def _epochs(seed: int, accuracy: float, types: Sequence[str]) -> list[Epoch]:
    return [
        Epoch(
            epoch=index,
            train_loss=2.0 / index + 0.01 * seed,
            valid=score(accuracy - 0.02 * (4 - index), types),
            duration_s=15,
        )
        for index in range(1, 5)
    ]
