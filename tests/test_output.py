"""What goes out does nothing: no formula in a CSV, no control character on a screen, a page or in JSON."""

from __future__ import annotations

import csv
import io
import json
import unicodedata

import pytest
from rich.table import Table
from rich.text import Text

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import default_rule
from lxcompress.analysis.summary import summarise
from lxcompress.cli.screen import Screen
from lxcompress.output import csv_text, json_text, printable_lines
from lxcompress.report.html import render_html
from lxcompress.report.paste import summary_markdown
from lxcompress.report.tables import results_csv, results_json
from lxcompress.rundir import read_run
from tests.report.synthetic import recipe, write_artifact, write_bench, write_run

FORMULAS = ("=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "\uff1d1")
NUMBERS = ("-0.5", "+3", "1e-5", "-.5", "12")
NASTY = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202eevil\x00"


@pytest.mark.parametrize("words", FORMULAS)
def test_no_cell_of_a_csv_is_a_formula(words: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(["a", words], [{"a": words}, {words: words}]))))
    assert all(cell[:1] not in "=+-@\t\r\n\uff1d" for row in rows for cell in row if cell)
    assert sum(cell.startswith("'") for row in rows for cell in row) == 3


@pytest.mark.parametrize("words", [*NUMBERS, "low-magnitude", "a=b", "", "yes/no"])
def test_numbers_and_plain_words_stay_as_they_are(words: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(["a", "b"], [{"a": words, "b": -0.5}]))))
    assert rows[1] == [words, "-0.5"]


def is_harmless(text: str) -> bool:
    """Whether no character of the text but a newline moves a cursor or turns the direction of writing."""
    bad = [
        each for each in text if (each != "\n" and unicodedata.category(each) in ("Cc", "Cs")) or each in "\u202e\u2028"
    ]
    return not bad


def test_json_holds_no_control_character_and_reads_back() -> None:
    tree = {NASTY: [NASTY, "\ud800", "é", 1.5]}
    assert is_harmless(json_text(tree))
    assert json.loads(json_text(tree)) == tree


def test_a_screen_shows_words_and_obeys_none() -> None:
    stream = io.StringIO()
    screen = Screen(file=stream, force_terminal=True, width=60)
    table = Table("name")
    table.add_row(Text(NASTY))
    screen.print(table, Text(NASTY), NASTY, "plain", markup=False, soft_wrap=True)
    written = stream.getvalue()
    assert "\x1b[31m" not in written
    assert "\x1b]0;" not in written
    assert not set("\x07\x9b\x00\u202e") & set(written)
    assert "plain" in written


def test_lines_stay_lines() -> None:
    assert printable_lines("a\nb\x1bc") == "a\nb\\x1bc"


def test_names_from_records_do_nothing_in_any_report(tmp_path) -> None:
    run = write_run(tmp_path / "run", recipe(criteria=("low-magnitude",), sparsities=(0.5,)), types=("=1+1", NASTY))
    folder = write_artifact(run, "plain", cell="low-magnitude-weight-50-seed0", twin=NASTY)
    write_bench(run, "one", [folder], doubts={"plain": [NASTY]})
    record = folder / "artifact.json"
    tree = json.loads(record.read_text("utf-8")) | {"name": f"=cmd{NASTY}", "notes": [NASTY], "unproven": NASTY}
    del tree["seal"]  # a record that someone else made
    record.write_text(json.dumps(tree), "utf-8")
    summary = summarise(read_run(tmp_path / "run"))
    choice = pick_ticket(summary, default_rule(summary))
    pages = (render_html(summary, choice), summary_markdown(summary, choice), results_json(summary, choice))
    assert all(map(is_harmless, pages))
    text = results_csv(summary)
    assert is_harmless(text)
    assert not any(cell.startswith(("=", "@", "+")) for row in csv.reader(io.StringIO(text)) for cell in row)


def test_persian_words_keep_their_joiner_and_nothing_else_is_hidden() -> None:
    word = "پرسش\u200cها"
    assert printable_lines(word) == word
    assert csv_text(["a"], [{"a": word}]) == f"a\n{word}\n"
    assert printable_lines("a\u200cb \u200c" + "ب\u200c") == "a\\u200cb \\u200c" + "ب\\u200c"
    assert printable_lines("ب\u202eب") == "ب\\u202eب"
