"""The exported artifacts of a run, each with the measurements of the file that is in its folder now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.catalog.runtimes import list_serving
from lxcompress.errors import RunError
from lxcompress.output import command_line
from lxcompress.recipe import STRUCTURED
from lxcompress.records import Artifact, BenchRecord, Measurement, read_record
from lxcompress.rundir import Run, sha256, twins_of
from lxcompress.stats import Percentiles, percentiles

MILLISECONDS: dict[str, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""A unit of time -> how many milliseconds it has."""


@dataclass(frozen=True)
class ExportedArtifact:
    """An exported artifact, and what was measured of it.

    `measurements` holds the newest measurement of each task, that of the default task first. `outdated` is the newest
    measurement of an earlier file in the same folder; it is None once the present file is measured. `benches` holds
    each measurement of the present file together with the bench that it belongs to, the newest first. `is_smaller` says
    whether the model has smaller matrices (structured pruning), instead of a mask. `sha256` is the checksum of the
    artifact's record.
    """

    folder: Path
    artifact: Artifact
    sha256: str
    measurements: tuple[Measurement, ...]
    outdated: Measurement | None
    warnings: tuple[str, ...]
    benches: tuple[tuple[Measurement, BenchRecord], ...] = ()
    is_smaller: bool = False

    @property
    def name(self) -> str:
        """The name of the artifact, which is also the name of its folder."""
        return self.artifact.name

    @property
    def size_mb(self) -> float:
        """The size on disk, in MB of 10^6 bytes."""
        return self.artifact.size_bytes / 1e6

    @property
    def accuracy(self) -> float | None:
        """The accuracy of the exported file, 0-1; None if it was not scored."""
        score = self.artifact.accuracy
        return None if score is None else score.accuracy

    @property
    def accuracy_change(self) -> float | None:
        """The accuracy of the file minus that of its source model, on the same questions; None if either is unknown."""
        before, after = self.artifact.source_accuracy, self.artifact.accuracy
        return None if before is None or after is None else after.accuracy - before.accuracy

    @property
    def fresh(self) -> Measurement | None:
        """The measurement of the present file at the default task; None if the present file was not measured."""
        return next(iter(self.measurements), None)

    @property
    def measurement(self) -> Measurement | None:
        """The measurement of the present file; if there is none, that of an earlier file in the folder, or None."""
        return self.fresh or self.outdated

    @property
    def is_stale(self) -> bool:
        """Return whether an earlier file in the folder was measured, and the file that is there now was not."""
        return self.outdated is not None

    @property
    def latency_p90_ms(self) -> float | None:
        """The 90th percentile of the latency of one answer, in ms; None if the file as it is now is not measured."""
        return latency_ms(self.fresh).p90 if self.fresh else None

    @property
    def peak_mb(self) -> float | None:
        """The peak memory of the process that answered, in MB of 10^6 bytes; None if the file is not measured."""
        peak = self.fresh.peak_bytes if self.fresh else None
        return None if peak is None else peak / 1e6


def latency_ms(measurement: Measurement) -> Percentiles:
    """Return percentiles of the measured latencies, in ms. Raises RunError for an unknown unit or no samples."""
    samples = measurement.latency
    if samples.unit not in MILLISECONDS or not samples.values:
        raise RunError(
            f"{measurement.artifact}: its latency holds {len(samples.values)} samples in '{samples.unit}', expected at "
            f"least one in {', '.join(MILLISECONDS)}; measure again with: "
            f"{command_line('bench', measurement.artifact_path)}"
        )
    return percentiles([value * MILLISECONDS[samples.unit] for value in samples.values])


def read_artifacts(run: Run) -> list[ExportedArtifact]:
    """Return every finished artifact of `run` with its measurements, the dense models first. Raises RunError."""
    oldest_first = sorted(run.benches, key=lambda bench: bench.started)
    measured = [(measurement, bench) for bench in oldest_first for measurement in bench.measurements]
    threads, twins = run.recipe.bench.threads, twins_of(run)
    smaller = {cell.id for cell in run.recipe.cells() if cell.method.is_structured}
    smaller |= {name for name, result in twins.items() if result.granularity in STRUCTURED}
    found = [
        replace(exported, is_smaller=exported.artifact.cell in smaller)
        for path in run.dir.artifact_records()
        for exported in [_read_artifact(path, measured, threads)]
    ]
    return sorted(found, key=_dense_first)


