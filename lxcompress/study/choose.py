"""Choosing for a cell: which weights, neurons, heads or layers its method keeps, and what it must measure to know."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from lxcompress.errors import PruneError, RunError
from lxcompress.filenames import WEIGHTS_FILE
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.choose import check_selection, describe_undivided, find_kept_dense, mask_from_scores
from lxcompress.pruning.controls import shuffle_mask
from lxcompress.pruning.criteria import CalibrationStatistics, score_weights
from lxcompress.pruning.mask import Mask, Weights
from lxcompress.pruning.published import choose_published_mask
from lxcompress.pruning.schedule import RATE, rounds_to
from lxcompress.pruning.selection import Selection
from lxcompress.pruning.surgery import Surgery, UnitGroup, surgery_of
from lxcompress.pruning.units import check_structured, choose_units
from lxcompress.recipe import Cell, Method, Recipe
from lxcompress.records import Sensitivity, is_whole, read_record
from lxcompress.rundir import sha256, write_record
from lxcompress.study.seed import SeedRun, load_movement
from lxcompress.study.work import StudyContext
from lxcompress.text import read_text
from lxcompress.tickets import load_ticket
from lxcompress.training.calibration import collect_statistics
from lxcompress.training.sensitivity import SPARSITIES, measure

Choice = Mask | Surgery


class Chooser:
    """Chooses for one cell; it keeps what is found out once: groups of units, and movement."""

    def __init__(self, context: StudyContext, seed_run: SeedRun, cell: Cell) -> None:
        self.context, self.seed_run, self.cell = context, seed_run, cell
        self.model, self.method = seed_run.model, cell.method
        self.shapes = {name: weight.shape for name, weight in self.model.prunable.items()}
        self.groups: tuple[UnitGroup, ...] = ()
        self.movement: Weights | None = None
        if self.method.is_structured and not self.method.ticket:
            self.groups = seed_run.find_groups(self.method.granularity)

    def choose(self, weights: Weights, sparsity: float, within: Mask | None = None) -> Mask:
        """What stays of `weights`, as a Mask; units of a structured method are masked whole."""
        if self.context.recipe.faults:
            return self._published(weights)
        if self.method.control == "dense-longer":
            return Mask({name: weights[name].new_ones(shape).bool() for name, shape in self.shapes.items()})
        if self.method.schedule == "iterative":
            for earlier in rounds_to(sparsity, self.method.rate or RATE)[:-1]:
                within = self._cut(within.apply(weights) if within else weights, earlier, within)
        mask = self._cut(within.apply(weights) if within else weights, sparsity, within)
        return self.shuffle(mask) if sparsity == self.cell.sparsity else mask

    def shuffle(self, mask: Mask) -> Mask:
        """The same mask, unless the method is the control that moves what it keeps."""
        return shuffle_mask(mask, self.cell.seed) if self.method.control == "shuffled" else mask

    def choose_surgery(self, weights: Weights) -> Surgery:
        """Return the Surgery that keeps the best units of `weights`, in one shot."""
        return self._cut_units(self.score(weights), self.cell.sparsity, None)

    def to_surgery(self, mask: Mask) -> Surgery:
        """Return the Surgery that removes the same units as `mask`, which removes whole units."""
        return surgery_of(mask, self.groups)

    def pick(self, scores: Weights, sparsity: float, within: Mask | None) -> Mask:
        """What the scores keep, as a Mask."""
        if self.groups:
            return self._cut_units(scores, sparsity, within).mask(self.shapes)
        return mask_from_scores(
            scores,
            self._selection(sparsity),
            modality=self.model.family.modality,
            sensitivities=self._sensitivities(scores) if self.method.scope == "sensitivity" else None,
            within=within,
        )

    def _selection(self, sparsity: float) -> Selection:
        """Return the selection of the cell's method at `sparsity`."""
        return Selection.from_method(self.method, sparsity, multiple=self.context.recipe.prune.multiple)

    def score(self, weights: Weights) -> Weights:
        """The criterion's scores of the prunable ones among `weights`."""
        prunable = {name: weights[name] for name in self.shapes}
        return score_weights(
            prunable, criterion=self.method.criterion, seed=self.cell.seed, statistics=self._statistics(weights)
        )

    def _cut_units(self, scores: Weights, sparsity: float, within: Mask | None) -> Surgery:
        return choose_units(
            scores,
            self.groups,
            self._selection(sparsity),
            prunable=self.shapes,
            within=self.to_surgery(within) if within else None,
        )

    def _cut(self, weights: Weights, sparsity: float, within: Mask | None) -> Mask:
        return self.pick(self.score(weights), sparsity, within)

    def _statistics(self, weights: Weights) -> CalibrationStatistics:
        needed = self.method.criterion_spec.needs
        if needed is None:
            return CalibrationStatistics()
        if needed == "movement":
            if self.movement is None:
                self.movement = load_movement(self.context.run, self.model, self.seed_run.seed)
            return CalibrationStatistics(movement=self.movement)
        calibration = self.context.recipe.prune.calibration
        found = collect_statistics(
            self.model,
            weights,
            self.context.task,
            kind=needed,
            settings=self.context.recipe.train,
            device=self.context.device,
            seed=self.cell.seed,
            questions=calibration.questions,
            batch_size=calibration.batch_size,
        )
        return CalibrationStatistics(**{needed: found})

    def _published(self, weights: Weights) -> Mask:
        """The mask as the recipe's protocol draws it."""
        return choose_published_mask(
            {name: weights[name] for name in self.model.weights},  # the model's order, in which noise is drawn
            self._selection(self.cell.sparsity),
            is_prunable=self.model.family.is_prunable,
            criterion=self.method.criterion,
            seed=self.cell.seed,
            faults=self.context.recipe.faults,
        )

    def _sensitivities(self, scores: Weights) -> Mapping[str, Mapping[float, float]]:
        """What each matrix's pruning does to the loss of the dense model, measured once a seed and kept."""
        path = self.context.run.sensitivity(self.seed_run.seed, self.method.id)
        with self.context.run.alone_at(path):
            kept = self._read_sensitivities(path, scores)
            if kept is None:
                kept = self._measure(scores)
                about = {"method": self.method.id, "seed": self.seed_run.seed, "dense_sha256": self._dense_sum()}
                write_record(path, Sensitivity(**about, curves=kept))
        return kept

    def _read_sensitivities(self, path: Path, scores: Weights) -> dict[str, dict[float, float]] | None:
        """Return what was measured before; None where nothing was, or where the file is damaged or of another model."""
        if not is_whole(path):
            return None
        expected = {"method": self.method.id, "seed": self.seed_run.seed, "dense_sha256": self._dense_sum()}
        tree = json.loads(read_text(path))
        try:
            if isinstance(tree, dict) and "curves" not in tree:  # of an earlier version: the curves alone
                record = Sensitivity.model_validate({**expected, "curves": tree})
            else:
                record = read_record(path, Sensitivity)
        except (RunError, ValidationError):
            return None
        wanted = {name for name in scores if name not in self.method.keep_dense}
        rises = [rise for curve in record.curves.values() for rise in curve.values()]
        is_same = record.model_dump(include=set(expected)) == expected and record.curves.keys() == wanted
        return record.curves if is_same and all(math.isfinite(rise) for rise in rises) else None

    def _dense_sum(self) -> str:
        return sha256(self.context.run.dense(self.seed_run.seed) / WEIGHTS_FILE)

    def _measure(self, scores: Weights) -> dict[str, dict[float, float]]:
        return measure(
            self.model,
            self.seed_run.dense,
            scores,
            self.context.task,
            granularity=self.method.granularity,
            keep_dense=self.method.keep_dense,
            settings=self.context.recipe.train,
            device=self.context.device,
            seed=self.cell.seed,
            questions=self.context.recipe.prune.calibration.questions,
        )


