"""Laws of `protocol`: each fault does what its name says, alone and together, and none is there by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import default_rule
from lxcompress.analysis.summary import summarise
from lxcompress.errors import RunError, TicketError
from lxcompress.models.checkpoints import load_model, load_weights
from lxcompress.pruning.published import compounded
from lxcompress.recipe import FAULTS, load_recipe
from lxcompress.rundir import Run, RunDir, read_run
from lxcompress.study.run import run_study
from lxcompress.tickets import load_mask, load_ticket

SMALL = ["seeds=[0,1]", "prune.sparsities=[0.5]", "train.epochs=1"]


def run_with(tiny_recipe_file: Path, root: Path, protocol: str, *more: str) -> Path:
    run_study(load_recipe(tiny_recipe_file, [*SMALL, f"protocol={protocol}", *more]), root)
    return root


def losses(run: Run, seed: int) -> list[float]:
    return [epoch.train_loss for epoch in run.dense[seed].epochs]


@pytest.fixture(scope="module")
def corrected(tiny_recipe_file, tmp_path_factory) -> Path:
    return run_with(tiny_recipe_file, tmp_path_factory.mktemp("corrected"), "corrected")


@pytest.fixture(scope="module")
def published(tiny_recipe_file, tmp_path_factory) -> Path:
    return run_with(tiny_recipe_file, tmp_path_factory.mktemp("published"), "published")


def test_a_corrected_study_has_no_fault(corrected) -> None:
    run = read_run(corrected)
    for result in run.results.values():
        assert result.faults == []
        assert result.regrown == 0
        assert result.sparsity.achieved == pytest.approx(0.5, abs=1e-3)
    assert losses(run, 0) != losses(run, 1)


def test_one_dense_run_stands_for_all_seeds(tiny_recipe_file, corrected, tmp_path) -> None:
    run = read_run(run_with(tiny_recipe_file, tmp_path, "[one-dense-run]"))
    assert losses(run, 0) == losses(run, 1) == losses(read_run(corrected), 0)
    starts = [load_weights(RunDir(tmp_path).start(seed)) for seed in (0, 1)]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_mask_applied_once_lets_the_removed_grow_back(tiny_recipe_file, corrected, tmp_path) -> None:
    root = run_with(tiny_recipe_file, tmp_path, "[mask-applied-once]")
    right = read_run(corrected)
    for name, result in read_run(root).results.items():
        folder = root / "tickets" / name
        removed = result.sparsity.prunable - result.sparsity.kept
        assert 0.9 * removed < result.regrown <= removed
        assert result.pruned == right.results[name].pruned
        assert result.rewound == right.results[name].rewound, name
        mask, weights = load_mask(folder / "mask.safetensors"), load_model(folder).weights
        assert mask.count_violations(weights) == result.regrown
        with pytest.raises(TicketError, match="is not a ticket"):
            load_ticket(folder)


def test_every_tensor_is_pruned(tiny_recipe_file, tmp_path) -> None:
    root = run_with(tiny_recipe_file, tmp_path, "[every-tensor-pruned]", "prune.criteria=[low-magnitude]")
    names = load_ticket(root / "tickets" / "low-magnitude-weight-50-seed0").mask.kept.keys()
    assert "answer_head.logit_fc.3.weight" in names
    assert any(name.endswith("LayerNorm.weight") for name in names)
    assert any(name.endswith("bias") for name in names)
    assert not any(".embeddings." in name for name in names)


def test_the_published_protocol_has_them_all(published) -> None:
    run = read_run(published)
    assert run.recipe.faults == FAULTS
    assert losses(run, 0) == losses(run, 1)
    low = run.results["low-magnitude-weight-50-seed0"]
    assert low.sparsity.achieved == pytest.approx(compounded(0.5), abs=0.05)
    assert all(result.regrown for result in run.results.values())
    assert all(set(result.faults) == set(FAULTS) for result in run.results.values())
    high, kept_by_low = (
        load_mask(published / "tickets" / f"{name}-weight-50-seed0" / "mask.safetensors").kept
        for name in ("high-magnitude", "low-magnitude")
    )
    assert all(bool((high[name] | ~kept_by_low[name]).all()) for name in high if high[name].numel() > 64)


def test_the_published_protocol_starts_its_answers_at_no_bias(published, corrected) -> None:
    name = "answer_head.logit_fc.3.bias"
    assert not bool(load_weights(RunDir(published).start(0))[name].any())
    assert bool(load_weights(RunDir(corrected).start(0))[name].any())


def test_nothing_is_picked_where_nothing_is_a_ticket(published) -> None:
    summary = summarise(read_run(published))
    choice = pick_ticket(summary, default_rule(summary))
    assert choice.picked is None
    assert all("protocol" in each.broken for each in choice.rejected)


def test_a_folder_of_one_protocol_refuses_another(tiny_recipe_file, corrected) -> None:
    with pytest.raises(RunError, match=r"was made with protocol="):
        run_with(tiny_recipe_file, corrected, "published")
