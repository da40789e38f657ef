"""Twins: export a ticket and the models that it is compared with, by one process or by two."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.progress import no_progress

if TYPE_CHECKING:
    import subprocess

    from lxcompress.exporters.twins import MissingTwin, TwinExport, TwinRequest
    from lxcompress.progress import Progress
    from lxcompress.recipe import Recipe

_MODULE = "lxcompress.workflow.twins"


@dataclass(frozen=True)
class TwinSources:
    """A ticket, and the models that it is compared with.

    `dense` is its dense model. `other` is a structured ticket of equal size, or a masked one if the ticket is
    structured. In a run folder both are found if they are None. With `int4`, the dense model in int4 is compared too.
    """

    ticket: Path
    dense: Path | None = None
    other: Path | None = None
    int4: bool = False


@dataclass(frozen=True)
class TwinHelper:
    """A process that exports the twins of the models in the folders `models`.

    `known` are the folders of the twins that were up to date when it was started.
    """

    process: subprocess.Popen[bytes]
    models: frozenset[Path]
    known: frozenset[Path]


@contextmanager
def twin_helper(sources: TwinSources, recipe: Recipe) -> Iterator[TwinHelper | None]:
    """Start a process that exports twins of a ticket in a run folder, beside the block; yield it.

    Those are the twins of the dense model and of the ticket that are not exported yet. Yield None if there are none, if
    the recipe wants one process, or if the machine has one core. The process ends with the block. A twin whose export
    fails there is left to `export_twins`, which gives the reason.
    """
    from lxcompress.exporters import twins
    from lxcompress.filenames import RECIPE_FILE
    from lxcompress.helper_process import helper_process
    from lxcompress.machine import usable_cores
    from lxcompress.recipe import dump_recipe
    from lxcompress.study.helpers import shared_threads
    from lxcompress.writing import write_text

    count = min(recipe.processes, len(usable_cores()), 2)
    wanted = _plan(sources, recipe.export.formats)[0] if count > 1 else []
    known = frozenset(request.out for request in wanted if twins.is_fresh(request))
    models = list(dict.fromkeys(request.source for request in wanted))[:2]  # dense, then the ticket
    late = {request.source for request in wanted if request.out not in known}
    if not late.intersection(models):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, shared_threads(count) as threads:
        path = Path(folder) / RECIPE_FILE
        write_text(path, dump_recipe(recipe))
        arguments = [path, sources.ticket, *models]
        with helper_process(_MODULE, arguments, {"OMP_NUM_THREADS": threads}, report=lambda _: None) as process:
            yield TwinHelper(process, frozenset(models), known)


def export_twins(
    sources: TwinSources,
    *,
    formats: Sequence[str],
    out: Path | None = None,
    recipe: Recipe | None = None,
    helper: TwinHelper | None = None,
    progress: Progress = no_progress,
) -> list[TwinExport | MissingTwin]:
    """Export the twins of a ticket that are not exported yet; return all twins, the missing ones last.

    They are exported in the first of `formats`, and in each other one whose libraries are installed. A twin whose
    export failed is a MissingTwin with `is_failure`; `check_twins` raises an error for it. The twins of the models of
    `helper` are left to it.
    """
    from lxcompress.exporters import twins

    wanted, absent = _plan(sources, formats, out)
    if helper is None:
        return [*twins.export_twins(wanted, recipe=recipe, progress=progress), *absent]
    own = [request for request in wanted if request.source not in helper.models]
    twins.export_twins(own, recipe=recipe, progress=progress)
    progress("waiting for the process that exports the other twins")
    helper.process.wait()
    found = twins.export_twins(wanted, recipe=recipe, progress=progress)
    return [*(_mark_new(twin, helper.known) for twin in found), *absent]


def check_twins(twins: Sequence[TwinExport | MissingTwin]) -> None:
    """Raise ExportError if the export of a twin failed."""
    from lxcompress.errors import ExportError
    from lxcompress.exporters.twins import MissingTwin

    failed = [twin for twin in twins if isinstance(twin, MissingTwin) and twin.is_failure]
    if failed:
        tried = [twin for twin in twins if not isinstance(twin, MissingTwin) or twin.is_failure]
        rest = "; the others are there" if len(failed) < len(tried) else ""
        raise ExportError(f"{len(failed)} of {len(tried)} twins could not be exported{rest}: {failed[0].why}")


def _plan(
    sources: TwinSources, formats: Sequence[str], out: Path | None = None
) -> tuple[list[TwinRequest], list[MissingTwin]]:
    """Return the twins to export, and those that cannot be exported, in all of `formats` whose libraries are there.

    The libraries of the first format must be there.
    """
    from lxcompress.exporters import twins

    first, *also = formats
    missing = {format: why for format in also if (why := twins.find_missing(format))}
    wanted, absent = [], [twins.MissingTwin(f"twins in {format}", why) for format, why in missing.items()]
    for format in (name for name in (first, *also) if name not in missing):
        found = twins.plan_twins(
            sources.ticket, format=format, dense=sources.dense, other=sources.other, out=out, int4=sources.int4
        )
        wanted += found[0]
        absent += found[1]
    return wanted, absent


def _mark_new(twin: TwinExport | MissingTwin, known: Collection[Path]) -> TwinExport | MissingTwin:
    """Return the twin with `is_new` true unless its folder is in `known`."""
    from lxcompress.exporters.twins import MissingTwin

    return twin if isinstance(twin, MissingTwin) else replace(twin, is_new=twin.out not in known)


def _help() -> None:
    """Export twins for the study that started this process: the arguments are its recipe, the ticket, and models."""
    from lxcompress.exporters import twins
    from lxcompress.helper_process import end_with_starter
    from lxcompress.recipe import load_run_recipe

    end_with_starter()
    recipe, ticket, *models = (Path(name) for name in sys.argv[1:])
    export = load_run_recipe(recipe).export
    wanted = _plan(TwinSources(ticket, int4=export.int4), export.formats)[0]
    twins.export_twins([request for request in wanted if request.source in models])


if __name__ == "__main__":
    _help()
