"""The Markdown to paste: GitHub's tables, nothing in a name that means more than itself, the page's own numbers."""

from __future__ import annotations

import json
import re

import pytest

from lxcompress.analysis.artifact_costs import number_artifacts
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.analysis.verdict import verdict
from lxcompress.report.markdown import code, escape, table
from lxcompress.report.paste import summary_markdown
from lxcompress.rundir import read_run
from lxcompress.units import percent
from tests.report.synthetic import recipe, write_artifact, write_bench, write_run, write_twins

HOSTILE = "a|b <script>alert(1)</script> `c` *d* _e_ [f](g) $h$ \\ &amp;"
CELL = "low-magnitude-weight-50-seed0"


def markdown_of(run) -> str:
    summary = summarise(read_run(run.root))
    return summary_markdown(summary, pick_ticket(summary, Rule(retain=0.99)))


def cells_of(line: str) -> list[str]:
    """The cells of a table's row, as GitHub parts them: at every bar that has no backslash before it."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables_of(text: str) -> list[list[list[str]]]:
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[cells_of(line) for line in lines] for lines in blocks]


def test_its_tables_are_whole(run):
    write_twins(run, CELL)
    tables = tables_of(markdown_of(run))
    assert len(tables) == 3
    for head, rule, *rows in tables:
        assert all(re.fullmatch(r"-+:?", cell) for cell in rule)
        assert rows
        assert {len(row) for row in (head, rule, *rows)} == {len(head)}


def test_it_says_the_verdict_the_twins_and_the_machine(run):
    write_twins(run, CELL)
    summary = summarise(read_run(run.root))
    text = markdown_of(run)
    assert f"**{verdict(pick_ticket(summary, Rule(retain=0.99)))}**" in text
    rows = {row[0]: row for row in tables_of(text)[1][2:]}
    for entry in number_artifacts(summary):
        row = rows[str(entry.number)]
        assert row[1].strip("*") == entry.label
        assert percent(entry.accuracy) in row[7]
        assert f"{entry.number} is {escape(entry.exported.name)}" in text
    assert "Toy Processor 9000" in text
    assert "1 thread, lengths as the data's (median 9 tokens)" in text


def test_names_open_nothing(run):
    folder = write_artifact(run, "x", cell=CELL)
    path = folder / "artifact.json"
    # Without a seal, as someone else may have written it.
    tree = json.loads(path.read_text(encoding="utf-8")) | {"name": HOSTILE}
    path.write_text(json.dumps({key: value for key, value in tree.items() if key != "seal"}), encoding="utf-8")
    write_bench(run, "bench", [folder], doubts={HOSTILE: [HOSTILE]})
    text = markdown_of(run)
    assert "<" not in text
    (row,) = tables_of(text)[1][2:]
    assert len(row) == 9
    assert f"1 is {escape(HOSTILE)}." in text
    assert "--twins" in text
    assert "Warnings:" in text


@pytest.mark.parametrize("words", [HOSTILE, "plain-name", "two\nlines", "~~gone~~", "#1"])
def test_escaped_words_read_as_they_were(words):
    assert unescape(escape(words)) == " ".join(words.split())
    assert not re.search(r"(?<!\\)[`*_\[\]|~$]|[<>]", escape(words).replace("\\\\", ""))


@pytest.mark.parametrize("words", ["plain", "a `b` c", "``", "`"])
def test_a_code_span_holds_any_backticks(words):
    span = code(words)
    fence = re.match("`+", span)[0]
    assert span.endswith(fence)
    assert fence not in span[len(fence) : -len(fence)].strip(" ")
    assert span[len(fence) : -len(fence)].strip() == words


def test_an_unfinished_run_and_one_of_one_seed_say_so(tmp_path, part):
    assert "Not complete: 19 of 27 runs (method x sparsity x seed) finished." in markdown_of(part)
    text = markdown_of(write_run(tmp_path / "one", recipe(seeds=(0,))))
    assert "one seed, so no spread" in text
    assert "Nothing is exported yet" in text
    text = markdown_of(write_run(tmp_path / "none", recipe(), score=lambda cell: None))
    assert "Not complete: 0 of 27 runs" in text
    assert len(tables_of(text)) == 1


def test_a_table_is_aligned_by_its_first_columns():
    assert table(["a", "b"], [["1", "2"]], first_texts=1) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def unescape(words: str) -> str:
    """What GitHub shows of escaped words."""
    plain = re.sub(r"\\(.)", r"\1", words)
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_text_of_a_right_to_left_script_is_isolated() -> None:
    assert escape("نوع (2)") == '<span dir="auto">نوع (2)</span>'
    assert escape("type (2)") == "type (2)"
