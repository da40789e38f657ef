"""Every way to draw a ticket, through a whole study on the toy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lxcompress.errors import LxError
from lxcompress.models.checkpoints import load_weights
from lxcompress.pruning.mask import Mask
from lxcompress.pruning.surgery import Surgery
from lxcompress.recipe import Cell, Recipe, load_recipe
from lxcompress.rundir import RunDir, read_run
from lxcompress.study.plan import plan_study
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import run_study
from lxcompress.tickets import is_ticket, load_ticket
from tests.study.numbers import FIXTURES, assert_recorded, read_numbers

TAUGHT = "distill: {weight: 0.5, temperature: 2, hidden: 0.1}"
KEEP_DENSE = "keep_dense: [lxmert.encoder.visn_fc.visn_fc.weight]"
"""Its 18 inputs are no multiple of 4."""
METHODS = (
    "{}",
    "{criterion: random}",
    "{criterion: movement}",
    "{criterion: taylor}",
    "{scope: global}",
    "{criterion: wanda, scope: row}",
    "{criterion: fisher, schedule: iterative, rate: 0.4}",
    "{scope: modality, relative_rates: {vision: 2, head: 0}}",
    "{scope: sensitivity}",
    "{schedule: iterative-retrain, rate: 0.3}",
    "{schedule: iterative-retrain, rate: 0.3, criterion: movement, rewind: learning-rate}",
    "{schedule: iterative-retrain, rate: 0.3, epochs_factor: 2}",
    "{schedule: gradual}",
    "{schedule: gradual, epochs_factor: 2}",
    "{schedule: gradual, criterion: movement, rewind: learning-rate}",
    "{rewind: step, rewind_at: 0.4}",
    "{rewind: learning-rate}",
    "{rewind: none}",
    "{" + TAUGHT + "}",
    "{granularity: block-1x4, " + KEEP_DENSE + "}",
    "{granularity: block-4x1}",
    "{granularity: '2:4'}",
    "{granularity: neuron, sparsities: [0.2]}",
    "{granularity: neuron+head, sparsities: [0.3], rewind: learning-rate, " + TAUGHT + "}",
    "{granularity: neuron+head, sparsities: [0.3], schedule: iterative-retrain, rate: 0.2}",
    "{granularity: neuron, sparsities: [0.2], schedule: gradual}",
    "{granularity: neuron, sparsities: [0.2], schedule: iterative, criterion: taylor}",
    "{granularity: layer, sparsities: [0.25]}",
    "{control: reinitialised}",
    "{control: shuffled}",
    "{control: dense-longer}",
    "{control: dense-longer, epochs_factor: 3}",
    "{control: small-dense}",
)


def of_methods(file: Path, methods, *more: str) -> Recipe:
    chosen = f"prune={{sparsities: [0.5], calibration: {{questions: 32}}, methods: [{', '.join(methods)}]}}"
    return load_recipe(file, [chosen, "seeds=[0]", *more])


@pytest.fixture(scope="module")
def drawn(toy_recipe_file, tmp_path_factory) -> tuple[Recipe, RunDir]:
    """A study of every method, one seed."""
    root = tmp_path_factory.mktemp("methods") / "run"
    recipe = of_methods(toy_recipe_file, METHODS)
    assert run_study(recipe, root) == len(METHODS) + 1
    return recipe, RunDir(root)


def cell_of(recipe: Recipe, name: str) -> Cell:
    return next(cell for cell in recipe.cells() if cell.method.id == name)


def room(cell: Cell) -> float:
    """Return how far from its target a toy's ticket may be: its units are large."""
    if cell.method.granularity == "layer":
        return 0.15
    return 0.1 if cell.method.is_structured or cell.method.control else 0.02


def test_every_method_ends_with_its_result_and_a_ticket_unless_it_is_dense(drawn) -> None:
    recipe, run = drawn
    results = read_run(run.root).results
    for cell in recipe.cells():
        result, folder = results[cell.id], run.ticket(cell)
        assert is_ticket(folder) == (cell.method.control != "small-dense"), cell.id
        assert abs(result.sparsity.achieved - cell.sparsity) < room(cell), cell.id
        assert result.parameters > 0
        assert result.flops > 0
        assert result.drawing_s is not None
        assert set(result.kept_by_modality) == {"language", "vision", "cross", "head"}
        if is_ticket(folder):
            ticket = load_ticket(folder)
            assert isinstance(ticket.cut, Surgery if cell.method.is_structured else Mask)
            assert ticket.provenance.sparsity == result.sparsity
            assert ticket.provenance.kept_dense == result.kept_dense
        is_blocks = cell.method.granularity in ("2:4", "block-1x4")  # of which one is listed, one found
        assert result.kept_dense == (["lxmert.encoder.visn_fc.visn_fc.weight"] if is_blocks else []), cell.id
    assert not list(run.root.rglob("*.part")) + list(run.root.rglob("checkpoint.safetensors"))


