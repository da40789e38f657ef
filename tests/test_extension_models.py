"""A criterion and a model family of another package: named in a recipe and on the command line, pruned and reloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import BertConfig, BertForPreTraining
from typer.testing import CliRunner

from lxcompress.catalog import extensions
from lxcompress.catalog.criteria import CriterionSpec, criterion_names, find_criterion
from lxcompress.catalog.families import FAMILIES, FamilySpec, family_names, modality
from lxcompress.cli.main import app
from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import ExtensionError, RecipeError
from lxcompress.models.flops import count_flops
from lxcompress.models.start import load_start
from lxcompress.pruning.criteria import score_weights
from lxcompress.pruning.surgery import find_groups
from lxcompress.recipe import Recipe, load_recipe
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket
from tests.complain import complain

EXTENSION = Path(__file__).parent / "extension"


@pytest.fixture
def example(monkeypatch):
    """The example package as an installed one."""
    monkeypatch.syspath_prepend(str(EXTENSION))
    for cached in (extensions._entry_points, extensions.load_added):
        cached.cache_clear()
    yield
    for cached in (extensions._entry_points, extensions.load_added):
        cached.cache_clear()


@pytest.fixture
def blind_start(tmp_path: Path) -> Path:
    """A pre-trained BERT as transformers saves it, under the model_type of the example's family."""
    folder = tmp_path / "start"
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    config = BertConfig(vocab_size=len(shipped_vocabulary()), max_position_embeddings=40, **sizes)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        BertForPreTraining(config).save_pretrained(folder)
    tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tree |= {"model_type": "blind_bert", "visual_feat_dim": FEATURES, "architectures": ["BertForPreTraining"]}
    (folder / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(shipped_vocabulary()) + "\n", encoding="utf-8")
    return folder


def recipe_tree(start: Path | str) -> dict:
    return {
        "name": "extension",
        "seeds": [0],
        "device": "cpu",
        "data": {"kind": "scenes", "train": 48, "valid": 32},
        "model": {"start": str(start)},
        "train": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
        "prune": {"criteria": ["column-norm"], "sparsities": [0.5]},
    }


def test_what_a_package_adds_is_listed_after_what_lxcompress_has(example) -> None:
    assert criterion_names()[0] == "low-magnitude"
    assert criterion_names()[-1] == "column-norm"
    assert family_names() == (*FAMILIES, "blind_bert")
    assert find_criterion("column-norm").reads_weights_only
    assert modality("bert.encoder.layer.0.output.dense.weight") == "language"
    assert modality("bert.pooler.dense.weight") == "head"


def test_the_score_of_an_added_criterion_is_used(example) -> None:
    weight = torch.tensor([[3.0, 1.0], [4.0, 0.0]])
    scores = score_weights({"a": weight}, criterion="column-norm", seed=0)
    assert scores["a"].tolist() == [[15.0, 1.0], [20.0, 0.0]]


def test_a_recipe_names_an_added_criterion_and_without_its_package_says_so(example, tmp_path, monkeypatch) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree("mini")), encoding="utf-8")
    assert load_recipe(path).prune.criteria == ("column-norm",)
    monkeypatch.setattr(extensions, "_all_entry_points", lambda group: iter(()))
    extensions._entry_points.cache_clear()
    complain(lambda: load_recipe(path), "prune.criteria", "low-magnitude", "column-norm", kind=RecipeError)


def test_a_study_and_prune_run_with_an_added_criterion_and_an_added_family(example, blind_start, tmp_path) -> None:
    run_study(Recipe.model_validate(recipe_tree(blind_start)), tmp_path / "run")
    folder = tmp_path / "run" / "tickets" / "column-norm-weight-50-seed0"
    ticket = load_ticket(folder)
    assert ticket.model.family.name == "blind_bert"
    assert ticket.provenance.sparsity.achieved == pytest.approx(0.5, abs=1e-3)
    assert count_flops(ticket.model) > 0

    dense = tmp_path / "run" / "seeds" / "0" / "dense"
    command = ["prune", dense, "--criterion", "column-norm", "--sparsity", "0.7", "--out", tmp_path / "pruned"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    pruned = load_ticket(tmp_path / "pruned")
    assert pruned.provenance.criterion == "column-norm"
    assert pruned.mask.kept.keys() == pruned.model.prunable.keys()


def test_an_added_family_can_be_made_smaller(example, blind_start) -> None:
    model, _ = load_start(str(blind_start), ANSWERS, 0)
    groups = find_groups(model, ("neuron", "head", "layer"))
    assert [group.kind for group in groups] == ["neuron"] * 2 + ["head"] * 2 + ["layer"]


def test_a_criterion_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="expected small letters, digits and hyphens"):
        CriterionSpec("My Criterion", "a:b")
    with pytest.raises(ValueError, match="expected None or one of movement"):
        CriterionSpec("mine", "a:b", needs="luck")
    with pytest.raises(ValueError, match="expected one of language"):
        FamilySpec("mine", "a:b", {"a.": "smell"})


def test_a_spec_of_another_kind_or_name_is_refused_with_its_package(example, monkeypatch) -> None:
    (point,) = (point for point in extensions._all_entry_points("families") if point.name == "blind_bert")
    monkeypatch.setattr(extensions, "_all_entry_points", lambda group: iter([point]))
    extensions._entry_points.cache_clear()
    complain(lambda: find_criterion("blind_bert"), "lxcompress-example", "a CriterionSpec", kind=ExtensionError)


@pytest.mark.parametrize("name", ["criteria.py", "families.py", "blind_bert.py"])
def test_the_page_shows_the_code_of_the_example(name) -> None:
    page = (EXTENSION.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    assert (EXTENSION / "lxcompress_example" / name).read_text(encoding="utf-8") in page