def find_ticket(cell: Cell) -> Path:
    """The folder of the ticket whose mask the cell takes."""
    assert cell.method.ticket
    text = cell.method.ticket.replace("{seed}", str(cell.seed))
    return Path(text.replace("{sparsity}", f"{100 * cell.sparsity:.6g}"))


def take_cut(cell: Cell, model: Model) -> Choice:
    """What the ticket that the cell names keeps. Raises LxError if that is none of the cell's, or misfits."""
    folder = find_ticket(cell)
    provenance = load_ticket(folder).provenance
    if abs(provenance.target - cell.sparsity) > 1e-9 or provenance.granularity != cell.method.granularity:
        raise PruneError(
            f"{folder}: was drawn at sparsity {provenance.target:g} and granularity {provenance.granularity}, and is "
            f"to be taken for {cell.sparsity:g} and {cell.method.granularity}; give the method that granularity, and a "
            "path with {sparsity} in it or that sparsity alone"
        )
    return fit_cut(folder, model)


def fit_cut(folder: Path, model: Model) -> Choice:
    """What the ticket keeps, for a model that it may not have been drawn of. Raises LxError if it misfits."""
    ticket = load_ticket(folder)
    if isinstance(ticket.cut, Surgery):
        ticket.cut.check({name: tensor.shape for name, tensor in model.weights.items()})
    else:
        ticket.cut.check(model.weights)
        lacking = sorted(model.prunable.keys() - ticket.cut.kept.keys())
        if lacking:
            raise PruneError(
                f"{folder}: its mask says nothing of {lacking[0]}; take a ticket of a model of the same parts"
            )
    return ticket.cut


