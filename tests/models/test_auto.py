"""Laws of the families that are derived: any encoder of transformers is pruned, saved, exported and answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.split import Inputs
from lxcompress.errors import ModelError, PruneError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.feeds import as_tensors, random_feeds
from lxcompress.exporters.formats import ExportOptions
from lxcompress.models.checkpoints import load_model
from lxcompress.models.start import load_start
from lxcompress.runtimes import open_session
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from lxcompress.tickets import load_ticket
from tests.models.encoders import ENCODERS, FAST, UNCUT, save_encoder

NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in ENCODERS]


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_pruned_to_exactly_k_and_read_by_transformers(name: str, tmp_path: Path) -> None:
    save_encoder(name, tmp_path / "model")
    made = prune_model(str(tmp_path / "model"), tmp_path / "ticket", PruneOptions(sparsity=0.5))
    ticket = load_ticket(tmp_path / "ticket")
    model, kept = ticket.model, ticket.mask.kept
    assert made.sparsity.kept == sum(mask.numel() - round(mask.numel() * 0.5) for mask in kept.values())
    assert all(int(model.weights[own].count_nonzero()) <= int(mask.sum()) for own, mask in kept.items())
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "ticket").eval()
    assert all(torch.equal(weight, theirs.state_dict()[own]) for own, weight in model.weights.items())
    feeds = next(iter(random_feeds(model, None)))
    with torch.no_grad():
        scores = model.family.answer(model.module, Inputs(**as_tensors(feeds)))
        assert torch.equal(scores, model.family.answer(theirs, Inputs(**as_tensors(feeds))))
    assert scores.shape == (2, model.family.count_answers(model.config))


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_an_exported_encoder_is_answered_by_two_runtimes(name: str, tmp_path: Path) -> None:
    save_encoder(name, tmp_path / "model")
    prune_model(str(tmp_path / "model"), tmp_path / "ticket", PruneOptions(sparsity=0.5))
    source = open_source(tmp_path / "ticket")
    feeds = next(iter(random_feeds(source.model, None)))
    answers = []
    for kind, runtime in (("onnx", "onnxruntime"), ("bitmask", "torch")):
        parity = export(source, tmp_path / kind, ExportOptions(kind)).parity
        assert parity is not None
        assert parity.tolerance is not None
        answers.append(open_session(tmp_path / kind, threads=1, runtime=runtime).answer(feeds))
    np.testing.assert_allclose(*answers, atol=1e-4 * max(1, np.abs(answers[0]).max()))


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_cut_by_units_or_the_reason_is_said(name: str, tmp_path: Path) -> None:
    save_encoder(name, tmp_path / "model")
    for granularity, sparsity in (("neuron", 0.2), ("head", 0.15), ("layer", 0.4), ("block-4x4", 0.5)):
        out, options = tmp_path / granularity, PruneOptions(sparsity=sparsity, granularity=granularity, multiple=1)
        reason = UNCUT.get(name, {}).get(granularity)
        if reason:
            with pytest.raises(PruneError, match=reason):
                prune_model(str(tmp_path / "model"), out, options)
            continue
        made = prune_model(str(tmp_path / "model"), out, options)
        assert load_ticket(out).provenance.sparsity == made.sparsity


def test_a_checkpoint_is_read_in_the_forms_that_people_have(tmp_path: Path) -> None:
    model = save_encoder(FAST[0], tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    own = load_model(tmp_path / "model").weights
    assert all(torch.equal(own[name], weight) for name, weight in model.state_dict().items())

    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    forms = {
        "bin": {f"module.{name}": weight for name, weight in weights.items()},
        "compiled": {f"_orig_mod.{name}": weight for name, weight in weights.items()},
        "extra": {**weights, "cls.predictions.bias": torch.zeros(64)},
    }
    for form, tensors in forms.items():
        folder = tmp_path / form
        folder.mkdir()
        (folder / "config.json").write_text((tmp_path / "model" / "config.json").read_text())
        if form == "bin":
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / "model.safetensors")
    for form in ("shards", *forms):
        found = load_model(tmp_path / form).weights
        assert found.keys() == own.keys()
        assert all(torch.equal(found[name], own[name]) for name in own), form

    model.half().save_pretrained(tmp_path / "half")
    half = load_model(tmp_path / "half").weights
    assert all(torch.equal(half[name], own[name].half().float()) for name in own)


def change(folder: Path, **fields: object) -> Path:
    """Replace fields of the config in a folder; return the folder."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "bart", "architectures": ["BartModel"]}, r"is an encoder-decoder \(BartModel\)"),
        ({"model_type": "gpt2", "architectures": ["GPT2Model"]}, r"is a decoder \(GPT2Model\)"),
        ({"model_type": "resnet", "architectures": ["ResNetModel"]}, "without a linear layer that could be pruned"),
        ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2Model"]}, "reads input_values, neither token ids"),
        ({"model_type": "my-own"}, "is a my-own model; lxcompress knows lxmert"),
        ({"auto_map": {"AutoModel": "modeling.Mine"}}, "contains Python code"),
    ],
)
def test_what_is_no_encoder_is_refused_by_name(fields: dict[str, object], said: str, tmp_path: Path) -> None:
    tmp_path.joinpath("config.json").write_text(json.dumps(ENCODERS[FAST[0]].to_dict()))
    with pytest.raises(ModelError, match=said):
        load_model(change(tmp_path, **fields))


def test_inspect_says_what_is_prunable_what_is_not_and_why(tmp_path: Path) -> None:
    save_encoder("BertForSequenceClassification", tmp_path)
    prune_model(str(tmp_path), tmp_path / "ticket", PruneOptions(sparsity=0.5))
    kept = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "ticket"), "--json"]).output)["kept"]
    assert kept["ticket"].keys() == {"language", "head"}
    done = CliRunner().invoke(app, ["inspect", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["prunable"].keys() == load_model(tmp_path).prunable.keys()
    assert said["kept"]["classifier.weight"] == "is the output layer"
    assert said["kept"]["bert.embeddings.word_embeddings.weight"] == "is an embedding"
    assert said["granularities"] == {"neuron": True, "head": True, "layer": True}
    assert not said["formats"]["engine"]
    lines = CliRunner().invoke(app, ["inspect", str(tmp_path)]).output
    assert f"{said['weights']:,} weights in 13 matrices" in lines


def test_a_model_without_its_classifier_is_said(tmp_path: Path) -> None:
    save_encoder("BertModel", tmp_path)
    with pytest.raises(ModelError, match="lacks 2 tensors of its answer head"):
        load_model(change(tmp_path, architectures=["BertForSequenceClassification"]))


def test_an_encoder_without_a_classifier_starts_no_study(tmp_path: Path) -> None:
    save_encoder("BertModel", tmp_path)
    with pytest.raises(ModelError, match="is a BertModel, an encoder without a classifier"):
        load_start(str(tmp_path), ["red", "blue"], 0)


def test_of_another_task_the_encoder_is_read(tmp_path: Path) -> None:
    whole = transformers.BertForPreTraining(ENCODERS["BertModel"]).eval()
    whole.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert type(model.module).__name__ == "BertModel"
    assert all(torch.equal(weight, whole.state_dict()[f"bert.{name}"]) for name, weight in model.weights.items())
