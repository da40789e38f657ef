"""The measurement that a page sends, and the bench that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lxcompress.errors import MeasureError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.measure.bench_warnings import sample_warnings
from lxcompress.records import (
    Amount,
    Artifact,
    BenchRecord,
    Count,
    Machine,
    Measurement,
    Positive,
    Record,
    Samples,
    Sha256,
    Task,
    read_record,
    read_unsealed,
)
from lxcompress.rundir import RunDir, sha256

RUNTIMES = {"engine-web": "engine", "onnxruntime-web": "onnx", "onnxruntime-web-webgpu": "onnx"}
"""The runtimes of a page: name -> the format that it runs."""
WARMUP = 20
"""The answers of page/timing.js before it measures."""
MOST_SAMPLES = 10_000
Name = Annotated[str, Field(min_length=1, max_length=60)]
Words = Annotated[str, Field(max_length=500)]


class Battery(Record):
    """The battery of the device: how full it is (0-1), and whether it is being charged."""

    level: Annotated[float, Field(ge=0, le=1)]
    charging: bool


class Conditions(Record):
    """The state of the device and of the page during a measurement, which can distort the times.

    `isolated` says whether the page had the precise clock, `wake_lock` whether the screen was kept on, and `hidden`
    whether the page was out of sight. `pressure` is the state that the browser gives of the processor: nominal, fair,
    serious or critical. `page_memory_bytes` is the memory of the whole page.
    """

    isolated: bool
    wake_lock: bool
    hidden: bool
    battery: Battery | None
    pressure: Words | None
    page_memory_bytes: Positive | None


class MeasuredModel(Record):
    """The samples of one model, in seconds; a sample is the mean of `repeats` answers.

    `sha256` is the checksum of the artifact's record, and `memory_bytes` the WebAssembly memory of the model. Its
    questions are about images of `objects` regions, and answered by `threads` threads; earlier pages have one number of
    each for all models.
    """

    sha256: Sha256
    runtime: Literal["engine-web", "onnxruntime-web", "onnxruntime-web-webgpu"] = "engine-web"
    runtime_version: Words | None = None
    objects: Positive | None = None
    threads: Positive | None = None
    samples: Annotated[list[Annotated[float, Field(gt=0, le=3600)]], Field(min_length=1, max_length=MOST_SAMPLES)]
    rounds: Annotated[list[Positive], Field(min_length=1, max_length=MOST_SAMPLES)]
    repeats: Positive
    compile_s: Amount
    fetch_s: Amount
    load_s: Amount
    memory_bytes: Positive

    @model_validator(mode="after")
    def _rounds_agree(self) -> MeasuredModel:
        if sum(self.rounds) != len(self.samples):
            raise ValueError(f"rounds add up to {sum(self.rounds)}, but there are {len(self.samples)} samples")
        return self


class PageMeasurement(Record):
    """A measurement that a page made on a device.

    `tick_s` is the smallest step of the clock. `lengths` are the tokens of each question, about an image of `objects`
    regions; a measurement that was stopped has fewer samples.
    """

    kind: Literal["lxcompress-page"]
    version: Literal[1]
    started: Words
    device: Name
    user_agent: Words
    cores: Positive
    memory_gb: Annotated[float, Field(gt=0, le=4096)] | None
    engine: Words
    threads: Positive
    lxcompress: Words
    tick_s: Annotated[float, Field(ge=0, le=1)]
    objects: Positive
    lengths: Annotated[list[Count], Field(min_length=1, max_length=MOST_SAMPLES)]
    conditions: Conditions
    models: Annotated[list[MeasuredModel], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _samples_have_lengths(self) -> PageMeasurement:
        most = max(len(model.samples) for model in self.models)
        if most > len(self.lengths):
            raise ValueError(f"a model has {most} samples, but there are {len(self.lengths)} questions")
        return self


def read_measurement(path: Path) -> PageMeasurement:
    """Return the measurement in a file that the page saved. Raises MeasureError."""
    return read_unsealed(path, PageMeasurement, MeasureError, remedy="save it again from the page")


def find_artifacts(run: RunDir) -> dict[str, Path]:
    """Return the artifacts of a run: SHA-256 of the record -> folder."""
    return {sha256(path): path.parent for path in run.artifact_records()}


def to_bench(sent: PageMeasurement, artifacts: Mapping[str, Path]) -> BenchRecord:
    """Return the bench of a page's measurement; `artifacts` maps the SHA-256 of an artifact's record to its folder.

    Raises MeasureError if a measured model is not one of them.
    """
    unknown = [model.sha256 for model in sent.models if model.sha256 not in artifacts]
    if unknown:
        raise MeasureError(
            f"{sent.device}: measured the artifact with SHA-256 {unknown[0][:12]}..., which this run does not have or "
            "has exported again; make the page again with lxcompress app, and measure again"
        )
    measurements = [_to_measurement(model, sent, artifacts[model.sha256]) for model in sent.models]
    return BenchRecord(
        started=sent.started,
        measurements=measurements,
        baseline=measurements[0].artifact_path,
        remarks=[f"measured by a page: {sent.user_agent}"],
    )


def _to_measurement(model: MeasuredModel, sent: PageMeasurement, folder: Path) -> Measurement:
    """Return the measurement of one model; its memory is the WebAssembly memory alone."""
    record = read_record(folder / ARTIFACT_FILE, Artifact, MeasureError)
    if record.format != RUNTIMES[model.runtime]:
        raise MeasureError(
            f"{sent.device}: measured {record.name} in {model.runtime}, which does not run the format {record.format}; "
            "make the page again with lxcompress app, and measure again"
        )
    lengths = sent.lengths[: len(model.samples)]
    return Measurement(
        artifact=record.name,
        artifact_path=str(folder.absolute()),
        artifact_sha256=model.sha256,
        cell=record.cell,
        twin=record.twin,
        format=record.format,
        precision=record.precision,
        task=Task(
            runtime=model.runtime,
            threads=model.threads or sent.threads,
            batch=1,
            tokens=sorted(lengths)[(len(lengths) - 1) // 2],
            objects=model.objects or sent.objects,
            lengths=lengths,
            warmup=WARMUP,
            runs=len(model.samples),
        ),
        machine=Machine(
            system=sent.user_agent,
            processor=f"{sent.device} ({sent.engine})",
            cores=sent.cores,
            memory_bytes=round((sent.memory_gb or 0) * 2**30),
            python="",
            accelerator=None,
            packages=_list_packages(model, sent),
        ),
        target=sent.device,
        latency=Samples(unit="s", values=model.samples),
        rounds=model.rounds,
        load_s=model.load_s,
        peak_bytes=model.memory_bytes,
        steady_bytes=model.memory_bytes,
        size_bytes=record.size_bytes,
        parameters=record.parameters,
        flops=record.flops,
        doubts=[*sample_warnings(model.samples), *_find_doubts(model, sent)],
    )


def _list_packages(model: MeasuredModel, sent: PageMeasurement) -> dict[str, str]:
    """Return the versions of what ran the model: name -> version."""
    packages = {"lxcompress": sent.lxcompress}
    if model.runtime_version is not None:
        packages["onnxruntime-web"] = model.runtime_version
    return packages


def _find_doubts(model: MeasuredModel, sent: PageMeasurement) -> list[str]:
    """Return warnings about the clock and the conditions on the device."""
    doubts = []
    if model.repeats > 1:
        tick = f"{1000 * sent.tick_s:.2g} ms"
        doubts.append(f"coarse clock ({tick}): a sample is the mean of {model.repeats} answers, so p99 is too low")
    if sent.conditions.hidden:
        doubts.append("the page was hidden while it measured: measure again")
    if sent.conditions.pressure in ("serious", "critical"):
        doubts.append(f"the processor was under {sent.conditions.pressure} pressure: let the device cool, and repeat")
    battery = sent.conditions.battery
    if battery is not None and not battery.charging:
        doubts.append(f"on battery ({100 * battery.level:.0f} %): the device may save energy")
    return doubts
