"""Where the measurements of artifacts are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lxcompress.errors import MeasureError
from lxcompress.rundir import RunDir


def run_of(artifacts: Sequence[Path]) -> RunDir | None:
    """The one run folder in whose `artifacts` all of them lie, or None."""
    homes = {path.resolve().parent for path in artifacts}
    if len(homes) != 1:
        return None
    home = homes.pop()
    run = RunDir(home.parent)
    return run if home == run.artifacts and run.recipe.is_file() else None


def name_bench(run: RunDir, started: datetime, *, device: str | None = None) -> Path:
    """A free file name in the run folder for the bench that started then, in UTC.

    What was measured on another `device` lies apart, in its own folder: no report puts two machines in one table.
    """
    folder = run.measurements / "devices" / device.replace(" ", "-") if device else run.measurements
    stem = f"{started:%Y%m%dT%H%M%SZ}"
    path = folder / f"{stem}.json"
    again = 2
    while path.exists():
        path = folder / f"{stem}-{again}.json"
        again += 1
    return path


def check_out(path: Path) -> None:
    """Raises MeasureError, before minutes are spent on measuring, if no file can be written at `path`."""
    if path.is_dir():
        raise MeasureError(f"--out {path}: is a folder; give a file name, such as {path / 'bench.json'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".part").touch()
        path.with_name(path.name + ".part").unlink()
    except OSError as problem:
        raise MeasureError(
            f"--out {path}: cannot be written ({problem.strerror}); give a file in a folder that you may write to"
        ) from None
