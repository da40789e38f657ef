"""PruneOptions: the options of `lxcompress prune`. They are checked before torch is imported and the model is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lxcompress.catalog.criteria import criterion_names, find_criterion, is_criterion
from lxcompress.errors import PruneError
from lxcompress.pruning.selection import MULTIPLE, Selection
from lxcompress.recipe import MASKED, STRUCTURED, FirstStep, Recipe, is_granularity
from lxcompress.recipe.methods import is_n_of_m
from lxcompress.settings import did_you_mean

SCOPES = ("layer", "row", "global")
"""The scopes that `prune` offers; the other scopes need rates or measurements, which only a study has."""


def read_first(text: str, *, criterion: str, scope: str) -> FirstStep:
    """Return the first step that `text` names, such as neuron+head:0.5: a granularity and a sparsity.

    It has the criterion and the scope of the second step; scope row becomes layer. Raises PruneError.
    """
    granularity, _, share = text.partition(":")
    try:
        sparsity = float(share)
    except ValueError:
        sparsity = 0.0
    if granularity not in STRUCTURED or not 0 < sparsity < 1:
        raise PruneError(
            f"--first {text}: expected {', '.join(STRUCTURED)}, then a colon and a share of the weights, such as "
            "neuron+head:0.5"
        )
    within: Literal["global", "layer"] = "global" if scope == "global" else "layer"
    if not is_criterion(criterion):
        return FirstStep(granularity=granularity, sparsity=sparsity)  # the criterion is refused by `check`
    return FirstStep(granularity=granularity, sparsity=sparsity, criterion=criterion, scope=within)


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
    first: FirstStep | None = None
    """the first step, which makes a smaller model whose weights are then masked; `sparsity` counts both steps"""
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

    def first_alone(self) -> PruneOptions:
        """Return the options that make the smaller model of the first step, without a mask."""
        assert self.first is not None, "there is a first step"
        return replace(
            self,
            first=None,
            granularity=self.first.granularity,
            scope=self.first.scope,
            criterion=self.first.criterion,
            sparsity=self.first.sparsity,
            least_kept=0.0,
            keep_dense=(),
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
        self._check_first(self.sparsity)

    def _check_first(self, sparsity: float) -> None:
        """Raise PruneError if the first step and the other options exclude each other."""
        if self.first is None:
            return
        if self.granularity in STRUCTURED:
            raise PruneError(
                f"--granularity {self.granularity}: makes a smaller model, as --first does already; give weight, a "
                "block or N:M, which mask weights of the smaller model"
            )
        if is_n_of_m(self.granularity):
            kept, of = map(int, self.granularity.split(":"))
            only = 1 - (1 - self.first.sparsity) * kept / of
            if abs(sparsity - only) > 1e-9:
                raise PruneError(
                    f"--sparsity {sparsity:g}: --granularity {self.granularity} after this --first always gives "
                    f"{only:g}; give that"
                )
        if sparsity <= self.first.sparsity:
            raise PruneError(
                f"--sparsity {sparsity:g}: counts the weights of the original model, of which --first removes "
                f"{self.first.sparsity:g}; give a sparsity above that"
            )

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
