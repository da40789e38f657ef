"""Save the measurements of pages: each becomes a bench in the folder of its device."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from lxcompress.errors import MeasureError
from lxcompress.measure.bench_paths import name_bench, unfinished_path
from lxcompress.records import BenchRecord
from lxcompress.rundir import RunDir, write_record
from lxcompress.text import parse_json, read_text
from lxcompress.web.page import SOURCE_FILE
from lxcompress.web.records import PageMeasurement, find_artifacts, to_bench

UNSAFE = re.compile(r"[^A-Za-z0-9._]+")
"""The characters that the name of a folder does not keep."""


def find_page_run(page: Path) -> RunDir | None:
    """Return the run folder of a page's models; None if the page was made without one, or if the folder was moved."""
    try:
        run = RunDir(page / str(parse_json(read_text(page / SOURCE_FILE))["run"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return RunDir(run.root.resolve()) if run.recipe.is_file() else None


def keep_measurement(sent: PageMeasurement, run: RunDir) -> tuple[Path, BenchRecord]:
    """Save a measurement as a bench of its device in the run folder; return the file and the bench.

    Raises MeasureError if its models are not those of the run, and WriteError.
    """
    bench = to_bench(sent, find_artifacts(run))
    path = name_bench(run, datetime.now(timezone.utc), device=name_device(sent.device))
    try:
        write_record(path, bench)
    finally:
        unfinished_path(path).unlink(missing_ok=True)
    return path, bench


def name_device(device: str) -> str:
    """Return the folder name of a device. Raises MeasureError if no Latin letter or digit is left of its name."""
    name = UNSAFE.sub("-", device).strip("-.")
    if not name:
        raise MeasureError(f"the name of the device {device!r} has no Latin letter or digit; give another on the page")
    return name
