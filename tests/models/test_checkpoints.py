"""Laws of checkpoints: every tensor is accounted for, the dead branch is nowhere, and answers are transformers' own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LxmertConfig, LxmertForQuestionAnswering

from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.split import Inputs
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import DataError
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, load_model, load_weights, save_model, save_weights
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.recipe import ScenesData
from tests.complain import complain

DEAD = tuple(f"x_layers.1.{module}." for module in ("visn_self_att", "visn_inter", "visn_output"))


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    task = load_task(ScenesData(kind="scenes", train=4, valid=40))
    return task.valid.inputs(torch.arange(40))


@pytest.fixture
def saved(toy_start, tmp_path) -> Path:
    """A fine-tuned toy as a transformers folder, its dead branch left out."""
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    save_model(tmp_path / "saved", model, weights, shipped_vocabulary())
    return tmp_path / "saved"


def names_of(folder: Path) -> set[str]:
    return set(load_file(folder / "model.safetensors"))


def answers(model: Model, inputs: Inputs) -> torch.Tensor:
    with torch.no_grad():
        return model.family.answer(model.module, inputs)


@pytest.mark.parametrize("seed", [0, 5])
def test_the_encoder_is_the_folders(toy_start, seed) -> None:
    kept = load_file(toy_start / "model.safetensors")
    _, weights = load_start(str(toy_start), ANSWERS, seed)
    encoder = {name.removeprefix("lxmert.") for name in weights if name.startswith("lxmert.")}
    assert encoder == {name for name in kept if not any(part in name for part in DEAD)}
    for name in encoder:
        assert torch.equal(weights[f"lxmert.{name}"], kept[name].float())


def test_the_head_is_of_the_seed_alone(toy_start) -> None:
    first, again, other = (load_start(str(toy_start), ANSWERS, seed)[1] for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert differing == {"answer_head.logit_fc.0.weight", "answer_head.logit_fc.3.weight"}


def test_the_head_is_drawn_as_berts_and_gives_each_answer_the_same_small_chance(toy_start) -> None:
    config = load_start(str(toy_start), ANSWERS, 0)[0].config
    head = lxmert.FAMILY.fresh_head(
        LxmertConfig(**{**config.to_dict(), "hidden_size": 128}), torch.Generator().manual_seed(0)
    )
    for name, tensor in head.items():
        if tensor.dim() == 2:
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.05)
            assert abs(float(tensor.mean())) < 0.001
        elif name == "answer_head.logit_fc.3.bias":
            assert torch.sigmoid(tensor).tolist() == pytest.approx([1 / len(ANSWERS)] * len(ANSWERS))
        else:
            assert set(tensor.tolist()) == ({0.0} if name.endswith("bias") else {1.0})


@pytest.mark.parametrize("labels", [ANSWERS, ("left", "right", "neither")])
def test_the_head_has_the_answers_it_is_asked_for(toy_start, inputs, labels) -> None:
    model, _ = load_start(str(toy_start), labels, 0)
    assert answers(model, inputs).shape == (40, len(labels))
    assert model.config.id2label == dict(enumerate(labels))


def test_the_start_weights_do_not_move_with_the_model(toy_start) -> None:
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    before = {name: tensor.clone() for name, tensor in weights.items()}
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(1)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    model.load(weights)
    assert all(torch.equal(model.weights[name], before[name]) for name in before)


def test_the_dead_branch_is_nowhere(toy_start, saved) -> None:
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    for names in (weights, model.weights, model.prunable, load_model(saved).weights, names_of(saved)):
        assert names
        assert not any(part in name for name in names for part in DEAD)
    whole = LxmertForQuestionAnswering(model.config).state_dict()
    assert {name for name in whole if any(part in name for part in DEAD)} == whole.keys() - model.weights.keys()


def test_the_dead_branch_gets_no_gradient_and_all_else_does(toy_start, inputs) -> None:
    model, _ = load_start(str(toy_start), ANSWERS, 0)
    whole = LxmertForQuestionAnswering(model.config)
    whole(**inputs._asdict()).question_answering_score.square().sum().backward()
    without = {name for name, weight in whole.named_parameters() if weight.grad is None}
    assert without == {name for name, _ in whole.named_parameters() if lxmert.FAMILY.is_dead(name, model.config)}
    model.family.answer(model.module, inputs).square().sum().backward()
    assert all(weight.grad is not None for weight in model.module.parameters())


@pytest.mark.parametrize("x_layers", [0, 1, 2, 3])
def test_live_and_dead_together_are_the_whole_model(x_layers) -> None:
    config = LxmertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=24, vocab_size=30, x_layers=x_layers)
    whole = LxmertForQuestionAnswering(config)
    model = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
    assert model.whole == sum(parameter.numel() for parameter in whole.parameters())
    assert model.whole - model.live == lxmert.FAMILY.count_dead(config)
    assert (lxmert.FAMILY.count_dead(config) > 0) == (x_layers > 0)


def test_without_its_dead_branch_the_model_answers_as_transformers_whole_one(toy_start, inputs) -> None:
    model, weights = load_start(str(toy_start), ANSWERS, 3)
    whole = LxmertForQuestionAnswering(model.config).eval()
    account = whole.load_state_dict(weights, strict=False)
    assert account.unexpected_keys == []
    with torch.no_grad():
        expected = whole(**inputs._asdict()).question_answering_score
    assert torch.equal(answers(model, inputs), expected)
    assert float(expected.std()) > 0


def test_what_is_prunable_is_the_linear_layers_less_the_embeddings_and_the_output(toy_start) -> None:
    model, _ = load_start(str(toy_start), ANSWERS, 0)
    linear = {f"{name}.weight" for name, module in model.module.named_modules() if isinstance(module, nn.Linear)}
    (output,) = (name for name in linear if model.weights[name].shape[0] == len(ANSWERS))
    assert set(model.prunable) == {name for name in linear if ".embeddings." not in name} - {output}
    embedded = {name for name, module in model.module.named_modules() if isinstance(module, nn.Embedding)}
    assert embedded
    assert not any(name.startswith(tuple(embedded)) for name in model.prunable)


def test_counts_of_the_published_size_are_those_of_its_shapes() -> None:
    config = LxmertConfig(num_qa_labels=3129)
    with torch.device("meta"):
        model = Model(lxmert.FAMILY.build(config), config, lxmert.FAMILY)
    hidden, wide, answers = 768, 3072, 3129
    attention, feed_forward = 4 * hidden * hidden, 2 * hidden * wide
    dead = attention + feed_forward
    beside = 5 * hidden + wide + 4 * hidden
    """its biases, and the gains and offsets of two LayerNorms"""
    assert dead_matrices(config) == dead == 7_077_888
    assert lxmert.FAMILY.count_dead(config) == dead + beside == 7_087_872

    layers = 9 + 5 + 5 * 2
    reading_boxes = config.visual_feat_dim * hidden + config.visual_pos_dim * hidden
    pooler, head, output = hidden * hidden, hidden * 2 * hidden, 2 * hidden * answers
    matrices = layers * (attention + feed_forward) + 5 * attention + reading_boxes + pooler + head + output
    live = sum(tensor.numel() for tensor in model.prunable.values())
    assert live == matrices - dead - output == 177_933_312
    assert matrices == 189_817_344
    assert model.whole == 213_930_297


def dead_matrices(config: LxmertConfig) -> int:
    with torch.device("meta"):
        whole = LxmertForQuestionAnswering(config).state_dict()
    return sum(
        tensor.numel() for name, tensor in whole.items() if lxmert.FAMILY.is_dead(name, config) and tensor.dim() == 2
    )


def test_a_model_saved_and_loaded_is_the_same(saved, toy_start, inputs) -> None:
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    loaded = load_model(saved)
    assert loaded.weights.keys() == weights.keys()
    assert all(torch.equal(loaded.weights[name], weights[name]) for name in weights)
    assert torch.equal(answers(loaded, inputs), answers(model, inputs))
    assert [loaded.config.id2label[number] for number in range(len(ANSWERS))] == list(ANSWERS)
    assert load_vocabulary(str(saved)) == shipped_vocabulary()
    assert (loaded.live, loaded.whole) == (model.live, model.whole)


def test_a_start_may_be_a_fine_tuned_model(saved) -> None:
    _, weights = load_start(str(saved), ("a", "b"), 0)
    kept = load_file(saved / "model.safetensors")
    assert all(torch.equal(weights[name], kept[name]) for name in kept if name.startswith("lxmert."))
    assert weights["answer_head.logit_fc.3.bias"].shape == (2,)


def test_a_whole_checkpoint_of_transformers_loads_too(toy_start, inputs, tmp_path) -> None:
    whole = LxmertForQuestionAnswering(load_start(str(toy_start), ANSWERS, 0)[0].config).eval()
    whole.save_pretrained(tmp_path / "whole")
    model = load_model(tmp_path / "whole")
    assert not any(part in name for name in model.weights for part in DEAD)
    with torch.no_grad():
        assert torch.equal(answers(model, inputs), whole(**inputs._asdict()).question_answering_score)


def test_loading_and_building_leave_the_global_randomness_alone(toy_start, saved) -> None:
    config = load_model(saved).config
    for act in (
        lambda: load_start(str(toy_start), ANSWERS, 0),
        lambda: load_start(str(saved), ("a", "b"), 0),
        lambda: load_model(saved),
        lambda: lxmert.FAMILY.build(config),
        lambda: lxmert.FAMILY.count_dead(config),
    ):
        before = torch.get_rng_state()
        act()
        assert torch.equal(torch.get_rng_state(), before)


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["lxmert.encoder.layer.0.output.dense.weight", "lxmert.pooler.dense.bias"])
def test_a_missing_tensor_is_named(name, saved) -> None:
    edit_tensors(saved, lambda tensors: tensors.pop(name))
    complain(lambda: load_model(saved), saved, "lacks 1 tensors", name)
    complain(lambda: load_start(str(saved), ANSWERS, 0), saved, "lacks 1 tensors", name.removeprefix("lxmert."))


def test_a_missing_answer_head_is_named_unless_a_fresh_one_is_drawn(saved) -> None:
    edit_tensors(saved, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("answer_head")])
    complain(lambda: load_model(saved), "lacks 6 tensors", "answer_head.logit_fc.0.bias")
    load_start(str(saved), ANSWERS, 0)


def test_a_tensor_of_another_shape_is_refused(saved) -> None:
    edit_tensors(saved, lambda tensors: tensors.update({"lxmert.pooler.dense.bias": torch.zeros(3)}))
    complain(lambda: load_model(saved), saved, "lxmert.pooler.dense.bias has the shape [3], expected [16]")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("a file")])
def test_what_is_no_model_folder_is_refused(make, tmp_path) -> None:
    path = tmp_path / "place"
    make(path)
    for call in (load_model, lambda where: load_start(where, ANSWERS, 0)):
        complain(lambda call=call: call(str(path)), path, "config.json and model.safetensors")


@pytest.mark.parametrize("size", [0, 100, -20])
def test_a_truncated_weights_file_is_refused(size, saved) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    complain(lambda: load_model(saved), saved)
    complain(lambda: load_weights(path), path, "cannot be read as safetensors")


def test_a_folder_without_weights_is_refused(saved) -> None:
    (saved / "model.safetensors").unlink()
    complain(lambda: load_model(saved), saved, "model.safetensors")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "no-such-model"}, "is a no-such-model model; lxcompress knows lxmert"),
        ({"model_type": "lxmert", "l_layers": [1]}, "l_layers"),
        ({"model_type": "lxmert", "hidden_size": "large"}, "hidden_size"),
    ],
)
def test_a_foreign_model_is_told_what_is_known(config, named, saved) -> None:
    (saved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    complain(lambda: load_model(saved), saved, named)
    complain(lambda: load_start(str(saved), ANSWERS, 0), saved, named)


def test_a_damaged_config_is_refused(saved) -> None:
    (saved / "config.json").write_text("{", encoding="utf-8")
    complain(lambda: load_model(saved), saved)


def test_a_folder_without_its_vocabulary_says_so(saved, tmp_path) -> None:
    (saved / "vocab.txt").unlink()
    complain(lambda: load_vocabulary(str(saved)), saved, "has no vocab.txt")
    complain(lambda: load_vocabulary(str(tmp_path / "absent")), tmp_path / "absent")


@pytest.mark.parametrize("text", ["red\ngreen\n", "[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\n", ""])
def test_a_vocabulary_that_is_none_is_refused(text, saved) -> None:
    (saved / "vocab.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_vocabulary(str(saved))
    assert str(caught.value).startswith(f"{saved / 'vocab.txt'}: ")


def test_weights_of_another_model_do_not_load(toy_start) -> None:
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    for wrong in ({**weights, "extra": torch.zeros(1)}, dict(list(weights.items())[1:])):
        with pytest.raises(RuntimeError, match="state_dict"):
            model.load(wrong)


def test_weights_saved_and_loaded_are_the_same_bit_for_bit(tmp_path) -> None:
    weights = {
        "turned": torch.arange(6.0).view(2, 3).T,
        "none": torch.zeros(0, 4),
        "half": torch.randn(3, generator=torch.Generator().manual_seed(0)).half(),
    }
    save_weights(tmp_path / "w.safetensors", weights)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert all(loaded[name].dtype == weights[name].dtype for name in weights)


def test_the_toy_reads_what_the_data_give(toy_start, tmp_path) -> None:
    shutil.copytree(toy_start, tmp_path / "copy")
    assert load_start(str(tmp_path / "copy"), ANSWERS, 0)[0].config.visual_feat_dim == FEATURES
