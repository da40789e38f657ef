"""Twins: a ticket and the models to compare it with, exported together. Dense int8 needs no pruning.

The twins of a ticket of masked weights are its dense model, the ticket itself, and a structured ticket that keeps as
many weights, each in full precision and in int8; on request also the dense model in int4. If the ticket is a smaller
model (structured), a ticket of masked weights takes the role of the structured ticket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxcompress.catalog.formats import find_format
from lxcompress.catalog.runtimes import find_runtime_spec, list_serving
from lxcompress.engine import is_built
from lxcompress.errors import ExportError
from lxcompress.exporters.artifact import default_out, digest_source, export, open_source
from lxcompress.exporters.formats import ExportOptions, check_format
from lxcompress.filenames import ARTIFACT_FILE, CONFIG_FILE, RESULT_FILE, TICKET_FILE
from lxcompress.output import command_line
from lxcompress.progress import Progress, no_progress
from lxcompress.recipe import STRUCTURED, Recipe
from lxcompress.records import Artifact, Provenance, Result, is_whole, read_record
from lxcompress.rundir import RunDir, find_run, read_run, sha256
from lxcompress.study.twins import find_twin, ticket_folder
from lxcompress.tickets import is_ticket
from lxcompress.writing import WriteError

DENSE, DENSE_INT8, DENSE_INT4, TICKET, TICKET_INT8 = "dense", "dense int8", "dense int4", "ticket", "ticket int8"
STRUCTURED_TWIN, MASKED_TWIN = "structured", "unstructured"


@dataclass(frozen=True)
class TwinRequest:
    """A twin to export: its role `twin`, the folder `source` of its model, and the folder `out` to write to."""

    twin: str
    source: Path
    format: str
    precision: str
    out: Path


@dataclass(frozen=True)
class TwinExport:
    """A twin that is exported to the folder `out`; `is_new` is false if an earlier export is still up to date."""

    twin: str
    out: Path
    artifact: Artifact
    is_new: bool


@dataclass(frozen=True)
class MissingTwin:
    """A twin that is not exported, and the reason in words; `is_failure` is true if its export was tried and failed."""

    twin: str
    why: str
    is_failure: bool = False


def plan_twins(
    ticket: Path,
    *,
    format: str = "onnx",
    dense: Path | None = None,
    other: Path | None = None,
    out: Path | None = None,
    int4: bool = False,
) -> tuple[list[TwinRequest], list[MissingTwin]]:
    """Return the twins of a ticket that can be exported, and those that cannot.

    `dense` is the folder of the dense model, and `other` the folder of the structured (or masked) ticket to compare
    with. Inside a run folder both are found, and may be None. Each twin is written to a folder in `out`, or to its
    default folder. With `int4`, the dense model in int4 is one of the twins. Raises ExportError if `ticket` is not a
    ticket, or `dense` or `other` is no twin of it.
    """
    check_format(format, None)
    if not is_ticket(ticket):
        raise ExportError(f"{ticket}: is not a ticket, which --twins needs; give a folder such as RUN/tickets/CELL")
    provenance, run = read_record(ticket / TICKET_FILE, Provenance, ExportError), find_run(ticket)
    plain, dense_source = (
        find_format(format).plain_precision,
        _check_dense(dense) if dense else _dense_of(run, provenance),
    )
    other_source = _check_other(other, provenance) if other else _other_of(ticket, run, provenance)
    wanted, absent = [], []
    for twin, source, precision in (
        (DENSE, dense_source, plain),
        (DENSE_INT8, dense_source, "int8"),
        *([(DENSE_INT4, dense_source, "int4")] if int4 else []),
        (TICKET, ticket, plain),
        (TICKET_INT8, ticket, "int8"),
        (_other_twin(provenance), other_source, plain),
        (f"{_other_twin(provenance)} int8", other_source, "int8"),
    ):
        if precision not in find_format(format).precisions:
            absent.append(MissingTwin(twin, f"format {format} has no {precision}"))
        elif isinstance(source, MissingTwin):
            absent.append(MissingTwin(twin, source.why))
        else:
            folder = out / twin.replace(" ", "-") if out else default_out(source, format, precision)
            wanted.append(TwinRequest(twin, source, format, precision, folder))
    return wanted, absent


def find_missing(format: str) -> str | None:
    """Return a clause that says what must be installed to export and run `format`; None if nothing is missing."""
    runtime = next(iter(list_serving(format)), None)
    missing = find_format(format).find_missing() or (runtime and find_runtime_spec(runtime).find_missing())
    if missing or format != "engine" or is_built():
        return f"{format} {missing}" if missing else None
    return "the sparse engine is not built; with a C compiler, build it with: python -m lxcompress.engine.build"


def export_twins(
    wanted: Sequence[TwinRequest], *, recipe: Recipe | None = None, progress: Progress = no_progress
) -> list[TwinExport | MissingTwin]:
    """Export the twins, except for those that are exported and up to date; return one result for each, in order.

    They may be of several formats. If the export of one twin fails, the others are still exported.
    """
    done: dict[TwinRequest, TwinExport | MissingTwin] = {}
    for source in dict.fromkeys(request.source for request in wanted):
        digest, opened = digest_source(source), None
        for request in (request for request in wanted if request.source == source):
            found = find_fresh(request, digest)
            if found:
                done[request] = TwinExport(request.twin, request.out, found, is_new=False)
                continue
            opened = opened or open_source(source, recipe)
            same = [twin for other, twin in done.items() if other.format == request.format]
            done[request] = _export(request, opened, _fp32_of(digest, same), _naming(request, progress))
    return [done[request] for request in wanted]


def find_fresh(wanted: TwinRequest, digest: str) -> Artifact | None:
    """Return the artifact of an earlier export that is still up to date, or None. Raises ExportError.

    It is up to date if all its files are whole, and its format, precision and source are those of `wanted`. `digest` is
    the checksum of the source.
    """
    record = wanted.out / ARTIFACT_FILE
    if not is_whole(record):
        return None
    artifact = read_record(record, Artifact, ExportError)
    # Earlier versions left the vocabulary out of the digest.
    digests = {digest, digest_source(wanted.source, with_words=False)}
    is_wanted = (artifact.format, artifact.precision) == (wanted.format, wanted.precision)
    is_wanted = is_wanted and (artifact.fixed is None or find_format(wanted.format).is_one_shape)
    is_same = is_wanted and artifact.source_sha256 in digests
    files = ((wanted.out / name, sum_) for name, sum_ in artifact.files.items())
    return artifact if is_same and all(path.is_file() and sha256(path) == sum_ for path, sum_ in files) else None


def is_fresh(wanted: TwinRequest) -> bool:
    """Return whether the twin is exported and up to date. Raises ExportError."""
    return find_fresh(wanted, digest_source(wanted.source)) is not None


def bench_command(folders: Iterable[Path]) -> str:
    """Return the command that measures the artifacts in `folders` in one bench."""
    return command_line("bench", *folders)


def _fp32_of(digest: str, done: Iterable[TwinExport | MissingTwin]) -> Path | None:
    """Return the folder of the fp32 twin of the source with checksum `digest`; None if none is in `done`."""
    found = (twin for twin in done if isinstance(twin, TwinExport) and twin.artifact.source_sha256 == digest)
    return next((twin.out for twin in found if twin.artifact.precision == "fp32"), None)


def _export(wanted: TwinRequest, source: Any, fp32: Path | None, progress: Progress) -> TwinExport | MissingTwin:
    """Export one twin; if that fails, return the reason instead."""
    options = ExportOptions(wanted.format, wanted.precision, twin=wanted.twin, fp32=fp32)
    try:
        made = export(source, wanted.out, options, progress=progress)
    except (ExportError, WriteError) as error:
        return MissingTwin(wanted.twin, str(error), is_failure=True)
    return TwinExport(wanted.twin, wanted.out, made, is_new=True)


def _naming(request: TwinRequest, progress: Progress) -> Progress:
    """Return a Progress that puts the name of the twin, and its format, before each message."""

    def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        progress(f"{request.twin} ({request.format}): {what}", done, total, value=value)

    return show


def _other_twin(provenance: Provenance) -> str:
    """Return the role of the ticket to compare with: structured for a masked ticket, and the reverse."""
    return MASKED_TWIN if provenance.granularity in STRUCTURED else STRUCTURED_TWIN


def _dense_of(run: RunDir | None, provenance: Provenance) -> Path | MissingTwin:
    """Return the folder of the dense model that a ticket was drawn from, or why it is not known."""
    if run is None or provenance.cell is None or not run.dense_result(provenance.seed).is_file():
        return MissingTwin(DENSE, "the model that the ticket was drawn from is not known; give it with --dense FOLDER")
    return run.dense(provenance.seed)


def _other_of(ticket: Path, run: RunDir | None, provenance: Provenance) -> Path | MissingTwin:
    """Return the folder of the ticket of equal size to compare with, or why there is none."""
    twin = _other_twin(provenance)
    if run is None or not (ticket / RESULT_FILE).is_file():
        return MissingTwin(
            twin, "the ticket is not in a run folder, so none is known; give one of equal size with --structured FOLDER"
        )
    found = find_twin(read_run(run.root), read_record(ticket / RESULT_FILE, Result))
    if found is None:
        return MissingTwin(twin, _none_found(run, twin))
    return ticket_folder(run, found.cell)


def _none_found(run: RunDir, twin: str) -> str:
    """Return in words why the study has no ticket to compare with, and how to draw one."""
    if twin == MASKED_TWIN:
        return "the study has no ticket with a mask, of this seed and size"
    again = command_line("study", run.recipe, "--out", run.root, "--set", "export.twins=true")
    return f"the study has none of this seed and size; draw one for the picked ticket with: {again}"


def _check_dense(folder: Path) -> Path:
    """Return `folder` if it is a transformers folder and not a ticket. Raises ExportError."""
    if is_ticket(folder):
        raise ExportError(f"--dense {folder}: is a ticket; give the dense model that it was drawn from")
    if not (folder / CONFIG_FILE).is_file():
        raise ExportError(f"--dense {folder}: is not a transformers folder (it has no config.json); give one")
    return folder


def _check_other(folder: Path, provenance: Provenance) -> Path:
    """Return `folder` if exactly one of its ticket and the ticket of `provenance` is structured.

    Raises ExportError otherwise.
    """
    if not is_ticket(folder):
        raise ExportError(f"--structured {folder}: is not a ticket; give a folder such as RUN/tickets/CELL")
    kind = read_record(folder / TICKET_FILE, Provenance, ExportError).granularity
    if (kind in STRUCTURED) == (provenance.granularity in STRUCTURED):
        wanted = "masked weights" if provenance.granularity in STRUCTURED else "a smaller model (neuron, head, layer)"
        raise ExportError(f"--structured {folder}: has granularity {kind}; give a ticket with {wanted}")
    return folder
