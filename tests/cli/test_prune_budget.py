"""Laws of a budget: the file of the sparsity that is found is within it, and that of a little less sparsity is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.errors import PruneError
from lxcompress.recipe import FirstStep
from lxcompress.study.options import PruneOptions
from lxcompress.tickets import load_ticket
from lxcompress.workflow.budget import (
    MOST_TRIALS,
    NARROW,
    PruneBudget,
    Trial,
    confirm,
    find_sparsity,
    with_valid_sparsity,
)
from tests.complain import complain
from tests.export.small import save_small

MB = PruneBudget("engine", "int8", max_size_mb=60)


def cost_of(size_mb, most=1.0, latency_s=None):
    """A cost function, and the list of the sparsities that it is asked for."""
    asked = []

    def cost(sparsity: float) -> Trial:
        if sparsity > most:
            raise PruneError("too sparse")
        asked.append(sparsity)
        return Trial(sparsity, round(size_mb(sparsity) * 1e6), latency_s and latency_s(sparsity))

    return cost, asked


SIZES = {
    "line": lambda sparsity: 100 - 90 * sparsity,
    "curve": lambda sparsity: 100 * (1 - sparsity) ** 0.4,
    "dense layout first": lambda sparsity: 100.0 if sparsity < 0.45 else 104 - 100 * sparsity,
    "steps": lambda sparsity: 100 - 5 * int(20 * sparsity),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("limit", [99, 60, 42])
def test_the_found_sparsity_is_within_the_budget_and_a_little_less_is_not(size, limit) -> None:
    budget = PruneBudget("engine", "int8", max_size_mb=limit)
    cost, asked = cost_of(size)
    trials = find_sparsity(cost, budget)
    found = min(trial.sparsity for trial in trials if trial.excess(budget) <= 1)
    assert size(found) <= limit
    assert size(found - 4 * NARROW) > limit
    assert len(asked) == len(set(asked)) <= MOST_TRIALS + 2
    assert [trial.sparsity for trial in trials] == sorted(asked)


@pytest.mark.parametrize("limit", [50, 42])
def test_a_first_step_is_where_the_search_begins(limit) -> None:
    """The dense file, the file of the first step, then only sparsities above it."""
    budget = PruneBudget("engine", "int8", max_size_mb=limit)
    cost, asked = cost_of(SIZES["line"])
    found = min(trial.sparsity for trial in find_sparsity(cost, budget, first=0.5) if trial.excess(budget) <= 1)
    assert SIZES["line"](found) <= limit < SIZES["line"](found - 4 * NARROW)
    assert asked[:2] == [0.0, 0.5]
    assert min(asked[2:]) > 0.5


def test_the_larger_excess_of_two_limits_decides() -> None:
    budget = PruneBudget("engine", "int8", max_size_mb=90, max_latency_ms=5)
    cost, _ = cost_of(SIZES["line"], latency_s=lambda sparsity: 0.010 - 0.008 * sparsity)
    found = min(trial.sparsity for trial in find_sparsity(cost, budget) if trial.excess(budget) <= 1)
    assert 0.625 <= found <= 0.625 + 2 * NARROW


LATENCY = PruneBudget("engine", "int8", max_latency_ms=5)
TIMED = [Trial(sparsity, 1, latency_s) for sparsity, latency_s in ((0.0, 0.009), (0.5, 0.0049), (0.7, 0.004))]


@pytest.mark.parametrize(("slower", "found"), [(0.0, 0.5), (0.0002, 0.7)])
def test_a_latency_counts_if_it_is_measured_twice(slower, found) -> None:
    """The second measurement takes `slower` seconds more; the next sparsity is taken if it is over the budget."""
    latencies = {trial.sparsity: trial.latency_s + slower for trial in TIMED}
    first, again = confirm(lambda sparsity: Trial(sparsity, 1, latencies[sparsity]), TIMED, LATENCY)
    assert first in TIMED
    assert (first.sparsity, again) == (found, Trial(found, 1, latencies[found]))
    assert max(first.excess(LATENCY), again.excess(LATENCY)) <= 1


def test_a_latency_that_varies_too_much_is_one_sentence() -> None:
    def busy(sparsity: float) -> Trial:
        return Trial(sparsity, 1, 0.006)

    complain(lambda: confirm(busy, TIMED, LATENCY), "the latency varies", "70.0% 1e-06 MB, 6 ms", kind=PruneError)


def test_a_size_is_not_made_twice() -> None:
    trials = find_sparsity(cost_of(SIZES["line"])[0], MB)
    (found,) = confirm(lambda sparsity: pytest.fail("a file is made again"), trials, MB)
    assert found == min((trial for trial in trials if trial.excess(MB) <= 1), key=lambda trial: trial.sparsity)


def test_a_model_that_cannot_be_pruned_far_is_tried_as_far_as_it_can() -> None:
    cost, asked = cost_of(SIZES["line"], most=0.75)
    find_sparsity(cost, MB)
    assert max(asked) == 0.7


def test_a_budget_that_nothing_or_everything_meets_is_one_sentence() -> None:
    for limit, words in ((10, ("no sparsity meets", "14.5 MB", "95%")), (100, ("needs no pruning", "100 MB"))):
        budget = PruneBudget("engine", "int8", max_size_mb=limit)
        complain(lambda budget=budget: find_sparsity(cost_of(SIZES["line"])[0], budget), *words, kind=PruneError)
    words = ("needs no second step", "55 MB", "without --first")
    complain(lambda: find_sparsity(cost_of(SIZES["line"])[0], MB, first=0.5), *words, kind=PruneError)


@pytest.mark.parametrize(
    ("budget", "options", "words"),
    [
        (PruneBudget("engine"), PruneOptions(), "give --max-size-mb or --max-latency-ms"),
        (PruneBudget("engine", None, 0), PruneOptions(), "--max-size-mb 0: expected a number above 0"),
        (PruneBudget("engine", None, 1, float("nan")), PruneOptions(), "--max-latency-ms nan"),
        (MB, PruneOptions(sparsity=0.5), "--sparsity: says how much is removed"),
        (MB, PruneOptions(granularity="2:4"), "--granularity 2:4: says how much is removed"),
        (
            MB,
            PruneOptions(first=FirstStep(granularity="neuron", sparsity=0.95)),
            "--first neuron:0.95: expected less than 0.95",
        ),
    ],
)
def test_limits_and_options_that_contradict_each_other_are_refused(budget, options, words) -> None:
    complain(lambda: budget.check(options), words, kind=PruneError)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_options_of_two_steps_are_checked_before_the_search(share) -> None:
    first = FirstStep(granularity="neuron+head", sparsity=share)
    options = PruneOptions(first=first, granularity="block-2x4")
    MB.check(options)
    with_valid_sparsity(options).check()
    with pytest.raises(PruneError, match="makes a smaller model, as --first does"):
        with_valid_sparsity(replace(options, granularity="neuron")).check()


def prune_to_bitmask(folder: Path, *options: str) -> dict:
    """Prune a model whose dense file has 31 kB to 25 kB, into folder/ticket; return what the command prints."""
    wish = ["--max-size-mb", "0.025", "--format", "bitmask", "--precision", "fp32", *options]
    start = save_small(folder / "model")
    done = CliRunner().invoke(app, ["prune", str(start), *wish, "--out", str(folder / "ticket"), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_the_written_file_is_within_the_budget(tmp_path) -> None:
    told = prune_to_bitmask(tmp_path, "--keep-dense", "auto")
    files = [path for path in (tmp_path / "ticket-bitmask").iterdir() if path.name != "artifact.json"]
    assert told["final"]["size_bytes"] == sum(path.stat().st_size for path in files) <= 25_000
    assert load_ticket(tmp_path / "ticket").provenance.sparsity.achieved == told["sparsity"]["achieved"]
    assert len(told["trials"]) >= 3


def test_the_file_of_two_steps_is_within_the_budget(tmp_path) -> None:
    """The first step is fixed, and the sparsity of both is found."""
    told = prune_to_bitmask(tmp_path, "--first", "neuron:0.1")
    assert told["final"]["size_bytes"] <= 25_000
    assert [trial["sparsity"] for trial in told["trials"]][:2] == [0.0, 0.1]
    assert load_ticket(tmp_path / "ticket").provenance.first
