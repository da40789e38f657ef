"""Laws of compound tickets: a smaller model first, then a mask of it; counted over the original model's weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lxcompress.analysis.kept_weights import by_layer, kept_by_layer
from lxcompress.analysis.methods import tabulate
from lxcompress.analysis.prediction import predict_files
from lxcompress.analysis.summary import summarise
from lxcompress.checksums import check_folder
from lxcompress.errors import LxError, PruneError, RecipeError, TicketError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.models.checkpoints import load_weights
from lxcompress.pruning.compound import Compound
from lxcompress.pruning.scope import keep_count
from lxcompress.pruning.surgery import operate
from lxcompress.recipe import Recipe, load_recipe
from lxcompress.report.methods import table_note
from lxcompress.rundir import RunDir, read_run
from lxcompress.study.agreement import load_start_task
from lxcompress.study.choose import load_fitting_cut
from lxcompress.study.options import PruneOptions, read_first
from lxcompress.study.plan import plan_study
from lxcompress.study.prune import prune_model
from lxcompress.study.run import run_study
from lxcompress.study.seed import make_start
from lxcompress.tickets import load_ticket, mask_of
from lxcompress.workflow.tickets import read_mask
from tests.complain import complain
from tests.once import make_once
from tests.study.test_methods import StopAfter, cell_of, of_methods

TAUGHT = "distill: {weight: 0.5}"
FIRST = (
    "first: {granularity: neuron+head, sparsity: 0.3, criterion: taylor, scope: global, schedule: iterative-retrain, "
    f"rate: 0.2, rewind: learning-rate, {TAUGHT}}}"
)
BY_LAYERS = "first: {granularity: layer, sparsity: 0.25, rewind: step, rewind_at: 0.4}"
METHODS = (
    f"{{name: rounds, {FIRST}, granularity: block-1x4, scope: global, least_kept: 0.05, schedule: iterative-retrain, "
    f"rate: 0.3, rewind: learning-rate, {TAUGHT}, sparsities: [0.5, 0.7]}}",
    f"{{name: grown, {FIRST}, scope: global, schedule: gradual, sparsities: [0.6]}}",
    f"{{name: pattern, {FIRST}, granularity: '2:4', criterion: fisher, rewind: step, rewind_at: 0.4}}",
    f"{{name: layers, {BY_LAYERS}, scope: layer, rewind: none, sparsities: [0.7]}}",
)
CELLS = ("rounds-50-seed0", "rounds-70-seed0", "grown-60-seed0", "pattern-65-seed0", "layers-70-seed0")


@pytest.fixture(scope="module")
def recipe(toy_recipe_file) -> Recipe:
    return of_methods(toy_recipe_file, METHODS)


@pytest.fixture(scope="module")
def drawn(recipe) -> RunDir:
    """A study of every kind of second step, one seed: only read it."""
    return RunDir(make_once("compounds", lambda folder: run_study(recipe, folder)))


@pytest.mark.parametrize("cell", CELLS)
def test_a_compound_is_counted_over_the_original_weights(cell, drawn) -> None:
    result, ticket = read_run(drawn.root).results[cell], load_ticket(drawn.root / "tickets" / cell)
    counted, first = ticket.provenance.sparsity, ticket.provenance.first.sparsity
    assert isinstance(ticket.cut, Compound)
    assert result.sparsity == counted
    assert counted.prunable == first.prunable
    assert counted.kept == sum(int(kept.sum()) for kept in ticket.mask.kept.values())
    assert first.kept == sum(kept.numel() for kept in ticket.mask.kept.values())
    assert ticket.model.live == result.parameters
    wanted = keep_count(counted.prunable, result.target)
    if cell.startswith(("rounds", "grown")):
        assert abs(counted.kept - wanted) <= (2 if cell.startswith("rounds") else 0)  # half a block of four
    elif cell.startswith("pattern"):
        dense = sum(ticket.mask.kept[name].numel() for name in result.kept_dense)
        assert counted.kept == (first.kept + dense) / 2
    left = ticket.model.live - (first.kept - counted.kept)
    assert counted.of_live == pytest.approx(1 - left / counted.live, abs=1e-12)
    assert counted.of_all == pytest.approx((counted.live - left) / counted.all, abs=1e-12)


def test_all_methods_with_one_first_step_share_it(drawn) -> None:
    results = read_run(drawn.root).results
    steps = {cell: results[cell].steps for cell in CELLS}
    once = read_run(drawn.root).dense[0].steps
    firsts = sorted(path.name.rpartition("-")[0] for path in (drawn.root / "seeds/0/first").iterdir())
    assert firsts == [
        "first-low-magnitude-layer-late40-25",
        "first-taylor-neuron+head-global-iterative-retrain20-lr-rewind-distilled-30",
    ]
    assert steps["rounds-50-seed0"] == 3 * once  # two trainings of the first step, and one of the second
    assert steps["rounds-70-seed0"] == 5 * once
    assert steps["grown-60-seed0"] == 3 * once
    assert [results[cell].shared_s > 0 for cell in CELLS] == [False, True, True, True, False]


def test_the_second_step_masks_the_trained_smaller_model(drawn, recipe) -> None:
    """With rewinding of the learning rate alone, what is masked is what the first step trained, to the bit."""
    folder = next((drawn.root / "seeds/0/first").glob("first-taylor*"))
    trained = load_weights(folder / "model.safetensors")
    ticket = load_ticket(drawn.root / "tickets/pattern-65-seed0")
    assert {name: tensor.shape for name, tensor in trained.items()} == {
        name: tensor.shape for name, tensor in ticket.model.weights.items()
    }
    assert ticket.surgery == load_ticket(drawn.root / "tickets/rounds-50-seed0").surgery


def test_a_compound_answers_as_its_mask_in_the_original_model_does(drawn, recipe) -> None:
    ticket = load_ticket(drawn.root / "tickets/rounds-50-seed0")
    task = load_start_task(recipe)
    model, start = make_start(recipe, task, 0)
    model.load(start)
    smaller = operate(model, ticket.surgery)
    smaller.load(ticket.cut.apply(start))
    mask = mask_of(ticket)
    model.load(mask.apply(start))
    inputs = task.valid.inputs(torch.arange(8))
    with torch.no_grad():
        whole, small = (each.family.answer(each.module.eval(), inputs) for each in (model, smaller))
    assert torch.allclose(whole, small, atol=1e-5)
    assert sum(int(kept.sum()) for kept in mask.kept.values()) == ticket.provenance.sparsity.kept
    read = read_mask(ticket.folder)
    assert all((read[name] == kept.numpy()).all() for name, kept in mask.kept.items())


@pytest.mark.parametrize("steps", [20, 30])
def test_an_interrupted_compound_ends_as_an_uninterrupted_one(steps, recipe, drawn, tmp_path) -> None:
    """In the last training of the first step, and in that of the second; each training has 12 steps."""
    root = Path(shutil.copytree(drawn.root, tmp_path / "run"))
    for folder in ("seeds/0/first", "seeds/0/rounds", "tickets/rounds-50-seed0"):
        shutil.rmtree(root / folder)
    with pytest.raises(KeyboardInterrupt):
        run_study(recipe, root, progress=StopAfter(steps))
    assert run_study(recipe, root) == 1
    ours, other = (load_ticket(run / "tickets/rounds-50-seed0") for run in (root, drawn.root))
    assert ours.surgery == other.surgery
    assert all(torch.equal(tensor, other.model.weights[name]) for name, tensor in ours.model.weights.items())
    assert all(torch.equal(kept, other.mask.kept[name]) for name, kept in ours.mask.kept.items())
    assert not list(root.rglob("checkpoint.safetensors"))


@pytest.mark.parametrize("name", ["mask.safetensors", "surgery.json", "model.safetensors"])
def test_both_parts_of_a_compound_are_sealed(name, drawn, tmp_path) -> None:
    ticket = Path(shutil.copytree(drawn.root / "tickets/rounds-50-seed0", tmp_path / "ticket"))
    path = ticket / name
    before = path.read_bytes()
    path.write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
    complain(lambda: load_ticket(ticket), path, "sha256", kind=TicketError)
    complain(lambda: check_folder(ticket), path)
    path.unlink()
    complain(lambda: load_ticket(ticket), path, kind=TicketError)


@pytest.mark.parametrize(
    "change",
    [
        {"first": None},
        {"surgery_sha256": ""},
        {"mask_sha256": ""},
        {"first": {"target": 0.9}},
        {"first": {"sparsity": {"kept": 1}}},
    ],
)
def test_a_changed_record_of_a_compound_is_refused(change, drawn, tmp_path) -> None:
    ticket = Path(shutil.copytree(drawn.root / "tickets/rounds-50-seed0", tmp_path / "ticket"))
    tree = json.loads((ticket / "ticket.json").read_text("utf-8"))
    for field, value in change.items():
        tree[field] = tree[field] | value if isinstance(value, dict) else value
    (ticket / "ticket.json").write_text(json.dumps(tree), encoding="utf-8")
    complain(lambda: load_ticket(ticket), ticket)


def test_a_damaged_first_step_is_done_again(drawn, toy_recipe_file, tmp_path) -> None:
    root = Path(shutil.copytree(drawn.root, tmp_path / "run"))
    folder = next((root / "seeds/0/first").glob("first-low*"))
    (folder / "surgery.json").write_bytes(b"{}")
    (root / "tickets/layers-70-seed0/result.json").unlink()
    run_study(load_recipe(root / "recipe.yaml"), root)
    ours, other = (load_ticket(each / "tickets/layers-70-seed0") for each in (root, drawn.root))
    assert all(torch.equal(tensor, other.model.weights[name]) for name, tensor in ours.model.weights.items())
    assert (folder / "surgery.json").read_bytes() != b"{}"


def test_the_plan_counts_the_first_step_once(recipe, drawn, tmp_path) -> None:
    plan = plan_study(recipe, tmp_path / "run")
    # Two first steps; of one of them a round, and two rounds of the method `rounds`.
    assert (plan.dense_runs, plan.cells, plan.rounds) == (1, 5, 2 + 1 + 2)
    assert plan_study(recipe, drawn.root).rounds == 0


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("{first: {granularity: weight, sparsity: 0.3}}", "masks weights, but first makes a smaller model"),
        ("{first: {granularity: neuron, sparsity: 0.3}, granularity: head}", "the method itself masks weights of it"),
        ("{first: {granularity: neuron, sparsity: 0.3, rate: 0.5}}", "rate needs an iterative schedule"),
        ("{first: {granularity: neuron, sparsity: 0.3}, control: shuffled}", "cannot be combined with first"),
        ("{first: {granularity: neuron, sparsity: 0.3}, ticket: t}", "leave ticket or first out"),
        ("{first: {granularity: neuron, sparsity: 0.3}, scope: sensitivity}", "give another scope"),
        ("{first: {granularity: neuron, sparsity: 0.3}, criterion: movement}", "reads the training of the dense model"),
        ("{first: {granularity: neuron, sparsity: 0.3}, sparsities: [0.2, 0.5]}", "of which first removes 0.3"),
        ("{first: {granularity: neuron, sparsity: 0.6}}", "no sparsity is above that of first, 0.6"),
        ("{first: {granularity: neuron, sparsity: 0.3}, control: dense-longer}", "control"),
    ],
)
def test_settings_that_cannot_be_combined_are_refused(method, said, toy_recipe_file) -> None:
    complain(lambda: of_methods(toy_recipe_file, [method]), said, kind=RecipeError)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("{first: {granularity: neuron, sparsity: 0.2}, sparsities: [0.99999]}", "would"),
        ("{first: {granularity: neuron, sparsity: 0.95}, sparsities: [0.99]}", "can remove at most"),
        ("{first: {granularity: layer, sparsity: 0.25}, sparsities: [0.26]}", "first step left"),
    ],
)
def test_a_second_step_that_cannot_be_drawn_is_told_before_training(method, said, toy_recipe_file, tmp_path) -> None:
    with pytest.raises(LxError, match=said):
        run_study(of_methods(toy_recipe_file, [method]), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("dense.json"))


def test_ids_name_both_steps(recipe) -> None:
    method = cell_of(recipe, "rounds").method
    assert method.model_copy(update={"name": None}).id == (
        "taylor-neuron+head-global-iterative-retrain20-lr-rewind-distilled-30-then-"
        "low-magnitude-block-1x4-global-least5-iterative-retrain30-lr-rewind-distilled"
    )


def test_the_report_counts_a_compound_as_its_mask_in_the_original_model(drawn, recipe) -> None:
    cell = cell_of(recipe, "rounds")
    ticket = load_ticket(drawn.ticket(cell))
    whole = mask_of(ticket).kept
    by_name = {name: (int(kept.sum()), kept.numel()) for name, kept in whole.items()}
    expected = {name: kept / size for name, (kept, size) in by_layer(by_name).items()}
    assert kept_by_layer(drawn.root, cell) == expected
    summary = summarise(read_run(drawn.root))
    table = tabulate(summary)
    assert {row.kind for row in table.rows} == {"compound"}
    assert all(row.is_sized for row in table.rows)
    assert "Bold: the best compound one at each sparsity" in table_note(table)


def test_a_bitmask_of_a_compound_is_the_same_ticket_at_the_predicted_size(drawn, tmp_path) -> None:
    folder = drawn.root / "tickets/rounds-70-seed0"
    made = export(open_source(folder), tmp_path / "packed", ExportOptions("bitmask"))
    packed, ticket = load_ticket(tmp_path / "packed"), load_ticket(folder)
    assert isinstance(packed.cut, Compound)
    assert packed.surgery == ticket.surgery
    assert all(torch.equal(kept, packed.mask.kept[name]) for name, kept in ticket.mask.kept.items())
    assert all(torch.equal(tensor, packed.model.weights[name]) for name, tensor in ticket.model.weights.items())
    assert made.role == "ticket"
    assert made.prunable_zeros == pytest.approx(
        1 - packed.provenance.sparsity.kept / packed.provenance.first.sparsity.kept
    )
    run = read_run(drawn.root)
    predicted = predict_files(summarise(run), run.results["rounds-70-seed0"], folder)
    size_mb = next(found.size_mb for found in predicted if found.name == "bitmask fp32")
    assert size_mb == pytest.approx((tmp_path / "packed/bitmask.safetensors").stat().st_size / 1e6, rel=0.1)


@pytest.mark.parametrize(
    ("cell", "format", "precision"),
    [
        ("rounds-70-seed0", "engine", "fp32"),
        ("rounds-70-seed0", "engine", "int8"),
        ("layers-70-seed0", "transformers", "fp32"),
    ],
)
def test_an_exported_compound_answers_as_its_ticket(cell, format, precision, drawn, tmp_path) -> None:
    options = ExportOptions(format, precision=precision, layouts="table" if format == "engine" else None)
    made = export(open_source(drawn.root / "tickets" / cell), tmp_path / "out", options)
    assert made.parity.changed_answers <= (0 if precision == "fp32" else 2)
    counted = load_ticket(drawn.root / "tickets" / cell).provenance
    assert made.prunable_zeros >= 1 - counted.sparsity.kept / counted.first.sparsity.kept - 1e-9
    assert made.parameters == read_run(drawn.root).results[cell].parameters


def test_a_mask_of_a_compound_is_not_used_for_the_whole_model(drawn, recipe) -> None:
    model, _ = make_start(recipe, load_start_task(recipe), 0)
    folder = drawn.root / "tickets/rounds-70-seed0"
    complain(lambda: load_fitting_cut(folder, model), folder, "compound", kind=PruneError)


def test_a_model_is_pruned_in_two_steps_without_a_study(drawn, toy_recipe, tmp_path) -> None:
    dense = str(drawn.dense(0))
    first = read_first("neuron+head:0.3", criterion="low-magnitude", scope="global")
    options = PruneOptions(sparsity=0.7, first=first, scope="global", granularity="block-1x4", multiple=1)
    made = prune_model(dense, tmp_path / "ticket", options)
    ticket = load_ticket(tmp_path / "ticket")
    assert isinstance(ticket.cut, Compound)
    assert abs(made.sparsity.kept - keep_count(made.sparsity.prunable, 0.7)) <= 2
    alone = PruneOptions(sparsity=0.3, scope="global", granularity="neuron+head", multiple=1)
    prune_model(dense, tmp_path / "smaller", alone)
    assert ticket.surgery == load_ticket(tmp_path / "smaller").surgery
    smaller = load_ticket(tmp_path / "smaller").model.weights
    masked = ticket.mask.apply(smaller)
    assert all(torch.equal(tensor, masked[name]) for name, tensor in ticket.model.weights.items())

    taught = prune_model(dense, tmp_path / "trained", replace(options, retraining=toy_recipe))
    trained = load_ticket(tmp_path / "trained")
    assert trained.surgery == ticket.surgery
    assert taught.retraining.steps == 2 * read_run(drawn.root).dense[0].steps  # the smaller model, then the masked one
    assert not trained.model.weights["answer_head.logit_fc.3.bias"].equal(smaller["answer_head.logit_fc.3.bias"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smaller", "ticket", "trained"]


@pytest.mark.parametrize(
    ("first", "options", "said"),
    [
        ("weight:0.5", {}, "--first weight:0.5: expected neuron"),
        ("neuron", {}, "neuron+head:0.5"),
        ("neuron:1.5", {}, "a share of the weights"),
        ("neuron:0.5", {"granularity": "head"}, "makes a smaller model, as --first does already"),
        ("neuron:0.5", {"sparsity": 0.5}, "of which --first removes 0.5"),
        ("neuron:0.5", {"granularity": "2:4"}, "always gives 0.75"),
    ],
)
def test_prune_refuses_a_first_step_that_cannot_be(first, options, said, tmp_path) -> None:
    def ask() -> None:
        step = read_first(first, criterion="low-magnitude", scope="layer")
        PruneOptions(**{"sparsity": 0.7, "first": step, **options}).check()

    complain(ask, said, kind=PruneError)
