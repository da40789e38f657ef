"""The choice of what a cell keeps (weights, neurons, heads or layers), and the measurements that the choice needs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from lxcompress.errors import PruneError, RunError
from lxcompress.filenames import WEIGHTS_FILE
from lxcompress.models.checkpoints import Model
from lxcompress.pruning.choose import check_selection, describe_undivided, find_kept_dense, mask_from_scores
from lxcompress.pruning.compound import Compound, within_smaller
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
from lxcompress.study.context import StudyContext
from lxcompress.study.seed import SeedRun, load_movement
from lxcompress.text import read_text
from lxcompress.tickets import load_ticket
from lxcompress.training.calibration import CalibrationSpec, collect_statistics
from lxcompress.training.sensitivity import BATCH_SIZE, SPARSITIES, measure_sensitivity, sensitivity_masks

Choice = Mask | Surgery


class CutChooser:
    """A chooser of what one cell keeps. It finds the groups of units and reads the movement only once."""

    def __init__(self, context: StudyContext, seed_run: SeedRun, cell: Cell) -> None:
        self.context, self.seed_run, self.cell = context, seed_run, cell
        self.model, self.method = seed_run.model, cell.method
        self.shapes = {name: weight.shape for name, weight in self.model.prunable.items()}
        self.groups: tuple[UnitGroup, ...] = ()
        self.movement: Weights | None = None
        if self.method.is_structured and not self.method.ticket:
            self.groups = seed_run.find_groups(self.method.granularity)

    def choose(self, weights: Weights, sparsity: float, within: Mask | None = None) -> Mask:
        """Return the Mask of the weights that are kept at `sparsity`; a structured method masks whole units.

        `weights` are ranked; those that the mask `within` removed stay removed.
        """
        if self.context.recipe.faults:
            return self._published(weights)
        if self.method.is_dense:
            return Mask({name: weights[name].new_ones(shape).bool() for name, shape in self.shapes.items()})
        if self.method.schedule == "iterative":
            for earlier in self.rounds_to(sparsity)[:-1]:
                within = self._rank_and_choose(weights, earlier, within)
        mask = self._rank_and_choose(weights, sparsity, within)
        return self.shuffle(mask) if sparsity == self.cell.sparsity else mask

    def rounds_to(self, sparsity: float) -> list[float]:
        """Return the sparsity after each round of an iterative schedule; the last is `sparsity`.

        A round is left out if the first step of a compound removed as much, because units are removed whole.
        """
        first = self.seed_run.first
        rounds = rounds_to(sparsity, self.method.rate or RATE, start=start_of_rounds(self.method))
        removed = first.record.sparsity.achieved if first else -1.0
        return [*(earlier for earlier in rounds[:-1] if earlier > removed), rounds[-1]]

    def shuffle(self, mask: Mask) -> Mask:
        """Return `mask`; for the control `shuffled`, return a random mask that keeps as many weights."""
        return shuffle_mask(mask, self.cell.seed) if self.method.control == "shuffled" else mask

    def choose_surgery(self, weights: Weights) -> Surgery:
        """Return the Surgery that keeps the units of `weights` with the highest scores, chosen in one shot."""
        return self._choose_units(self.score(weights), self.cell.sparsity, None)

    def to_surgery(self, mask: Mask) -> Surgery:
        """Return the Surgery that removes the same units as `mask`; the mask must remove whole units."""
        return surgery_of(mask, self.groups)

    def choose_by_scores(self, scores: Weights, sparsity: float, within: Mask | None) -> Mask:
        """Return the Mask of the weights or units with the highest scores."""
        if self.groups:
            return self._choose_units(scores, sparsity, within).mask(self.shapes)
        return mask_from_scores(
            scores,
            self._selection(sparsity),
            modality=self.model.family.modality,
            sensitivities=self._sensitivities(scores) if self.method.scope == "sensitivity" else None,
            within=within,
        )

    def score(self, weights: Weights) -> Weights:
        """Return the criterion's score of each prunable weight: name of a matrix -> scores of its shape."""
        prunable = {name: weights[name] for name in self.shapes}
        return score_weights(
            prunable, criterion=self.method.criterion, seed=self.cell.seed, statistics=self._statistics(weights)
        )

    def _selection(self, sparsity: float) -> Selection:
        """Return the Selection (what to remove, and where) of the cell's method at `sparsity`.

        `sparsity` counts the weights of the original model, and that of the result those of the model that is cut.
        """
        selection = Selection.from_method(self.method, sparsity, multiple=self.context.recipe.prune.multiple)
        first = self.seed_run.first
        return within_smaller(selection, self.shapes, first.record.sparsity.prunable) if first else selection

    def _rank_and_choose(self, weights: Weights, sparsity: float, within: Mask | None) -> Mask:
        """Rank the weights that `within` keeps (without it, all); return the Mask of those kept at `sparsity`."""
        return self.choose_by_scores(self.score(within.apply(weights) if within else weights), sparsity, within)

    def _choose_units(self, scores: Weights, sparsity: float, within: Mask | None) -> Surgery:
        """Return the Surgery that keeps the units with the highest scores, among those that `within` keeps."""
        return choose_units(
            scores,
            self.groups,
            self._selection(sparsity),
            prunable=self.shapes,
            within=self.to_surgery(within) if within else None,
        )

    def _statistics(self, weights: Weights) -> CalibrationStatistics:
        """Return the statistics that the cell's criterion needs; they are measured with `weights`."""
        kind = self.method.criterion_spec.needs
        if kind is None:
            return CalibrationStatistics()
        if kind == "movement":
            if self.movement is None:
                self.movement = load_movement(self.context.run, self.model, self.seed_run.seed)
            return CalibrationStatistics(movement=self.movement)
        batch_size = self.context.recipe.prune.calibration.batch_size
        return CalibrationStatistics(
            **{kind: collect_statistics(self.model, weights, kind, self._calibration(batch_size))}
        )

    def _calibration(self, batch_size: int) -> CalibrationSpec:
        """Return the settings of the calibration: those of the recipe, with the seed of the cell."""
        return CalibrationSpec(
            self.context.task,
            self.context.recipe.train,
            self.context.device,
            self.cell.seed,
            questions=self.context.recipe.prune.calibration.questions,
            batch_size=batch_size,
        )

    def _published(self, weights: Weights) -> Mask:
        """Return the Mask that the published study would choose, with the faults of the recipe's protocol."""
        return choose_published_mask(
            {name: weights[name] for name in self.model.weights},  # random noise is drawn in this order
            self._selection(self.cell.sparsity),
            is_prunable=self.model.family.is_prunable,
            criterion=self.method.criterion,
            seed=self.cell.seed,
            faults=self.context.recipe.faults,
        )

    def _sensitivities(self, scores: Weights) -> Mapping[str, Mapping[float, float]]:
        """Return the sensitivities of the dense model: name of a matrix -> sparsity -> rise of the loss.

        They are measured once for each seed and method, and saved in the run folder.
        """
        path = self.context.run.sensitivity(self.seed_run.seed, self.method.id)
        with self.context.run.alone_at(path):
            curves = self._read_sensitivities(path, scores)
            if curves is None:
                curves = self._measure_sensitivities(scores)
                write_record(path, Sensitivity.model_validate({**self._sensitivity_fields(), "curves": curves}))
        return curves

    def _read_sensitivities(self, path: Path, scores: Weights) -> dict[str, dict[float, float]] | None:
        """Return the saved sensitivities; None if the file is missing, damaged, or of another model."""
        if not is_whole(path):
            return None
        expected = self._sensitivity_fields()
        tree = json.loads(read_text(path))
        try:
            if isinstance(tree, dict) and "curves" not in tree:  # version 0.1 wrote the curves alone
                record = Sensitivity.model_validate({**expected, "curves": tree})
            else:
                record = read_record(path, Sensitivity)
        except (RunError, ValidationError):
            return None
        names = {name for name in scores if name not in self.method.keep_dense}
        rises = [rise for curve in record.curves.values() for rise in curve.values()]
        is_same = record.model_dump(include=set(expected)) == expected and record.curves.keys() == names
        return record.curves if is_same and all(math.isfinite(rise) for rise in rises) else None

    def _sensitivity_fields(self) -> dict[str, str | int]:
        """Return the fields of a Sensitivity record that identify the measured model: method, seed, checksum."""
        dense = self.context.run.dense(self.seed_run.seed) / WEIGHTS_FILE
        return {"method": self.method.id, "seed": self.seed_run.seed, "dense_sha256": sha256(dense)}

    def _measure_sensitivities(self, scores: Weights) -> dict[str, dict[float, float]]:
        """Measure the sensitivities of the dense model's matrices; return them as `_sensitivities` does."""
        masks = sensitivity_masks(scores, self._selection(self.cell.sparsity))
        return measure_sensitivity(self.model, self.seed_run.dense, masks, self._calibration(BATCH_SIZE))