def mixed_measurements(artifacts: Iterable[ExportedArtifact]) -> list[str]:
    """Return a warning if the artifacts were measured on different machines, and one if at different tasks."""
    fresh = [exported.fresh for exported in artifacts if exported.fresh is not None]
    machines = {(found.machine.processor, found.machine.cores, found.machine.system) for found in fresh}
    tasks = {(found.task.threads, found.task.batch, found.task.tokens, found.task.objects) for found in fresh}
    warnings = []
    if len(machines) > 1:
        warnings.append("the artifacts were measured on different machines: do not compare their times")
    if len(tasks) > 1:
        warnings.append(
            "the artifacts were measured at different tasks (threads, batch or lengths): do not compare their times"
        )
    return warnings


def _dense_first(exported: ExportedArtifact) -> tuple[bool, str, str]:
    """Return a sort key: the artifacts of dense models come first, then the others by ticket and name."""
    cell = exported.artifact.cell
    return cell is not None, cell or "", exported.name


def _read_artifact(path: Path, measured: Sequence[tuple[Measurement, BenchRecord]], threads: int) -> ExportedArtifact:
    """Return the artifact whose record is the file `path`, with those of the measurements that are of this artifact.

    `measured` holds all measurements of the run, the oldest first. `threads` is the recipe's number of threads.
    """
    artifact, digest = read_record(path, Artifact), sha256(path)
    changed = _find_change(path.parent, artifact)
    own = [(found, bench) for found, bench in reversed(measured) if found.artifact_sha256 == digest and not changed]
    newest: dict[tuple[object, ...], Measurement] = {}
    for found, _ in own:
        newest.setdefault(_task_key(found), found)
    fresh = sorted(newest.values(), key=lambda found: _default_task_order(found, artifact, threads))
    # An artifact that is exported again keeps its name and cell, and its record gets another digest.
    namesakes = [
        found
        for found, _ in measured
        if (found.artifact, found.cell, found.format) == (artifact.name, artifact.cell, artifact.format)
    ]
    outdated = namesakes[-1] if namesakes and not fresh else None
    shown = fresh[0] if fresh else outdated
    warnings = [*artifact.doubts, *(shown.doubts if shown else ())]
    if changed:
        warnings.insert(0, f"{changed}: export it again")
    elif outdated:
        warnings.insert(0, "stale: the file was exported again after it was measured; run lxcompress bench again")
    if artifact.accuracy is None:
        warnings.append("the accuracy of the exported file is not known")
    return ExportedArtifact(path.parent, artifact, digest, tuple(fresh), outdated, tuple(warnings), tuple(own))


def _find_change(folder: Path, artifact: Artifact) -> str | None:
    """Return how the files of an artifact differ from its record, as part of a sentence; None if they do not differ.

    The files are judged by their names and sizes. Their checksums are compared only if the folder has another name than
    the artifact.
    """
    paths = [folder / name for name in artifact.files]
    lost = [path.name for path in paths if not path.is_file()]
    if lost:
        return f"{lost[0]} is missing"
    size_bytes = sum(path.stat().st_size for path in paths)
    if size_bytes != artifact.size_bytes:
        return f"its files have {size_bytes} bytes, but {artifact.size_bytes} were exported"
    if artifact.name != folder.name and any(sha256(folder / name) != digest for name, digest in artifact.files.items()):
        return f"its artifact.json belongs to {artifact.name}"
    return None


def _task_key(measured: Measurement) -> tuple[object, ...]:
    """Return a key that is equal for two measurements of one file if the newer one replaces the older one."""
    task, machine = measured.task, measured.machine
    lengths = "as the data's" if task.lengths else task.tokens
    where = (measured.target, machine.processor, machine.cores, machine.system)
    return (task.runtime, task.threads, task.batch, lengths, task.objects, task.images, *where)


def _default_task_order(measured: Measurement, artifact: Artifact, threads: int) -> tuple[bool, ...]:
    """Return a sort key that puts the measurement at the default task first.

    The default task runs on this machine, in the first runtime of the format, with the recipe's threads, and with
    questions as long as those of the data. Each value of the key is True for one difference from the default task; the
    most important difference comes first.
    """
    task, usual = measured.task, list_serving(artifact.format)[:1]
    return (
        measured.target is not None,
        (task.runtime,) != usual,
        task.threads != threads,
        not task.lengths,
        task.tokens != artifact.tokens,
        task.batch != 1,
    )
