"""The methods table's laws: its rows are the groups, its marks are earned, and its Markdown reads back."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path

import pytest

from lxcompress.analysis.choice_json import choice_json
from lxcompress.analysis.groups import GroupKey
from lxcompress.analysis.methods import BEST_LINES, CONTROL_WORDS, MOST_LINES, shown_methods, tabulate
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.study_progress import study_progress
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.analysis.verdict import verdict
from lxcompress.recipe import Method
from lxcompress.report.chart.keys import level_key, method_key
from lxcompress.report.html import render_html
from lxcompress.report.methods import methods_markdown, steps_words
from lxcompress.report.tables import methods_json, results_csv, results_json
from lxcompress.rundir import read_run
from lxcompress.units import percent, short_percent
from tests.report.synthetic import METHODS, Accuracies, curve, many, recipe, write_run
from tests.report.test_page import Page

DENSE_CONTROLS = ("dense-longer", "small-dense")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    """25 methods, of which the last seed of one group is missing."""

    def score(cell) -> Accuracies | None:
        return None if cell.id == "low-magnitude-weight-gradual-80-seed2" else curve(cell)

    return summarise(read_run(write_run(tmp_path_factory.mktemp("many"), many(), score=score).root))


def test_every_group_has_its_cell_and_every_method_its_row(studied):
    table = tabulate(studied)
    assert sorted(row.method.id for row in table.rows) == sorted(Method(**method).id for method in METHODS)
    cells = [group for row in table.rows for group in row.groups.values()]
    assert {group.key: group for group in cells} == {group.key: group for group in studied.groups}
    kinds = [row.kind for row in table.rows]
    assert kinds == sorted(kinds, key=["unstructured", "structured", "control"].index)
    assert [row for _, rows in table.sections for row in rows] == list(table.rows)


def test_time_and_steps_are_those_of_the_records(studied):
    dense = {dense_run.seed: dense_run for dense_run in studied.dense_runs}
    for row in tabulate(studied).rows:
        found = [result for result in studied.results if result.method["id"] == row.method.id]
        assert row.cell_s == pytest.approx(statistics.fmean(each.duration_s for each in found))
        multiples = [each.steps / dense[each.seed].steps for each in found]
        assert row.steps == pytest.approx((min(multiples), max(multiples)))


def test_ratios_are_of_the_same_seed(studied):
    dense = {dense_run.seed: dense_run.trained.accuracy for dense_run in studied.dense_runs}
    for group in studied.groups:
        scores = group.retrained.overall.by_seed
        assert group.ratios.by_seed == pytest.approx({seed: score / dense[seed] for seed, score in scores.items()})


def test_the_markdown_reads_back_to_the_groups(studied):
    head, rows = parse(methods_markdown(studied))[0]
    table = tabulate(studied)
    names = {row.name: row for row in table.rows}
    assert len(rows) == len(names) == len(METHODS)
    for cells in rows:
        row = names[cells["method"]]
        assert cells["kind"] == row.kind
        assert cells["steps"] == steps_words(row.steps)
        for target in table.targets:
            text, group = cells[f"{short_percent(target)} %"], row.groups.get(target)
            if group is None:
                assert text == "–"
                continue
            assert text.startswith("**") == (group.key in table.best)
            mean, _, std = text.replace("**", "").partition(" (")[0].partition(" ± ")
            assert (mean, std) == (percent(group.retained, 1), percent(group.ratios.std, 1))
            assert ("seeds)" in text) == bool(group.missing)
            assert ("(at " in text) == (abs(group.achieved.mean - target) > 0.0005)
    assert head[:2] == ["method", "kind"]


def test_the_sizes_read_back_to_the_groups(studied):
    _, rows = parse(methods_markdown(studied))[1]
    sized = {GroupKey(method, 0).series: method for method in studied.recipe.prune.all_methods()}
    found = {(row["method"], row["of its model"]): row for row in rows}
    assert {name for name, _ in found} == {
        name for name, method in sized.items() if method.is_structured or method.control == "small-dense"
    }
    for group in studied.groups:
        row = found.get((group.key.series, "parameters"))
        if row:
            number, unit, *_ = row[f"{short_percent(group.key.target)} %"].split()
            scale = {"M": 1e6, "k": 1e3}[unit]
            assert float(number) * scale == pytest.approx(group.parameters, rel=0.005)


def test_the_best_are_whole_and_nothing_beats_them(studied):
    table = tabulate(studied)
    best = {group.key: group for group in studied.groups if group.key in table.best}
    assert len(best) == 2 * len(studied.recipe.prune.sparsities)
    for key, group in best.items():
        assert group.is_complete
        assert not key.method.is_control
        rivals = [
            group.retained
            for group in studied.groups
            if group.key.target == key.target
            and group.is_complete
            and not group.key.method.is_control
            and group.key.method.is_structured == key.method.is_structured
        ]
        assert group.retained == max(rivals)


@pytest.mark.parametrize("retain", [0.01, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_a_control_is_never_picked_and_never_nearest(studied, retain):
    choice = pick_ticket(studied, Rule(retain=retain))
    tickets = [each.group.key for each in (choice.picked,) if each] + [each.key for each in (choice.nearest,) if each]
    assert tickets
    assert not any(key.method.is_control for key in tickets)
    rejected = [group for group in choice.rejected if group.key.method.is_control]
    assert len(rejected) == sum(group.key.method.is_control for group in studied.groups)
    assert {group.broken for group in rejected} == {("control",)}
    json.dumps(choice_json(choice), allow_nan=False)


def test_controls_alone_leave_nothing_to_pick(tmp_path):
    methods = [method for method in METHODS if "control" in method]
    summary = summarise(read_run(write_run(tmp_path, recipe(criteria=None, methods=methods)).root))
    choice = pick_ticket(summary, Rule(retain=0.1))
    assert choice.picked is choice.nearest is None
    assert "No ticket keeps" in verdict(choice)
    assert "No ticket keeps" in render_html(summary, choice)


def test_a_structured_ticket_can_be_picked(tmp_path):
    def score(cell):
        return Accuracies(0.5, 0.3, 0.8 if cell.method.is_structured else 0.6)

    given = recipe(methods=[{"granularity": "neuron"}])
    choice = pick_ticket(summarise(read_run(write_run(tmp_path, given, score=score).root)), Rule(retain=0.95))
    assert choice.picked.group.key == GroupKey(Method(granularity="neuron"), 0.9)
    assert choice_json(choice)["picked"]["method"] == "low-magnitude-neuron"


@pytest.mark.parametrize(("longer", "is_said"), [(0.9, True), (0.7, False)])
def test_a_dense_model_trained_longer_that_beats_the_pick_is_named(tmp_path, longer, is_said):
    def score(cell):
        return Accuracies(0.5, 0.3, longer if cell.method.control else 0.8)

    given = recipe(methods=[{"control": "dense-longer"}])
    summary = summarise(read_run(write_run(tmp_path, given, score=score).root))
    choice = pick_ticket(summary, Rule(retain=0.9))
    assert ("Dense trained twice as long scores 90.00 ± 0.00." in verdict(choice)) == is_said
    assert choice_json(choice)["dense_longer"]["mean"] == pytest.approx(longer)
    assert "dense, twice the training" in render_html(summary, choice)


def test_a_small_study_is_drawn_whole(summary):
    shown = shown_methods(summary)
    assert shown.lines == summary.recipe.prune.all_methods()
    assert shown.left_out == ()


def test_a_large_study_is_drawn_by_its_best_and_says_what_is_left_out(studied):
    assert len(studied.recipe.prune.all_methods()) > MOST_LINES
    worst = next(method for method in studied.recipe.prune.all_methods() if method.criterion == "high-magnitude")
    for picked in (None, GroupKey(worst, 0.5)):
        shown = shown_methods(studied, picked)
        assert len(shown.lines) == BEST_LINES
        assert not any(method.is_control for method in shown.lines)
        assert any(method.is_structured for method in shown.lines)
        assert (worst in shown.lines) == (picked is not None)
        baselines = {method for method in studied.recipe.prune.all_methods() if method.control in DENSE_CONTROLS}
        parts = [set(shown.lines), set(shown.left_out), baselines]
        assert set.union(*parts) == set(studied.recipe.prune.all_methods())
        assert sum(map(len, parts)) == len(studied.recipe.prune.all_methods())


def test_the_page_of_many_methods_is_whole(studied):
    text = render_html(studied, pick_ticket(studied, Rule(retain=0.9)))
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    for row in tabulate(studied).rows:
        assert row.name in page.text
    for control in ("shuffled", "reinitialised", *DENSE_CONTROLS):
        assert CONTROL_WORDS[control].format(times="twice") in page.text
    assert f"The charts draw {BEST_LINES} of 23 methods" in page.text
    assert "17 methods are in the tables only" in page.text
    assert "line baseline" in {value for name, value in page.attributes if name == "class"}
    assert level_key("longer") in text


def test_a_study_whose_first_cell_is_a_baseline_has_a_page(tmp_path):
    def score(cell):
        return curve(cell) if cell.method.control == "dense-longer" else None

    summary = summarise(read_run(write_run(tmp_path, many(), score=score).root))
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.9)))
    assert "No ticket is finished yet" in text
    assert "lxcompress export" not in text


def test_csv_and_json_hold_what_was_counted(studied):
    rows = {row["cell"]: row for row in csv.DictReader(io.StringIO(results_csv(studied)))}
    for result in studied.results:
        row = rows[result.cell]
        assert row["method"] == result.method["id"]
        assert row["control"] == (result.method.get("control") or "")
        assert {part: float(row[f"kept_{part}"]) for part in result.kept_by_modality} == result.kept_by_modality
        assert (int(row["parameters"]), int(row["flops"])) == (result.parameters, result.flops)
        assert (float(row["drawing_s"]) if row["drawing_s"] else None) == result.drawing_s
    tree = json.loads(results_json(studied, pick_ticket(studied, Rule(retain=0.9))))
    assert tree["summary"]["methods"] == json.loads(json.dumps(methods_json(studied)))
    assert len(tree["summary"]["methods"]) == len(METHODS)


def test_the_time_left_is_that_of_the_same_cells_of_other_seeds(tmp_path):
    """An iterative method takes several trainings, and the mean of all cells would say too little of it."""

    def score(cell):
        is_left = cell.seed == 2 and cell.method.schedule == "iterative-retrain"
        return None if is_left else curve(cell)

    run = read_run(write_run(tmp_path, many(), score=score).root)
    left = [cell for cell in run.recipe.cells() if cell.id not in run.results]
    twins = [run.results[cell.id.replace("seed2", "seed0")] for cell in left]
    assert len(left) == 4
    assert study_progress(run, busy=False).left_s == pytest.approx(sum(twin.duration_s for twin in twins))


def test_methods_of_like_names_stay_apart(tmp_path):
    """The plain random is called random-weight, which a person may shorten as the report does."""
    given = recipe(criteria=["random"], methods=[{"name": "random", "criterion": "random", "scope": "global"}])
    summary = summarise(read_run(write_run(Path(tmp_path), given).root))
    assert len(shown_methods(summary).lines) == len(tabulate(summary).rows) == 2
    text = render_html(summary, pick_ticket(summary, Rule(retain=0.9)))
    assert method_key(0) in text
    assert method_key(1) in text


def parse(text: str) -> list[tuple[list[str], list[dict[str, str]]]]:
    """Every Markdown table of `text`: its head, and its rows by column."""
    tables = []
    for block in text.split("\n\n"):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()]
        if block.startswith("|"):
            head, rule, *rows = lines
            assert all(set(cell) <= {"-", ":"} for cell in rule)
            tables.append((head, [dict(zip(head, row, strict=True)) for row in rows]))
    return tables
