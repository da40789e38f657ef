"""The charts: everything lies within its frame, text stays text, and a page may hold many drawings."""

from __future__ import annotations

import itertools
import logging
import random
import re
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from lxcompress.report.chart.axes import accuracy_span, sparsity_span
from lxcompress.report.chart.drawing import ChartSize
from lxcompress.report.chart.heat import HeatColumn, HeatMap, heat_map
from lxcompress.report.chart.keys import dot_key, level_key, method_key
from lxcompress.report.chart.labels import spread_apart
from lxcompress.report.chart.lines import Level, LineChart, LinePoint, MethodLine, PickMark, line_chart
from lxcompress.report.chart.scatter import CostChart, Dot, cost_chart
from lxcompress.report.chart.style import COLOURS, DASHES, SLOTS

HOSTILE = 'a<script>alert(1)</script> $x_1^2$ "b" & \x00 \u4e2d\n\\frac{1}'
WIDE = ChartSize(1080, 450, 190)
SVG = "{http://www.w3.org/2000/svg}"


def line(label: str = "low", slot: int = 0, seeds: int = 3, **look: bool) -> MethodLine:
    chance = random.Random(slot)
    points = []
    for x in (0.5, 0.7, 0.9):
        values = tuple(0.9 - x**3 * 0.3 + chance.uniform(-0.01, 0.01) for _ in range(seeds))
        points.append(LinePoint(x, sum(values) / seeds, 0.01 if seeds > 1 else None, values, f"{label} at {x}"))
    return MethodLine(label, slot, tuple(points), **look)


def draw(size: ChartSize = WIDE, **given) -> str:
    asked = {
        "lines": [line(), line("random", 1), line("published low", 0, is_published=True)],
        "levels": [Level("dense, 88", "dense", 0.88, 0.01), Level("floor", "floor", 0.6)],
        "x": (0.4, 1.0),
        "y": (0.5, 0.95),
        "description": "accuracy",
        "mark": PickMark(0.5, 0.86, "ticket, 50 %"),
        **given,
    }
    return str(line_chart(LineChart(**asked), size))


def draw_costs(dots: list[Dot], front=(), *, y=(0.0, 1.0), words: str = "MB") -> str:
    return str(cost_chart(CostChart(dots, front, y, x_title=words, description=words), ChartSize(350, 290)))


DRAWINGS = {
    "wide": lambda words: draw(lines=[line(words)], description=words, mark=PickMark(0.5, 0.8, words)),
    "narrow": lambda words: draw(ChartSize(360, 340), lines=[line(words)], description=words),
    "costs": lambda words: draw_costs(
        [Dot(9, 0.8, "ink", "o", (words, "1"), words), Dot(200, 0.7, "s0", "s", ("2 int8",), words)],
        [(9, 0.8)],
        y=(0.6, 0.9),
        words=words,
    ),
    "heat": lambda words: str(
        heat_map(
            HeatMap(
                columns=[HeatColumn(0, words), HeatColumn(9, "b")],
                rows=[(words, (0.5, None)), ("layer 1", (1.0, 0.0))],
                breaks=[1],
                description=words,
            ),
            width=350,
            name_width=96,
        )
    ),
}


@pytest.mark.parametrize("drawing", DRAWINGS.values(), ids=DRAWINGS)
def test_words_from_data_stay_words(drawing):
    svg = drawing(HOSTILE)
    assert "<script" not in svg
    tree = ET.fromstring(svg)
    kinds = {element.tag.removeprefix(SVG) for element in tree.iter()}
    assert kinds <= {"svg", "g", "title", "path", "text"}
    shown = " ".join(element.text or "" for element in tree.iter() if element.tag != f"{SVG}svg")
    plain = 'a<script>alert(1)</script> $x_1^2$ "b" & \ufffd \u4e2d \\frac{1}'
    assert plain in shown
    assert tree.get("role") == "img"
    assert tree.get("aria-label") == plain


@pytest.mark.parametrize("drawing", DRAWINGS.values(), ids=DRAWINGS)
def test_a_page_may_hold_it_beside_any_other(drawing):
    """No identifier that could be there twice, no style sheet of its own, no colour that is not the page's."""
    svg = drawing("words")
    assert not re.search(r"\bid=|<style|url\(|href|<defs|<use|font-family|#[0-9a-f]{3,6}\b", svg)
    colours = set(re.findall(r"(?:fill|stroke):([^;\"]+)", svg))
    assert colours <= {"none", *(f"var(--{name})" for name in COLOURS)}
    assert len(colours) > 2