def find_ticket(cell: Cell) -> Path:
    """Return the folder of the ticket whose mask the cell uses, with the cell's seed and sparsity filled in."""
    assert cell.method.ticket
    text = cell.method.ticket.replace("{seed}", str(cell.seed))
    return Path(text.replace("{sparsity}", f"{100 * cell.sparsity:.6g}"))


def load_cut(cell: Cell, model: Model) -> Choice:
    """Return the Mask or Surgery of the ticket that the cell's method names.

    Raises LxError if the ticket has another sparsity or granularity than the cell, or does not fit the model.
    """
    folder = find_ticket(cell)
    provenance = load_ticket(folder).provenance
    if abs(provenance.target - cell.sparsity) > 1e-9 or provenance.granularity != cell.method.granularity:
        raise PruneError(
            f"{folder}: this ticket has sparsity {provenance.target:g} and granularity {provenance.granularity}, but "
            f"its method needs {cell.sparsity:g} and {cell.method.granularity}; give the method the ticket's "
            "granularity and sparsity, or a path with {sparsity} in it"
        )
    return load_fitting_cut(folder, model)


def load_fitting_cut(folder: Path, model: Model) -> Choice:
    """Return the Mask or Surgery of the ticket in `folder`. Raises LxError if it does not fit `model`."""
    ticket = load_ticket(folder)
    if isinstance(ticket.cut, Compound):
        raise PruneError(
            f"{folder}: is a compound ticket, whose mask fits its own smaller model only; give a ticket with a mask of "
            "the whole model"
        )
    if isinstance(ticket.cut, Surgery):
        ticket.cut.check({name: tensor.shape for name, tensor in model.weights.items()})
    else:
        ticket.cut.check(model.weights)
        missing = sorted(model.prunable.keys() - ticket.cut.kept.keys())
        if missing:
            raise PruneError(f"{folder}: its mask lacks {missing[0]}; give a ticket of a model with the same parts")
    return ticket.cut


