"""Laws of the reliability of a run: it is that of the records beside its models, and the pick obeys its limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.reliability import group_reliability, measured_reliability, reliability_json
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.confidence.record import AnswerConfidence, make_record
from lxcompress.filenames import RELIABILITY_FILE
from lxcompress.recipe import Cell, Method, dense_id
from lxcompress.report.html import render_html
from lxcompress.rundir import RunDir, read_run, write_record
from tests.report.synthetic import recipe, write_run

QUESTIONS = 40
SEEDS = (0, 1)


def answers(wrong: list[int]) -> AnswerConfidence:
    """Return answers that are more confident the smaller their row is, and wrong at the rows `wrong`."""
    credits = np.ones(QUESTIONS)
    credits[wrong] = 0
    confidences = np.linspace(0.99, 0.2, QUESTIONS)
    types = tuple("yes/no" if row % 2 else "number" for row in range(QUESTIONS))
    labels = np.zeros(QUESTIONS, dtype=int)
    return AnswerConfidence(1.0, labels, confidences, confidences, credits, types, {"yes/no": 0, "number": 1})


def write(folder: Path, wrong: list[int]) -> None:
    write_record(folder / RELIABILITY_FILE, make_record(answers(wrong)))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Return a finished run of two sparsities, whose dense models are wrong at the last 10 questions."""
    made = RunDir(tmp_path / "run")
    write_run(made.root, recipe(seeds=SEEDS, criteria=["low-magnitude"], sparsities=(0.3, 0.5)))
    for seed in SEEDS:
        made.dense(seed).mkdir(parents=True, exist_ok=True)
        write(made.dense(seed), list(range(30, 40)))
    return made


def write_tickets(run: RunDir, wrong: dict[float, list[int]]) -> RunSummary:
    for sparsity, rows in wrong.items():
        for seed in SEEDS:
            folder = run.ticket(Cell(Method(), sparsity, seed))
            folder.mkdir(parents=True, exist_ok=True)
            write(folder, rows)
    return summarise(read_run(run.root))


def test_the_measures_are_those_of_the_records(run: RunDir) -> None:
    summary = write_tickets(run, {0.3: list(range(29, 39)), 0.5: [0, 1, *range(32, 40)]})
    dense, low, high = measured_reliability(summary)
    assert (dense.label, dense.changes, dense.measures["accuracy"].mean) == ("dense", {}, 0.75)
    assert dense.measures["coverage_at_5"].mean == 31 / 40  # one wrong answer of 31
    assert dense.measures["excess_area"].mean == pytest.approx(0)
    assert low.changes["all"].right_to_wrong == low.changes["all"].wrong_to_right == 1 / 40
    assert (low.changes["yes/no"].right_to_wrong, low.changes["number"].right_to_wrong) == (1 / 20, 0)
    assert high.flips == 2 / 40
    assert high.risk_at(0.5) == 2 / 20
    assert high.measures["coverage_at_1"].mean == 0
    tree = reliability_json(summary)
    assert [row["label"] for row in tree["models"]] == [dense.label, low.label, high.label]
    assert tree["models"][2]["changes"]["all"] == {"questions": 40, "right_to_wrong": 0.05, "wrong_to_right": 0.05}


def test_the_pick_stays_within_the_risk_and_the_changed_answers(run: RunDir) -> None:
    summary = write_tickets(run, {0.3: list(range(29, 39)), 0.5: [0, 1, *range(32, 40)]})

    def picked(**limits: float) -> float | None:
        choice = pick_ticket(summary, Rule(retain=0.1, **limits))
        return choice.picked.group.key.target if choice.picked else None

    assert picked() == 0.5
    assert picked(max_risk=0.1, coverage=0.5) == 0.5
    assert picked(max_risk=0.05, coverage=0.5) == 0.3
    assert picked(max_flips=2 / 40) == 0.5
    assert picked(max_flips=0.04) == 0.3
    assert picked(max_flips=0.01) is None
    choice = pick_ticket(summary, Rule(retain=0.1, max_flips=0.01, max_risk=0.02))
    assert choice.nearest is not None
    assert set(choice.nearest.broken) == {"risk", "changed answers"}


def test_a_run_of_before_is_not_measured_and_its_pick_says_so(run: RunDir) -> None:
    for seed in SEEDS:
        (run.dense(seed) / RELIABILITY_FILE).unlink()
    summary = summarise(read_run(run.root))
    assert measured_reliability(summary) == []
    assert pick_ticket(summary, Rule(retain=0.1)).picked is not None
    choice = pick_ticket(summary, Rule(retain=0.1, max_risk=0.5))
    assert choice.picked is None
    assert choice.nearest is not None
    assert choice.nearest.reasons[0].endswith("its reliability is not measured")
    assert choice.nearest.commands == (f"lxcompress reliability {run.root}",)
    page = render_html(summary, pick_ticket(summary, Rule(retain=0.1)))
    assert f"Reliability is not measured; measure with <code>lxcompress reliability {run.root}</code>" in page


def test_seeds_that_are_not_measured_are_named(run: RunDir) -> None:
    summary = write_tickets(run, {0.3: [], 0.5: []})
    (run.ticket(Cell(Method(), 0.5, 1)) / RELIABILITY_FILE).unlink()
    summary = summarise(read_run(run.root))
    assert group_reliability(summary, summary.groups[1]).missing == (1,)
    assert pick_ticket(summary, Rule(retain=0.1, max_flips=0.5)).picked.group.key.target == 0.3  # type: ignore[union-attr]
    assert dense_id(0) in summary.confidences


def test_the_report_has_a_row_for_each_model_and_a_chart(run: RunDir) -> None:
    summary = write_tickets(run, {0.3: list(range(29, 39)), 0.5: [0, 1, *range(32, 40)]})
    page = render_html(summary, pick_ticket(summary, Rule(retain=0.1)))
    section = page[page.index("<h2>Reliability</h2>") :].partition("</section>")[0]
    assert section.count("<tr>") == 4
    assert section.count("<svg") == 1 + 2  # the chart, and two samples in its legend
    assert "not measured" not in section