def test_structured_tickets_are_smaller_models(drawn) -> None:
    recipe, run = drawn
    results = read_run(run.root).results
    whole = results[cell_of(recipe, "low-magnitude-weight").id]
    for cell in recipe.cells():
        result = results[cell.id]
        if cell.method.is_structured:
            size = (run.ticket(cell) / "model.safetensors").stat().st_size
            dense = (run.dense(0) / "model.safetensors").stat().st_size
            assert result.parameters < whole.parameters
            assert result.flops < whole.flops
            assert dense - size > 3 * (whole.parameters - result.parameters)
        elif not cell.method.is_control:
            assert (result.parameters, result.flops) == (whole.parameters, whole.flops)


def test_methods_rank_otherwise_or_train_otherwise(drawn) -> None:
    """No two methods end with the same weights, so every setting has an effect."""
    recipe, run = drawn
    seen: dict[bytes, str] = {}
    for cell in recipe.cells():
        weights = load_weights(run.ticket(cell) / "model.safetensors")
        key = b"".join(tensor.numpy().tobytes() for tensor in weights.values())
        assert seen.setdefault(key, cell.id) == cell.id


def test_iterative_retraining_counts_all_its_rounds_and_shares_them(drawn, toy_recipe_file, tmp_path) -> None:
    recipe, run = drawn
    results, name = read_run(run.root).results, "low-magnitude-weight-iterative-retrain30"
    once = results[cell_of(recipe, "low-magnitude-weight").id].steps
    assert results[cell_of(recipe, name).id].steps == 2 * once
    assert [path.name for path in (run.root / "seeds/0/rounds" / name).iterdir()] == ["30"]
    wider = RunDir(tmp_path / "run")
    both = "prune.sparsities=[0.5, 0.6]"
    assert run_study(of_methods(toy_recipe_file, ["{schedule: iterative-retrain, rate: 0.3}"], both), wider.root) == 3
    assert sorted(path.name for path in (wider.root / "seeds/0/rounds" / name).iterdir()) == ["30", "51"]
    alone, shared = (load_weights(each.ticket(cell_of(recipe, name)) / "model.safetensors") for each in (run, wider))
    assert all(torch.equal(alone[key], shared[key]) for key in alone)


def test_a_longer_last_training_leaves_the_rounds_before_it_as_they_are(drawn) -> None:
    recipe, run = drawn
    results, name = read_run(run.root).results, "low-magnitude-weight-iterative-retrain30"
    plain, longer = (results[cell_of(recipe, method).id] for method in (name, f"{name}-last2"))
    once = plain.steps // 2
    assert longer.steps == plain.steps + once
    assert len(longer.epochs) == 2 * len(plain.epochs)
    files = [run.root / "seeds/0/rounds" / method / "30/model.safetensors" for method in (name, f"{name}-last2")]
    assert files[0].read_bytes() == files[1].read_bytes()
    gradual = results[cell_of(recipe, "low-magnitude-weight-gradual-last2").id]
    assert gradual.steps == 2 * once
    assert gradual.sparsity.kept == plain.sparsity.kept


def test_controls_control_for_what_they_say(drawn) -> None:
    recipe, run = drawn
    plain, shuffled, fresh = (
        load_ticket(run.ticket(cell_of(recipe, name)))
        for name in ("low-magnitude-weight", "low-magnitude-weight-shuffled", "low-magnitude-weight-reinitialised")
    )
    for name, kept in plain.cut.kept.items():
        assert int(kept.sum()) == int(shuffled.cut.kept[name].sum())
        assert torch.equal(kept, fresh.cut.kept[name])
    assert any(not torch.equal(kept, shuffled.cut.kept[name]) for name, kept in plain.cut.kept.items())
    results = read_run(run.root).results
    longer, one = results[cell_of(recipe, "dense-longer").id], results[cell_of(recipe, "low-magnitude-weight").id]
    assert longer.steps == 2 * one.steps
    assert len(longer.epochs) == 2 * len(one.epochs)
    assert longer.sparsity.kept == longer.sparsity.prunable


def test_late_rewinding_begins_at_the_dense_run_and_leaves_its_first_steps_out(drawn) -> None:
    recipe, run = drawn
    results = read_run(run.root).results
    late, one = (results[cell_of(recipe, name).id] for name in ("low-magnitude-weight-late40", "low-magnitude-weight"))
    step = one.steps - late.steps
    assert step == round(0.4 * one.steps)
    assert run.snapshot(0, step).exists()


