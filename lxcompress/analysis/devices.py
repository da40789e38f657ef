"""The measurements on other devices, such as phones: the newest of each exported file on each device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.errors import RunError
from lxcompress.measure.compare import Ratio, compare_all
from lxcompress.records import BenchRecord, Measurement, read_record
from lxcompress.rundir import Run, RunDir, sha256


@dataclass(frozen=True)
class DeviceRow:
    """A measurement on another device, and its ratio to the baseline of its bench; `ratio` is None for the baseline."""

    measurement: Measurement
    ratio: Ratio | None


def read_device_benches(run: RunDir) -> dict[str, list[BenchRecord]]:
    """Return {name of a device's folder: its benches, the oldest first}. Raises RunError for a damaged bench."""
    found = {
        name: [read_record(path, BenchRecord) for path in paths] for name, paths in run.device_bench_records().items()
    }
    return {name: sorted(benches, key=lambda bench: bench.started) for name, benches in found.items()}


def read_device_rows(root: Path) -> dict[str, list[DeviceRow]]:
    """Return the rows of each device: folder name -> the newest measurement of each file as it is now.

    A file that was measured with other threads or questions, or in another runtime, has one row for each.
    """
    run = RunDir(root)
    present = {sha256(path) for path in run.artifact_records()}
    tables = {name: _newest_rows(benches, present) for name, benches in read_device_benches(run).items()}
    return {name: rows for name, rows in tables.items() if rows}


def measured_on(run: Run, device: str) -> Run:
    """Return `run` with the benches of a device instead of those of this machine.

    `device` is the name of the device or of its folder. Raises RunError for a device that was not measured.
    """
    benches = read_device_benches(run.dir)
    wanted = device.casefold()
    for name, found in benches.items():
        targets = {measured.target for bench in found for measured in bench.measurements}
        if wanted in {name.casefold(), *(target.casefold() for target in targets if target)}:
            return replace(run, benches=found)
    known = ", ".join(sorted(benches)) or "none"
    raise RunError(
        f"--device {device}: was not measured, measured are: {known}; measure it with lxcompress app "
        "(docs/phone.md) or lxcompress bench --target adb"
    )


def _newest_rows(benches: list[BenchRecord], present: set[str]) -> list[DeviceRow]:
    """Return the newest row of each file and task, in the order of the newest bench."""
    rows: dict[tuple[object, ...], DeviceRow] = {}
    for bench in reversed(benches):
        for measured, ratio in zip(bench.measurements, compare_all(bench), strict=True):
            task = measured.task
            key = (measured.artifact_sha256, task.runtime, task.threads, task.tokens, bool(task.lengths))
            if measured.artifact_sha256 in present:
                rows.setdefault(key, DeviceRow(measured, ratio))
    return list(rows.values())
