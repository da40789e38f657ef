"""Laws of the test split in what a study reports: dense and the pick are on it, and nothing is picked by it."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace

import pytest

from lxcompress.analysis.held_out import held_out_words
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import default_rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.output import json_text
from lxcompress.records import ScoreByQuestion, pack_credits
from lxcompress.report.html import render_html
from lxcompress.report.paste import summary_markdown
from lxcompress.report.tables import results_csv, results_json
from lxcompress.rundir import RunDir, read_run, write_record
from tests.report.synthetic import write_artifact

QUESTIONS = 400


def draw_score(accuracy: float, key: str) -> ScoreByQuestion:
    draw = random.Random(key)
    credits = [float(draw.random() < accuracy) for _ in range(QUESTIONS)]
    return ScoreByQuestion(
        accuracy=sum(credits) / QUESTIONS, by_type={}, questions=QUESTIONS, credits=pack_credits(credits)
    )


@pytest.fixture
def tested(run) -> RunDir:
    """The study of `run`, scored on a test split, on which the high-magnitude tickets are the best."""
    found = read_run(run.root)
    for seed, dense in found.dense.items():
        write_record(run.dense_result(seed), dense.model_copy(update={"test": draw_score(0.8, f"dense{seed}")}))
    for cell in found.recipe.cells():
        score = draw_score(0.95 if cell.id.startswith("high") else 0.7, cell.id)
        write_record(run.result(cell), found.results[cell.id].model_copy(update={"test": score}))
    return run


@pytest.fixture
def tested_summary(tested) -> RunSummary:
    return summarise(read_run(tested.root))


def test_nothing_is_picked_or_judged_by_it(run, tested_summary) -> None:
    blind = replace(
        tested_summary,
        dense_runs=tuple(dense.model_copy(update={"test": None}) for dense in tested_summary.dense_runs),
        results=tuple(result.model_copy(update={"test": None}) for result in tested_summary.results),
    )
    found, expected = (pick_ticket(summary, default_rule(summary)) for summary in (tested_summary, blind))
    assert found.held_out
    assert expected.held_out == ()
    assert replace(found, held_out=()) == expected
    assert tested_summary.groups == blind.groups


def test_dense_the_pick_and_tickets_with_files_are_reported_and_no_other(tested) -> None:
    write_artifact(tested, "other", cell="random-weight-50-seed1")
    summary = summarise(read_run(tested.root))
    choice = pick_ticket(summary, default_rule(summary))
    dense, picked, other = choice.held_out
    assert (dense.label, picked.label, other.label) == ("dense", choice.picked.label, "random at 50 %")
    assert (dense.seed, picked.seed, other.seed) == (None, choice.picked.seed, None)
    records = {result.seed: result for result in summary.results if result.cell in picked_cells(choice)}
    assert picked.accuracy.by_seed == {seed: result.test.accuracy for seed, result in records.items()}
    assert picked.difference == pytest.approx(picked.accuracy.mean - dense.accuracy.mean)
    assert picked.interval[0] < picked.difference < picked.interval[1] < 0
    assert picked.valid == choice.picked.group.retrained.overall.mean


def picked_cells(choice) -> list[str]:
    return [choice.picked.group.key.cell(seed).id for seed in choice.picked.group.seeds]


def test_the_report_says_which_split_is_which(tested_summary) -> None:
    choice = pick_ticket(tested_summary, default_rule(tested_summary))
    words = held_out_words(choice.held_out)
    assert words.startswith(f"On the test split ({QUESTIONS} questions that nothing was trained on or picked with)")
    assert "Every other accuracy is of the validation split" in words
    assert "high-magnitude" not in words
    page, pasted = render_html(tested_summary, choice), summary_markdown(tested_summary, choice)
    assert words.replace(" %", "&nbsp;%") in page
    assert page.count('<table class="tested">') == 1
    assert "On the test split" in pasted
    (dense, picked) = json.loads(results_json(tested_summary, choice))["pick"]["test"]
    assert (dense["picked"], picked["picked"]) == (False, True)
    assert picked["accuracy"]["mean"] == choice.held_out[1].accuracy.mean
    rows = list(csv.DictReader(io.StringIO(results_csv(tested_summary))))
    records = [*tested_summary.dense_runs, *tested_summary.results]
    assert [float(row["test_accuracy"]) for row in rows] == [record.test.accuracy for record in records]


def test_without_a_test_split_nothing_speaks_of_one(summary) -> None:
    choice = pick_ticket(summary, default_rule(summary))
    assert (choice.held_out, held_out_words(choice.held_out)) == ((), "")
    texts = (render_html(summary, choice), summary_markdown(summary, choice), results_csv(summary))
    assert not any("test split" in text or "test_accuracy" in text for text in texts)
    assert '"test_accuracy"' not in json_text(json.loads(results_json(summary, choice)))


@pytest.mark.parametrize("lost", ["dense", "cell"])
def test_a_part_of_the_scores_is_no_score(lost, tested) -> None:
    """A mean over some of the seeds would be compared with a mean over all."""
    found = read_run(tested.root)
    choice = pick_ticket(summarise(found), default_rule(summarise(found)))
    if lost == "dense":
        write_record(tested.dense_result(1), found.dense[1].model_copy(update={"test": None}))
    else:
        cell = choice.picked.group.key.cell(1)
        write_record(tested.result(cell), found.results[cell.id].model_copy(update={"test": None}))
    summary = summarise(read_run(tested.root))
    after = pick_ticket(summary, default_rule(summary)).held_out
    assert [model.label for model in after] == ([] if lost == "dense" else ["dense"])
