"""The published table: as printed, tied to the arithmetic of its rounds, and laid only over what may be compared."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Callable

import pytest

from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.protocol import FAULT_WORDS, has_tickets, protocol_name, protocol_title
from lxcompress.analysis.published import QUESTIONS, compare, published_table
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.analysis.words import points
from lxcompress.pruning.published import compounded
from lxcompress.recipe import FAULTS, plain_method
from lxcompress.report.html import render_html
from lxcompress.report.tables import results_csv, results_json
from lxcompress.rundir import read_run
from lxcompress.units import percent
from tests.report.synthetic import TENTHS, VQA, Accuracies, curve, recipe, write_run
from tests.report.test_page import Page

CRITERIA = ("low-magnitude", "random", "high-magnitude")


def summary_of(root, questions=QUESTIONS, score=curve, **given) -> RunSummary:
    run = write_run(root, recipe(**{"data": VQA, "sparsities": TENTHS, **given}), score=score, questions=questions)
    return summarise(read_run(run.root))


def page_of(summary: RunSummary) -> tuple[str, Page]:
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.9)))
    page = Page()
    page.feed(text)
    return text, page


@pytest.fixture(scope="module")
def protocol_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[RunSummary, Page]]:
    """A function from the faults of a run, with commas between them, to its summary and its page: made once."""

    @functools.cache
    def make(faults: str) -> tuple[RunSummary, Page]:
        protocol = faults if faults in ("corrected", "published") else faults.split(",")
        summary = summary_of(tmp_path_factory.mktemp("protocol"), protocol=protocol)
        return summary, page_of(summary)[1]

    return make


def test_the_table_is_whole():
    table = published_table()
    assert set(table.groups) == {
        GroupKey(plain_method(criterion), target) for criterion in CRITERIA for target in TENTHS
    }
    assert table.dense == 0.7027
    assert all(0.2 < row.mean < table.dense and 0 <= row.std < 0.05 for row in table.groups.values())
    assert {row.runs for row in table.groups.values()} == {2, 3}


def test_what_was_removed_is_what_the_rounds_remove():
    for key, row in published_table().groups.items():
        is_high = key.method.criterion == "high-magnitude"
        expected = 1 - compounded(1 - key.target) if is_high else compounded(key.target)
        assert row.removed == pytest.approx(expected, abs=5e-5)


def test_each_criterion_falls_but_where_it_answers_one_word():
    for criterion in CRITERIA:
        means = [published_table().groups[GroupKey(plain_method(criterion), target)].mean for target in TENTHS]
        assert means == sorted(means, reverse=True)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "scenes"},
        {"kind": "gqa", "train": "a", "valid": "b", "features": "c"},
        {name: value for name, value in VQA.items() if name != "features"},
    ],
)
def test_other_data_are_not_compared(tmp_path, data):
    summary = summary_of(tmp_path, data=data)
    assert compare(summary) is None
    text, page = page_of(summary)
    # In the style sheet alone.
    assert "published" not in page.text.replace(_style(text), "")
    assert json.loads(results_json(summary, pick_ticket(summary, Rule(retain=0.9))))["published"] is None


def test_only_sparsities_of_the_table_are_compared(tmp_path):
    comparison = compare(summary_of(tmp_path / "some", sparsities=(0.5, 0.55)))
    assert {key.target for key in comparison.groups} == {0.5}
    assert compare(summary_of(tmp_path / "none", sparsities=(0.55,))) is None


def test_other_questions_are_doubted(tmp_path):
    assert compare(summary_of(tmp_path / "same")).warning is None
    other = summary_of(tmp_path / "other", questions=214_354)
    assert "214,354" in compare(other).warning
    assert "214,354" in page_of(other)[1].text


def test_the_page_shows_each_published_mean_and_its_difference(tmp_path):
    summary = summary_of(tmp_path)
    text, page = page_of(summary)
    for group in summary.groups:
        row = published_table().groups[group.key]
        assert f"{percent(row.mean)} ± {percent(row.std)}" in page.text
        assert points(group.retrained.overall.mean - row.mean) in page.text
        assert f"published, {group.key.label}: {percent(row.mean)}" in text
    assert {label for label in re.findall(r">(published [a-z-]+)</text>", text)} == {
        f"published {criterion}" for criterion in CRITERIA
    }
    # A line a criterion, in the wide chart and in the narrow one.
    assert text.count('class="line published"') == 6


def test_a_published_line_wears_its_criterions_colour(tmp_path):
    text, _ = page_of(summary_of(tmp_path, criteria=("random", "low-magnitude")))
    colour = dict(reversed(found) for found in re.findall(r"<text[^>]*fill:var\(--(\w+)\)[^>]*>([^<]*)</text>", text))
    assert colour["published random"] == colour["random"] == "s0"
    assert colour["published low-magnitude"] == colour["low-magnitude"] == "s1"


def test_an_unfinished_run_is_compared_as_far_as_it_is(tmp_path):
    def score(cell) -> Accuracies | None:
        return curve(cell) if cell.sparsity < 0.4 and cell.method.criterion == "random" else None

    summary = summary_of(tmp_path, score=score)
    assert set(compare(summary).groups) == {GroupKey(plain_method("random"), target) for target in (0.1, 0.2, 0.3)}
    assert page_of(summary)[1].open == []


def test_every_fault_is_explained():
    assert set(FAULT_WORDS) == set(FAULTS)


@pytest.mark.parametrize(
    "protocol",
    [
        "corrected",
        "published",
        "compounded-sparsity",
        pytest.param(",".join(FAULTS), marks=pytest.mark.slow),
        ",".join(FAULTS[:3]),
    ],
)
def test_a_run_with_faults_says_so_first(protocol_page, protocol):
    summary, page = protocol_page(protocol)
    body = page.text[page.text.index("lottery-ticket study") :]
    title = protocol_title(summary.recipe)
    if protocol == "corrected":
        assert title == ""
        assert "on purpose" not in page.text
        return
    assert body.index(title) < body.index("The rule" if has_tickets(summary.recipe) else "none of them is a ticket")
    assert all(f"{fault}: {FAULT_WORDS[fault]}" in body for fault in summary.recipe.faults)


def test_no_dense_model_passes_for_a_ticket(protocol_page):
    _, page = protocol_page("mask-applied-once")
    assert "none of them is a ticket to ship" in page.text
    assert "Ship " not in page.text
    assert "lxcompress export" not in page.text
    _, page = protocol_page("compounded-sparsity")
    assert "Ship " in page.text


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("corrected", "corrected"),
        ("published", "published"),
        (list(FAULTS), "published"),
        (["one-dense-run", "mask-applied-once"], "one-dense-run+mask-applied-once"),
    ],
)
def test_the_tables_name_the_protocol(tmp_path, protocol, name):
    summary = summary_of(tmp_path, protocol=protocol)
    assert protocol_name(summary.recipe) == name
    rows = list(csv.DictReader(io.StringIO(results_csv(summary))))
    assert {row["protocol"] for row in rows} == {name}
    tree = json.loads(results_json(summary, pick_ticket(summary, Rule(retain=0.9))))
    assert (tree["protocol"], tree["faults"]) == (name, list(summary.recipe.faults))
    for group, shown in zip(summary.groups, tree["summary"]["groups"], strict=True):
        row = published_table().groups[group.key]
        assert shown["published"]["mean"] == row.mean
        assert shown["published"]["difference"] == group.retrained.overall.mean - row.mean


def _style(text: str) -> str:
    return text[text.index("<style>") + len("<style>") : text.index("</style>")]
