"""PruneOptions: the options of `lxcompress prune`. They are checked before torch is imported and the model is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.catalog.criteria import criterion_names, find_criterion, is_criterion
from lxcompress.errors import PruneError
from lxcompress.pruning.selection import MULTIPLE, Selection
from lxcompress.recipe import MASKED, STRUCTURED, Recipe, is_granularity
from lxcompress.settings import did_you_mean

SCOPES = ("layer", "row", "global")
"""The scopes that `prune` offers; the other scopes need rates or measurements, which only a study has."""


@dataclass(frozen=True)
class PruneOptions:
    """The options for pruning one model; they take the same values as the settings of a recipe's method."""

    sparsity: float | None = None
    """fraction (0-1) of the prunable weights to remove; required unless `like` is given"""
    criterion: str = "low-magnitude"
    granularity: str = "weight"
    scope: str = "layer"
    least_kept: float = 0.0
    """the smallest fraction of its weights (0-1) that a matrix keeps; only for scope global"""
    keep_dense: tuple[str, ...] = ()
    """names of weight matrices that are not pruned"""
    multiple: int = MULTIPLE
    """the widths of a smaller model are multiples of this number"""
    like: Path | None = None
    """the folder of a ticket whose mask is used again, instead of a sparsity and a criterion"""
    seed: int = 0
    """the seed of random scores, of the sample of questions, and of retraining"""
    calibration: Recipe | None = None
    """the recipe whose training questions the criterion reads; by default the recipe `retraining`"""
    retraining: Recipe | None = None
    """the recipe on whose data the pruned model is trained"""

    @property
    def selection(self) -> Selection:
        """Return the Selection: those of the options that say what to remove."""
        assert self.sparsity is not None, "options are checked before they are used"
        return Selection(
            self.sparsity,
            self.granularity,
            self.scope,
            least_kept=self.least_kept,
            keep_dense=self.keep_dense,
            multiple=self.multiple,
        )

    def check(self) -> None:
        """Raise PruneError for options that are wrong for every model."""
        if self.like is not None:
            if replace(self, like=None, seed=0, retraining=None) != PruneOptions():
                raise PruneError(
                    f"--like {self.like}: takes the mask of that ticket, so options that choose one have no effect; "
                    "give only --out, --seed and --retrain with it"
                )
            return
        self._check_criterion()
        if not is_granularity(self.granularity):
            known = (*MASKED, "2:4", *STRUCTURED)
            raise PruneError(f"--granularity {self.granularity}: is unknown; {did_you_mean(self.granularity, known)}")
        if self.scope not in SCOPES:
            raise PruneError(f"--scope {self.scope}: is unknown or needs a study; give {', '.join(SCOPES)}")
        share = "a share of the weights between 0 and 1, such as 0.5 for 50 %"
        if not 0 <= self.least_kept < 1:
            raise PruneError(f"--least-kept {self.least_kept:g}: expected a share of the weights, such as 0.02 for 2 %")
        if self.least_kept and (self.scope != "global" or self.granularity in STRUCTURED):
            raise PruneError("--least-kept: has an effect with --scope global and a mask only; leave it out")
        if self.sparsity is None:
            raise PruneError(f"--sparsity: is missing; give {share}")
        if not 0 < self.sparsity < 1:
            raise PruneError(f"--sparsity {self.sparsity:g}: expected {share}")

    def _check_criterion(self) -> None:
        """Raise PruneError for an unknown criterion, or if the questions that the criterion reads are not given."""
        criterion, names = self.criterion, criterion_names()
        if not is_criterion(criterion):
            raise PruneError(
                f"--criterion {criterion}: is unknown; {did_you_mean(criterion, names)} "
                f"(this lxcompress knows {', '.join(names)})"
            )
        spec = find_criterion(criterion)
        if spec.needs_training:
            raise PruneError(f"--criterion {criterion}: needs training history; use lxcompress study")
        if not spec.reads_weights_only and not self.calibration and not self.retraining:
            raise PruneError(f"--criterion {criterion}: needs training questions, got none; give --calibrate RECIPE")
        if spec.reads_weights_only and self.calibration:
            raise PruneError(f"--calibrate: has no effect on {criterion}, which uses the weights alone; leave it out")