def test_a_method_that_comes_later_ends_as_if_it_had_been_there(drawn, toy_recipe_file, tmp_path) -> None:
    """For movement and snapshots the dense run is repeated."""
    recipe, run = drawn
    run_study(of_methods(toy_recipe_file, ["{}"]), tmp_path / "run")
    later = of_methods(toy_recipe_file, ["{}", "{criterion: movement}", "{rewind: step, rewind_at: 0.4}"])
    assert run_study(later, tmp_path / "run") == 2
    for name in ("movement-weight", "low-magnitude-weight-late40"):
        cell = cell_of(recipe, name)
        one, other = (load_weights(each.ticket(cell) / "model.safetensors") for each in (run, RunDir(tmp_path / "run")))
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_a_ticket_is_taken_to_another_task(drawn, toy_recipe_file, tmp_path) -> None:
    _recipe, run = drawn
    for name, percent in (("low-magnitude-weight", "50"), ("low-magnitude-neuron", "20")):
        path = f"{run.root}/tickets/{name}-{{sparsity}}-seed{{seed}}"
        granularity = "neuron" if "neuron" in name else "weight"
        method = f"{{name: moved, ticket: '{path}', granularity: {granularity}, sparsities: [0.{percent}]}}"
        moved = of_methods(toy_recipe_file, [method], "data.seed=9")
        root = tmp_path / name
        assert run_study(moved, root) == 2
        ticket = load_ticket(root / f"tickets/moved-{percent}-seed0")
        source = load_ticket(run.root / f"tickets/{name}-{percent}-seed0")
        assert ticket.cut.apply(source.model.weights) if isinstance(ticket.cut, Mask) else ticket.cut == source.cut
        if isinstance(ticket.cut, Mask):
            assert all(torch.equal(kept, source.cut.kept[name]) for name, kept in ticket.cut.kept.items())


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("{granularity: '3:5'}", "3:5"),
        ("{granularity: neuron, sparsities: [0.95]}", "can remove at most"),
        ("{granularity: head, sparsities: [0.9]}", "can remove at most"),
        ("{ticket: nowhere-at-all}", "nowhere-at-all: is not a ticket"),
        ("{sparsities: [0.99999]}", "would"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_any_training(method, said, toy_recipe_file, tmp_path) -> None:
    with pytest.raises(LxError, match=said):
        run_study(of_methods(toy_recipe_file, [method]), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("dense.json"))


def test_a_method_of_the_same_name_that_is_made_otherwise_is_refused(drawn, toy_recipe_file) -> None:
    _, run = drawn
    other = of_methods(toy_recipe_file, ["{name: low-magnitude-weight-late40, rewind: none}"])
    with pytest.raises(LxError, match="low-magnitude-weight-late40 with other settings"):
        run_study(other, run.root)


GRADUAL = "{granularity: neuron, sparsities: [0.2], schedule: gradual}"


def test_a_gradual_cut_that_was_killed_after_its_last_update_still_cuts(drawn, toy_recipe_file, tmp_path) -> None:
    """The cut depends on the mask in the checkpoint alone, and not on the memory of a process."""
    recipe, run = drawn
    alone = of_methods(toy_recipe_file, [GRADUAL])
    root, watch = tmp_path / "run", StopAfter(2 * 12 - 1)
    with pytest.raises(KeyboardInterrupt):
        run_study(alone, root, progress=watch)
    assert list(root.rglob("tickets/*/checkpoint.safetensors"))
    assert run_study(alone, root) == 1
    cell = cell_of(recipe, "low-magnitude-neuron-gradual")
    ours, other = load_ticket(RunDir(root).ticket(cell)), load_ticket(run.ticket(cell))
    assert isinstance(ours.cut, Surgery)
    assert ours.cut == other.cut
    assert all(torch.equal(tensor, other.model.weights[name]) for name, tensor in ours.model.weights.items())


class StopAfter(SilentReporter):
    """Interrupts a study after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_the_plan_counts_rounds_once_and_refuses_what_cannot_be_drawn(toy_recipe_file, tmp_path) -> None:
    rounds = of_methods(toy_recipe_file, ["{schedule: iterative-retrain, rate: 0.3}"], "prune.sparsities=[0.5, 0.6]")
    plan = plan_study(rounds, tmp_path / "run")
    assert (plan.dense_runs, plan.cells, plan.rounds) == (1, 2, 2)
    run_study(rounds, tmp_path / "run", only="*-60-*")
    plan = plan_study(rounds, tmp_path / "run")
    assert (plan.dense_runs, plan.cells, plan.rounds) == (0, 1, 0)
    with pytest.raises(LxError, match="3:5"):
        plan_study(of_methods(toy_recipe_file, ["{granularity: '3:5'}"]), tmp_path / "other")


def test_no_number_of_a_study_changes(drawn) -> None:
    """`fixtures/numbers-of-every-method.json` was recorded with commit e8c57c5, from the same recipe."""
    recorded = json.loads((FIXTURES / "numbers-of-every-method.json").read_text("utf-8"))
    assert_recorded(read_numbers(drawn[1].root), recorded)
