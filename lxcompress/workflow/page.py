"""Make the page of a run, or of some artifacts: choose the engine files, and the one that answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.errors import MeasureError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.output import command_line
from lxcompress.writing import check_out

FORMAT = "engine"
PRECISIONS = ("int8", "fp32")
"""The precisions of the model that answers, the preferred first."""


def make_page(models: Sequence[Path], out: Path, *, extractor: Path | None = None) -> list[str]:
    """Write the page of a run folder, or of the artifacts `models`, to `out`; return the names of its models.

    With `extractor`, the folder of an exported extractor, the page answers about photographs. Raises LxError.
    """
    check_out(out, [*models, extractor], kind="folder")
    from lxcompress.measure.bench_paths import find_common_run
    from lxcompress.measure.plan import read_artifacts
    from lxcompress.rundir import RunDir
    from lxcompress.web.page import write_page

    run = RunDir(models[0]) if len(models) == 1 and RunDir(models[0]).recipe.is_file() else None
    paths = (
        list(models) if run is None else _find_engine_files(run.root, [path.parent for path in run.artifact_records()])
    )
    targets = read_artifacts(paths)
    answering = targets[0].record.name if run is None else choose_answering(run.root, paths)
    return write_page(targets, out, answering, run=run or find_common_run(paths), extractor=extractor)


def choose_answering(run: Path, paths: Sequence[Path]) -> str:
    """Return the name of the engine file that answers: one of the picked ticket, else one of a dense model, else any.

    An int8 file is preferred.
    """
    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.rule import default_rule
    from lxcompress.analysis.summary import summarise
    from lxcompress.records import Artifact, read_record
    from lxcompress.rundir import read_run

    summary = summarise(read_run(run))
    picked = pick_ticket(summary, default_rule(summary)).picked
    records = [read_record(path / ARTIFACT_FILE, Artifact) for path in paths]

    def rank(record: Artifact) -> tuple[bool, bool, bool]:
        """Return a sort key, the best first."""
        return (
            picked is None or record.cell != picked.cell,
            record.role != "dense",
            record.precision != PRECISIONS[0],
        )

    return min(records, key=rank).name


def _find_engine_files(run: Path, folders: Sequence[Path]) -> list[Path]:
    """Return the artifacts of a run that a page can run. Raises MeasureError if there is none."""
    from lxcompress.records import Artifact, read_record

    found = [folder for folder in folders if read_record(folder / ARTIFACT_FILE, Artifact).format == FORMAT]
    if not found:
        raise MeasureError(
            f"{run}: has no engine file, which a page needs; export one with: "
            f"{command_line('export', 'TICKET', '--format', FORMAT)}"
        )
    return found
