"""`lxcompress prune` and `lxcompress inspect`, as a person types them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import LxError
from lxcompress.pruning.granularity import find_undivided
from lxcompress.pruning.surgery import Surgery
from lxcompress.tickets import load_ticket, mask_of


@pytest.fixture
def dense(toy_run) -> str:
    """The dense model of a toy study."""
    return str(toy_run / "seeds/0/dense")


def say(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return result.output


def refuse(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, LxError), f"{arguments}: {result.output} {result.exception!r}"
    return str(result.exception)


@pytest.mark.parametrize("criterion", ["taylor", "wanda", "fisher"])
def test_prune_looks_at_training_questions(criterion, dense, toy_recipe_file, tmp_path) -> None:
    wish = ("--criterion", criterion, "--sparsity", 0.5)
    say("prune", dense, *wish, "--calibrate", toy_recipe_file, "--out", tmp_path / "looked")
    say("prune", dense, "--sparsity", 0.5, "--out", tmp_path / "plain")
    looked, plain = load_ticket(tmp_path / "looked"), load_ticket(tmp_path / "plain")
    assert looked.provenance.sparsity.kept == plain.provenance.sparsity.kept
    assert any(bool((kept != plain.mask.kept[name]).any()) for name, kept in looked.mask.kept.items())
    said = refuse("prune", dense, *wish, "--out", tmp_path / "blind")
    assert "--calibrate RECIPE" in said
    assert not (tmp_path / "blind").exists()


@pytest.mark.parametrize("granularity", ["2:4", "4:8", "block-1x4", "block-4x1"])
def test_prune_keeps_dense_what_a_granularity_does_not_divide_and_says_so(granularity, dense, tmp_path) -> None:
    """On the shipped model's shapes: it reads 18 features."""
    heard = say("prune", dense, "--granularity", granularity, "--sparsity", 0.5, "--out", tmp_path / "out")
    ticket = load_ticket(tmp_path / "out")
    shapes = {name: weight.shape for name, weight in ticket.model.prunable.items()}
    whole = find_undivided(shapes, granularity)
    assert ticket.provenance.kept_dense == whole
    assert all(bool(ticket.mask.kept[name].all()) for name in whole)
    if whole:
        assert f"kept dense {len(whole)} matri" in heard
        assert whole[0] in heard
    total, left = sum(shape.numel() for shape in shapes.values()), sum(shapes[name].numel() for name in whole)
    count = ticket.provenance.sparsity
    assert (count.prunable, count.kept) == (total, left + (total - left) // 2)
    again = say("prune", dense, "--like", tmp_path / "out", "--out", tmp_path / "again")
    assert ("kept dense" in again) == bool(whole)
    assert load_ticket(tmp_path / "again").provenance.kept_dense == whole


def test_prune_takes_what_another_ticket_keeps(dense, tmp_path) -> None:
    for name, granularity in (("mask", "weight"), ("units", "neuron+head")):
        first, second = tmp_path / name, tmp_path / f"{name}-again"
        say("prune", dense, "--criterion", "random", "--granularity", granularity, "--sparsity", 0.3, "--out", first)
        say("prune", dense, "--like", first, "--out", second)
        one, other = load_ticket(first), load_ticket(second)
        assert one.provenance.sparsity == other.provenance.sparsity
        assert (one.cut == other.cut) if isinstance(one.cut, Surgery) else one.mask.holds_in(other.model.weights)
    assert "takes the mask of that ticket" in refuse(
        "prune", dense, "--like", tmp_path / "mask", "--sparsity", 0.5, "--out", "x"
    )


def test_inspect_says_what_is_kept_and_shared(dense, tmp_path) -> None:
    for name, wish in {"a": [], "b": ["--criterion", "random"], "c": ["--granularity", "neuron"]}.items():
        say("prune", dense, *wish, "--sparsity", 0.2, "--out", tmp_path / name)
    tickets = [tmp_path / name for name in "abc"]
    told = json.loads(say("inspect", *tickets, "--json"))
    for path in tickets:
        ticket = load_ticket(path)
        parts = told["kept"][path.name]
        assert set(parts) == {"language", "vision", "cross", "head"}
        assert sum(part["kept"] for part in parts.values()) == ticket.provenance.sparsity.kept
        assert sum(part["weights"] for part in parts.values()) == ticket.provenance.sparsity.prunable
    assert [pair["tickets"] for pair in told["overlap"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert all(0 < pair["shared"] < 1 for pair in told["overlap"])
    every = json.loads(say("inspect", tickets[2], "--matrices", "--json"))
    assert every["kept"]["c"].keys() == mask_of(load_ticket(tickets[2])).kept.keys()
    assert "answer_head" in say("inspect", tickets[0], "--matrices")
    shown = say("inspect", *tickets)
    assert "by chance" in shown


def test_inspect_refuses_what_is_no_ticket(dense) -> None:
    assert "is not a ticket" in refuse("inspect", dense, dense)