@pytest.mark.parametrize("drawing", DRAWINGS.values(), ids=DRAWINGS)
def test_what_is_drawn_lies_within_the_frame(drawing):
    tree = ET.fromstring(drawing("words"))
    width, height = map(float, tree.get("viewBox").split()[2:])
    for text in tree.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 <= float(text.get("y")) <= height
    for path in tree.iter(f"{SVG}path"):
        moved = [float(found_text) for found_text in re.findall(r"-?[\d.]+", path.get("transform", "0 0"))]
        numbers = [float(found_text) for found_text in re.findall(r"-?[\d.]+(?:e-?\d+)?", path.get("d"))]
        assert all(-12 <= x + moved[0] <= width + 12 for x in numbers[::2])
        assert all(-12 <= y + moved[1] <= height + 12 for y in numbers[1::2])


def test_the_same_drawing_has_the_same_bytes_whatever_the_user_set():
    first = draw()
    with matplotlib.rc_context({"font.size": 31, "axes.grid": True, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert draw() == first
        assert matplotlib.rcParams["font.size"] == 31
    assert logging.getLogger("matplotlib").level == logging.NOTSET


def test_a_band_needs_more_than_one_seed():
    assert draw(lines=[line()]).count('class="band"') == 1
    assert 'class="band"' not in draw(lines=[line(seeds=1)])


def test_points_say_their_numbers():
    tree = ET.fromstring(draw(lines=[line("low"), line("random", 1)]))
    titles = [node.text for node in tree.iter(f"{SVG}title")]
    assert [f"{name} at {x}" for name in ("low", "random") for x in (0.5, 0.7, 0.9)] == titles[2:]
    assert titles[:2] == ["dense, 88", "floor"]


def test_a_cost_axis_is_logarithmic_only_where_it_must_be():
    def title(high: float) -> str:
        dots = [Dot(10, 0.8, "ink", "o", ("1",), "a"), Dot(high, 0.7, "ink", "o", ("2",), "b")]
        return draw_costs(dots)

    assert "logarithmic" not in title(99)
    assert "MB, logarithmic" in title(101)


def test_labels_beside_dots_cover_neither_dots_nor_each_other():
    chance = random.Random(1)
    dots = [
        Dot(chance.uniform(1, 9), chance.uniform(0.6, 0.9), "ink", "o", (f"{n} dense int8", str(n)), "t")
        for n in range(14)
    ]
    tree = ET.fromstring(draw_costs(dots, y=(0.55, 0.95)))
    labels = [node for node in tree.iter(f"{SVG}text") if node.get("class") == "halo"]
    assert len(labels) >= 10
    boxes = [
        (float(label.get("x")), float(label.get("y")) - 10, float(label.get("x")) + 6.5 * len(label.text))
        for label in labels
    ]
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or abs(one[1] - other[1]) >= 12


def test_each_look_has_a_sample_of_its_own():
    samples = [*map(method_key, range(SLOTS)), *map(level_key, DASHES), dot_key("ink", "o")]
    assert len(set(samples)) == len(samples)
    assert all('aria-hidden="true"' in sample for sample in samples)
    assert method_key(SLOTS) == method_key(SLOTS - 1)


@pytest.mark.parametrize("seed", range(20))
def test_spans_hold_their_values(seed):
    chance = random.Random(seed)
    values = [chance.random() for _ in range(chance.randint(1, 9))]
    for low, high in (accuracy_span(values), sparsity_span(values)):
        assert low < high
        assert low - 1e-9 <= min(values) <= max(values) <= high + 1e-9


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5, 0.5], [0.7027, 0.7031]])
def test_spans_hold_the_edges_and_what_does_not_vary(values):
    low, high = accuracy_span(values)
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("seed", range(20))
def test_labels_keep_apart_and_in_order(seed):
    chance = random.Random(seed)
    places = sorted(chance.uniform(0, 200) for _ in range(chance.randint(1, 10)))
    moved = spread_apart(places, gap=15, low=0, high=200)
    assert all(after - before >= 15 - 1e-9 for before, after in itertools.pairwise(moved))
    assert min(moved) >= -1e-9
    assert max(moved) <= 200 + 1e-9


def test_labels_that_are_apart_stay_where_they_are():
    assert spread_apart([10, 50, 90], gap=15, low=0, high=100) == [10, 50, 90]
