"""Laws of prune.regions: methods that prune nothing and see fewer regions, beside tickets on one front."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import summarise
from lxcompress.exporters.artifact import open_source
from lxcompress.recipe import Recipe, load_recipe
from lxcompress.report.methods import methods_markdown
from lxcompress.rundir import RunDir, read_run
from lxcompress.study.agreement import resolve_recipe
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket
from tests.once import make_once

FEWER = "regions-2-0-seed4"
MASKED = "low-magnitude-weight-regions2-50-seed4"


@pytest.fixture(scope="module")
def recipe(tiny_recipe_file, tmp_path_factory) -> Recipe:
    tree = yaml.safe_load(Path(tiny_recipe_file).read_text(encoding="utf-8"))
    tree |= {"name": "regions", "seeds": [4]}
    tree["data"] = {"kind": "scenes", "train": 40, "valid": 30, "objects": 9}
    tree["prune"] = {"criteria": ["low-magnitude"], "sparsities": [0.5], "regions": [9, 2], "methods": [{"regions": 2}]}
    path = tmp_path_factory.mktemp("recipe") / "regions.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_recipe(path)


@pytest.fixture(scope="module")
def drawn(recipe) -> RunDir:
    return RunDir(make_once("fewer-regions", lambda folder: run_study(recipe, folder)))


def test_a_number_that_removes_nothing_is_left_out(recipe) -> None:
    assert resolve_recipe(recipe).prune.regions == (2,)


def test_nothing_is_pruned_and_fewer_regions_are_seen(drawn) -> None:
    results = {result.cell: result for result in read_run(drawn.root).results.values()}
    assert set(results) == {FEWER, MASKED, "low-magnitude-weight-50-seed4"}
    assert results[FEWER].sparsity.achieved == 0
    assert results[FEWER].flops < results["low-magnitude-weight-50-seed4"].flops
    assert results[FEWER].flops == results[MASKED].flops
    assert load_ticket(drawn.root / "tickets" / FEWER).provenance.data["regions"] == 2
    source = open_source(drawn.root / "tickets" / FEWER)
    assert source.task is not None
    assert source.task.valid.regions.features.shape[1] == 2, "an export is scored and timed with these regions"


def test_all_are_on_one_front(drawn) -> None:
    summary = summarise(read_run(drawn.root))
    front = {point.label for point in pick_ticket(summary, Rule(retain=0.01)).front}
    best = max(summary.groups, key=lambda group: (group.retrained.overall.mean, -(group.flops or 0)))
    assert best.key.label in front or "dense" in front
    cheapest = min(summary.groups, key=lambda group: (group.flops, -group.achieved.mean, -group.retrained.overall.mean))
    assert cheapest.key.label in front
    table = methods_markdown(summary)
    assert "| regions-2 | regions |" in table
    assert "| regions-2 | FLOPs |" in table


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("{dense: true}", "it needs regions"),
        ("{dense: true, regions: 2, criterion: random}", "settings that choose weights have no effect"),
        ("{regions: 2, control: shuffled}", "cannot be combined"),
        ("{regions: 2, dense: true, sparsities: [0.5]}", "whose sparsity is fixed"),
    ],
)
def test_settings_without_effect_are_refused(method, said, tiny_recipe_file) -> None:
    with pytest.raises(Exception, match=said):
        load_recipe(tiny_recipe_file, [f"prune.methods=[{method}]"])
