"""Prune one model outside of a study: first check what can be checked quickly, then do the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.progress import no_progress
from lxcompress.study.options import PruneOptions as PruneOptions
from lxcompress.study.options import read_first as read_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lxcompress.progress import Progress
    from lxcompress.records import Provenance


def check_options(model: str, out: Path, options: PruneOptions, *, recipe_files: Sequence[Path] = ()) -> None:
    """Raise LxError for options that contradict each other, and for a path that cannot be read or written."""
    from lxcompress.errors import TicketError
    from lxcompress.recipe import input_paths
    from lxcompress.workflow.checks import check_empty, check_model, check_paths
    from lxcompress.writing import check_out

    options.check()
    check_empty(out)
    check_model(model)
    check_paths([options.like] if options.like else [], what="give a ticket", kind=TicketError)
    recipes = [recipe for recipe in (options.calibration, options.retraining) if recipe]
    inputs = [path for recipe in recipes for path in input_paths(recipe)]
    check_out(out, [model, options.like, *recipe_files, *inputs], kind="folder")


def prune_model(model: str, out: Path, options: PruneOptions, *, progress: Progress = no_progress) -> Provenance:
    """Prune the model and write it as a ticket into the folder `out`; return the record of the ticket."""
    from lxcompress.study import prune

    return prune.prune_model(model, out, options, progress=progress)