def kept_dense_of(recipe: Recipe, model: Model, cell: Cell) -> list[str]:
    """Return the names of the prunable matrices that the cell's method leaves dense, whatever their scores.

    `model` is the model that the cell's method cuts: the smaller model for the second step of a compound.
    """
    method = cell.method
    if method.ticket:
        return load_ticket(find_ticket(cell)).provenance.kept_dense
    if method.is_dense or recipe.faults:
        return []
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    if method.is_structured:
        return [name for name in shapes if name in method.keep_dense]
    return find_kept_dense(shapes, Selection.from_method(method, cell.sparsity))


def say_undivided(recipe: Recipe, model: Model, cells: Sequence[Cell]) -> list[str]:
    """Return a sentence for each granularity of `cells` whose blocks do not divide all matrices of the model."""
    if recipe.faults:
        return []
    methods = [cell.method for cell in cells if not (cell.method.ticket or cell.method.makes_smaller_models)]
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    granularities = sorted({method.granularity for method in methods})
    descriptions = (describe_undivided(shapes, granularity) for granularity in granularities)
    return [f"kept dense: {description}" for description in descriptions if description]


def check_cells(recipe: Recipe, model: Model, cells: Sequence[Cell]) -> None:
    """Raise LxError for a cell that cannot be drawn from `model`, as far as this is known before weights are scored.

    For example: a sparsity that empties a matrix, a granularity that divides no matrix, a ticket that is missing or
    does not fit the model.
    """
    groups: dict[str, tuple[UnitGroup, ...]] = {}
    for cell in {(cell.method, cell.sparsity): cell for cell in cells}.values():
        try:
            _check_cell(recipe, model, cell, groups)
        except PruneError as error:
            raise RunError(f"{cell.method.id}: {error}") from None
    for cell in cells:
        if cell.method.ticket:
            load_cut(cell, model)


