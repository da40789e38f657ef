"""Make the page of a run, or of some artifacts: choose the engine files, and the one that answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.errors import MeasureError
from lxcompress.filenames import ARTIFACT_FILE
from lxcompress.output import command_line
from lxcompress.writing import check_out

FORMAT, ONNX = "engine", "onnx"
PREFERRED_PRECISION = "int8"
"""The precision of the model that answers, if there is such a file."""


def make_page(
    models: Sequence[Path], out: Path, *, extractor: Path | None = None, rivals: Path | None = None
) -> list[str]:
    """Write the page of a run folder, or of the artifacts `models`, to `out`; return the names of its models.

    With `extractor`, the folder of an exported extractor, the page answers about photographs. With `rivals`, the folder
    of onnxruntime-web, it measures ONNX files too: the twins of a run's engine files, or those among `models`.
    Raises LxError.
    """
    check_out(out, [*models, extractor, rivals], kind="folder")
    from lxcompress.measure.bench_paths import find_common_run
    from lxcompress.measure.plan import read_artifacts
    from lxcompress.rundir import RunDir
    from lxcompress.web.page import write_page
    from lxcompress.web.rivals import choose_rivals, find_twins

    run = RunDir(models[0])
    if len(models) == 1 and run.recipe.is_file():
        targets = read_artifacts(_find_engine_files(run.root))
        answering = choose_answering(run.root, [target.path for target in targets])
        files = [] if rivals is None else read_artifacts(_find_files(run.root, ONNX))
        found = choose_rivals(rivals, find_twins(targets, files))
        return write_page(targets, out, answering, run=run, extractor=extractor, rivals=found)
    targets = given = read_artifacts(models)
    if rivals is not None:
        targets = [target for target in given if target.record.format != ONNX] or given
    found = choose_rivals(rivals, [target for target in given if target not in targets])
    return write_page(
        targets, out, targets[0].record.name, run=find_common_run(models), extractor=extractor, rivals=found
    )


def choose_answering(run: Path, paths: Sequence[Path]) -> str:
    """Return the name of the engine file that answers.

    It is a file of the picked ticket; without one, of a dense model, or any other. An int8 file is preferred.
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
        """Return a sort key: the best file has the smallest."""
        return (
            picked is None or record.cell != picked.cell,
            record.role != "dense",
            record.precision != PREFERRED_PRECISION,
        )

    return min(records, key=rank).name


def _find_engine_files(run: Path) -> list[Path]:
    """Return the artifacts of the run folder `run` that a page can run. Raises MeasureError if there is none."""
    folders = _find_files(run, FORMAT)
    if not folders:
        raise MeasureError(
            f"{run}: has no engine file, which a page needs; export one with: "
            f"{command_line('export', 'TICKET', '--format', FORMAT)}"
        )
    return folders


def _find_files(run: Path, format: str) -> list[Path]:
    """Return the artifacts of the run folder `run` that have a format."""
    from lxcompress.records import Artifact, read_record
    from lxcompress.rundir import RunDir

    paths = RunDir(run).artifact_records()
    return [path.parent for path in paths if read_record(path, Artifact).format == format]
