"""Prune one model outside of a study: check everything that is cheap to check first, then do the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lxcompress.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lxcompress.progress import Progress
    from lxcompress.recipe import Recipe
    from lxcompress.records import Provenance

MULTIPLE = 8


@dataclass(frozen=True)
class PruneOptions:
    """How a model is pruned. `like` is a ticket whose mask is used again, in place of sparsity and criterion."""

    sparsity: float | None = None
    """Share of the prunable weights to remove, 0 to 1."""
    criterion: str = "low-magnitude"
    granularity: str = "weight"
    scope: str = "layer"
    keep_dense: Sequence[str] = ()
    """Names of weight matrices that are not pruned."""
    multiple: int = MULTIPLE
    """Widths of a smaller model are multiples of it."""
    like: Path | None = None
    seed: int = 0
    calibration: Recipe | None = None
    """The recipe whose training questions the criterion reads."""
    retraining: Recipe | None = None
    """The recipe whose training data retrains the pruned model."""

    @property
    def has_selection(self) -> bool:
        """Return whether an option other than sparsity and criterion says which weights to keep."""
        is_default = self.granularity == "weight" and self.scope == "layer" and self.multiple == MULTIPLE
        return not is_default or bool(self.keep_dense)


def check_options(model: str, out: Path, options: PruneOptions, *, recipe_files: Sequence[Path] = ()) -> None:
    """Raise LxError for options that contradict each other and for paths that cannot be read or written."""
    from lxcompress.errors import TicketError
    from lxcompress.recipe import input_paths
    from lxcompress.study.wish import check_wish
    from lxcompress.workflow.checks import check_empty, check_model, check_paths
    from lxcompress.writing import check_out

    check_wish(
        criterion=options.criterion,
        sparsity=options.sparsity,
        granularity=options.granularity,
        scope=options.scope,
        like=options.like,
        has_calibration=options.calibration is not None,
        is_retrained=options.retraining is not None,
        is_wish=options.has_selection,
    )
    check_empty(out)
    check_model(model)
    check_paths([options.like] if options.like else [], what="give a ticket", kind=TicketError)
    recipes = [recipe for recipe in (options.calibration, options.retraining) if recipe]
    inputs = [path for recipe in recipes for path in input_paths(recipe)]
    check_out(out, [model, options.like, *recipe_files, *inputs], kind="folder")


def prune_model(model: str, out: Path, options: PruneOptions, *, progress: Progress = no_progress) -> Provenance:
    """Prune the model and write it as a ticket to the folder `out`; return the record of the ticket."""
    from lxcompress.study import prune

    return prune.prune_model(
        model,
        out,
        criterion=options.criterion,
        sparsity=options.sparsity,
        granularity=options.granularity,
        scope=options.scope,
        seed=options.seed,
        multiple=options.multiple,
        keep_dense=options.keep_dense,
        like=options.like,
        calibration=options.calibration,
        retraining=options.retraining,
        progress=progress,
    )