def _check_cell(recipe: Recipe, model: Model, cell: Cell, groups: dict[str, tuple[UnitGroup, ...]]) -> None:
    """Raise PruneError for a cell that cannot be drawn.

    The groups of units that are found are stored in `groups` (granularity -> groups), for the cells that follow.
    """
    method = cell.method
    if method.is_dense or method.ticket or recipe.faults:
        return
    if method.first:
        _check_compound(recipe, model, cell, groups)
        return
    if method.is_structured:
        selection = Selection.from_method(method, cell.sparsity, multiple=recipe.prune.multiple)
        known = groups.get(method.granularity)
        groups[method.granularity] = check_structured(model, selection, groups=known)
        return
    if method.scope == "sensitivity" and cell.sparsity > max(SPARSITIES):
        raise PruneError(
            f"scope sensitivity: is measured up to sparsity {max(SPARSITIES):g}, got {cell.sparsity:g}; lower the "
            "sparsity, or give another scope"
        )
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    for sparsity in sparsities_of(method, cell.sparsity):
        check_selection(shapes, Selection.from_method(method, sparsity), modality=model.family.modality)


def _check_compound(recipe: Recipe, model: Model, cell: Cell, groups: dict[str, tuple[UnitGroup, ...]]) -> None:
    """Raise PruneError for a cell of a compound method whose first or second step cannot be drawn.

    With a first step of scope layer, the sizes of the smaller model do not depend on the scores, so its second step is
    checked too. Otherwise the second step is checked when the first is done.
    """
    method, first = cell.method, cell.method.first
    assert first is not None
    _check_cell(recipe, model, Cell(first.method, first.sparsity, cell.seed), groups)
    if first.scope != "layer":
        return
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    scores = {name: torch.zeros(shape) for name, shape in shapes.items()}
    selection = Selection.from_method(first.method, first.sparsity, multiple=recipe.prune.multiple)
    surgery = choose_units(scores, groups[first.granularity], selection, prunable=shapes)
    removed = surgery.count(model.live, model.whole, shapes)
    smaller = surgery.find_shapes({name: weight.shape for name, weight in model.weights.items()})
    left = {name: shape for name, shape in smaller.items() if model.family.is_prunable(name, shape)}
    for sparsity in sparsities_of(method, cell.sparsity):
        if sparsity == cell.sparsity or sparsity > removed.achieved:
            second = within_smaller(Selection.from_method(method, sparsity), left, removed.prunable)
            check_selection(left, second, modality=model.family.modality)


def sparsities_of(method: Method, target: float) -> list[float]:
    """Return the sparsities at which a ticket of `method` is retrained, one after another; the last is `target`."""
    if method.schedule != "iterative-retrain":
        return [target]
    return rounds_to(target, method.rate or RATE, start=start_of_rounds(method))


def start_of_rounds(method: Method) -> float:
    """Return the sparsity before the first round of an iterative schedule: that of the first step of a compound."""
    return method.first.sparsity if method.first else 0.0