def kept_dense_of(recipe: Recipe, model: Model, cell: Cell) -> list[str]:
    """Return the names of the prunable matrices that the cell's method does not prune, whatever their scores."""
    method = cell.method
    if method.ticket:
        return load_ticket(find_ticket(cell)).provenance.kept_dense
    if method.control in ("dense-longer", "small-dense") or recipe.faults:
        return []
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    if method.is_structured:
        return [name for name in shapes if name in method.keep_dense]
    return find_kept_dense(shapes, Selection.from_method(method, cell.sparsity))


def say_undivided(recipe: Recipe, model: Model, cells: Sequence[Cell]) -> list[str]:
    """Return a line for each granularity of `cells` that does not divide all matrices of the model."""
    if recipe.faults:
        return []
    methods = [cell.method for cell in cells if not (cell.method.ticket or cell.method.is_structured)]
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    said = (describe_undivided(shapes, granularity) for granularity in sorted({each.granularity for each in methods}))
    return [f"kept dense: {words}" for words in said if words]


def check_cells(recipe: Recipe, model: Model, cells: Sequence[Cell]) -> None:
    """Raises LxError for a cell that cannot be drawn of such a model, as far as no score decides it.

    A sparsity that would empty a matrix, a granularity that divides none, a ticket that is not there or misfits.
    """
    groups: dict[str, tuple[UnitGroup, ...]] = {}
    for cell in {(cell.method, cell.sparsity): cell for cell in cells}.values():
        try:
            _check(recipe, model, cell, groups)
        except PruneError as error:
            raise RunError(f"{cell.method.id}: {error}") from None
    for cell in cells:
        if cell.method.ticket:
            take_cut(cell, model)


def _check(recipe: Recipe, model: Model, cell: Cell, groups: dict[str, tuple[UnitGroup, ...]]) -> None:
    method = cell.method
    if method.control in ("dense-longer", "small-dense") or method.ticket or recipe.faults:
        return
    if method.is_structured:
        selection = Selection.from_method(method, cell.sparsity, multiple=recipe.prune.multiple)
        known = groups.get(method.granularity)
        groups[method.granularity] = check_structured(model, selection, groups=known)
        return
    if method.scope == "sensitivity" and cell.sparsity > max(SPARSITIES):
        raise PruneError(
            f"scope sensitivity: is measured up to {max(SPARSITIES):g}, and {cell.sparsity:g} is asked for; lower the "
            "sparsity, or give another scope"
        )
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    for sparsity in sparsities_of(method, cell.sparsity):
        check_selection(shapes, Selection.from_method(method, sparsity), modality=model.family.modality)


def sparsities_of(method: Method, target: float) -> list[float]:
    """The sparsities at which a ticket of `method` is retrained, the last of them its target."""
    return rounds_to(target, method.rate or RATE) if method.schedule == "iterative-retrain" else [target]
