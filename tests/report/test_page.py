"""The page: well-formed, alone, and safe whatever the data says."""

from __future__ import annotations

import json
import re
from html import escape
from html.parser import HTMLParser

import pytest

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.report.html import render_html
from lxcompress.rundir import read_run
from tests.report.synthetic import curve, recipe, write_artifact, write_bench, write_run

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects elements, attributes and text, and whether every element is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(root, rule=None) -> tuple[str, Page]:
    summary = summarise(read_run(root))
    text = render_html(summary, pick_ticket(summary, rule or Rule(retain=0.99)))
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return text, page


def test_it_refers_to_nothing_outside_itself(run):
    write_bench(run, "bench", [write_artifact(run, "dense-onnx", cell=None)])
    text, page = read(run.root)
    addresses = [value for name, value in page.attributes if name in {"src", "href", "srcset", "action", "data"}]
    assert addresses == []
    assert "script" not in page.tags
    assert "url(" not in text
    assert "@import" not in text
    # The name space of SVG is a name, not an address that is fetched.
    assert "://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    policy = next(value for name, value in page.attributes if name == "content" and "src" in value)
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_it_says_the_verdict_the_floors_and_the_truth_about_zeros(run):
    _, page = read(run.root)
    assert "Ship low-magnitude at 50" in page.text
    assert "question-only floor" in page.text
    assert "Zeros scattered through the matrices make neither a file smaller nor an answer faster" in page.text
    assert "lxcompress export" in page.text
    assert "Toy Processor 9000" in page.text


def test_the_comparison_with_dense_int8_heads_the_page_once_it_is_made(run):
    cell = "low-magnitude-weight-50-seed0"
    ticket = write_artifact(run, "ticket", cell=cell, size_bytes=2_000_000)
    heads = [re.search(r"<h1.*?</h1>", read(run.root)[0], re.S)[0]]
    write_artifact(run, "dense-int8", cell=None, precision="int8", size_bytes=3_000_000)
    write_bench(run, "bench", [ticket, ticket.with_name("dense-int8")])
    text, page = read(run.root)
    heads.append(re.search(r"<h1.*?</h1>", text, re.S)[0])
    assert "Ship low-magnitude" in heads[0]
    assert "At &gt;= 99&nbsp;% of dense accuracy, ticket 50&nbsp;% (onnx) is 1.50 times as small as" in heads[1]
    assert "no ticket is faster" in heads[1]
    assert "Ship low-magnitude" in page.text


def test_no_ticket_is_said_plainly(run):
    _, page = read(run.root, Rule(retain=1.0))
    assert "No ticket keeps at least 100" in page.text


def test_hostile_texts_are_shown_not_run(tmp_path):
    run = write_run(tmp_path, recipe(), types=(HOSTILE, "$n_1$", 'a"b&c'))
    for name in ("x", "y"):
        folder = write_artifact(run, name, cell=None, twin=f"dense {HOSTILE}", accuracy=0.7 if name == "x" else 0.8)
        path = folder / "artifact.json"
        # Without a seal, as someone else may have written it.
        tree = json.loads(path.read_text(encoding="utf-8")) | {"name": f"{name} {HOSTILE}"}
        path.write_text(json.dumps({key: value for key, value in tree.items() if key != "seal"}), encoding="utf-8")
        write_bench(run, name, [folder], doubts={f"{name} {HOSTILE}": [HOSTILE]}, target=HOSTILE)
    text, page = read(tmp_path)
    assert "script" not in page.tags
    assert HOSTILE not in text
    # In the tables, and as tooltips and labels within the drawings.
    assert page.text.count(HOSTILE) >= 8
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert any(f"1 x {escape(HOSTILE, quote=False)}: onnx" in drawing for drawing in drawings)
    assert "$n_1$" in page.text


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_an_unfinished_study_has_a_page_that_says_so(tmp_path, keep):
    ids = [cell.id for cell in recipe().cells()][:keep]
    write_run(
        tmp_path,
        recipe(),
        score=lambda cell: curve(cell) if cell.id in ids else None,
        dense=lambda seed: 0.8 if keep and seed == 0 else None,
        floor=0.4 if keep else None,
    )
    _, page = read(tmp_path)
    assert f"{keep} of 27 runs are finished" in page.text
    assert "Not complete" in page.text


def test_what_was_measured_stands_beside_its_doubts(run):
    folder = write_artifact(run, "dense-onnx", cell=None)
    write_bench(run, "bench", [folder], doubts={"dense-onnx": ["only 12 runs: ask for 30 or more"]})
    _, page = read(run.root)
    assert "only 12 runs: ask for 30 or more" in page.text
    write_artifact(run, "dense-onnx", cell=None, size_bytes=1)
    _, page = read(run.root)
    assert "stale" in page.text


def test_one_seed_draws_no_band(tmp_path):
    write_run(tmp_path, recipe(seeds=(0,)))
    text, page = read(tmp_path)
    assert 'class="band"' not in text
    assert "one seed, so there is no band" in page.text
    write_run(tmp_path / "two", recipe(seeds=(0, 1)))
    assert 'class="band"' in read(tmp_path / "two")[0]


def test_persian_answer_types_keep_their_direction_and_spelling(tmp_path):
    kind = "پرسش\u200cها (2)"
    write_run(tmp_path, recipe(seeds=(0,)), types=(kind, "number"))
    text, _ = read(tmp_path)
    assert f"<th><bdi>{kind}</bdi></th>" in text
    assert f"<h3><bdi>{kind}</bdi></h3>" in text
