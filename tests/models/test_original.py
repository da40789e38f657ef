"""Laws of the authors' .pth files: every tensor is accounted for, and nothing but tensors is unpickled."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LxmertConfig, LxmertForPreTraining, LxmertForQuestionAnswering

from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.objects import FEATURES
from lxcompress.errors import ModelError
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, feature_size, load_model
from lxcompress.models.original import account, read_original
from lxcompress.models.releases import LXMERT
from lxcompress.models.source import is_original
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from tests.complain import complain
from tests.models.original import (
    CONFIG,
    TINY,
    Sizes,
    draw,
    encoder,
    expand,
    fine_tuned_shapes,
    pretrained_shapes,
    released,
    some_inputs,
)

LABELS = ("yes", "no", "red")
VOCABULARY = "\n".join((*SPECIAL, *(f"word{number}" for number in range(TINY.tokens - len(SPECIAL)))))


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def write(folder: Path, tensors: Mapping[str, object], name: str = "model_LXRT.pth", *, zipped: bool = True) -> Path:
    torch.save(collections.OrderedDict(tensors), folder / name, _use_new_zipfile_serialization=zipped)
    return folder / name


def answers(model: Model, batch: int = 6) -> Tensor:
    with torch.no_grad():
        return model.family.answer(model.module, some_inputs(model.config, batch))


def in_several_places(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As DataParallel around the inner encoder leaves the names of a fine-tuned model."""
    return {name.replace("lxrt_encoder.model.", "lxrt_encoder.model.module."): each for name, each in tensors.items()}


def compiled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As torch.compile leaves the names."""
    return {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}


def compiled_in_several_places(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As torch.compile of a DataParallel leaves the names."""
    return compiled(in_several_places(released(tensors)))


@pytest.fixture
def pretrained(tmp_path) -> Path:
    """A tiny release, its vocabulary beside it."""
    (tmp_path / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    return write(tmp_path, released(draw(pretrained_shapes(TINY))))


def test_every_parameter_of_the_released_size_is_accounted_for(tmp_path) -> None:
    shapes = pretrained_shapes(Sizes())
    found = account(write(tmp_path, released(expand(shapes))))
    assert found.encoder == 200_848_896
    assert found.answer_head == 15_785_756
    assert dict(found.aside) == {
        "vision side of the last cross layer": 7_087_872,
        "masked words": 622_650,
        "masked words: the word embeddings again": 23_440_896,
        "sentence and image match": 1_538,
        "masked objects": 3_705_040,
    }
    assert found.used + sum(found.aside.values()) == found.total == count(shapes) == 251_492_648
    with torch.device("meta"):
        theirs = LxmertForPreTraining(LxmertConfig()).state_dict()
        ours = LxmertForQuestionAnswering(LxmertConfig())
    assert found.total == sum(tensor.numel() for tensor in theirs.values())
    assert found.used + found.aside[LXMERT.dead_branch] == sum(tensor.numel() for tensor in ours.parameters())


@pytest.mark.slow
def test_a_release_of_the_real_size_is_read_and_answers_as_transformers_does(tmp_path) -> None:
    tensors = draw(pretrained_shapes(Sizes()))
    path = write(tmp_path, released(tensors))
    assert path.stat().st_size > 900_000_000
    assert account(path).total == 251_492_648
    model, weights = load_start(str(path), [str(number) for number in range(3129)], 0)
    whole = LxmertForQuestionAnswering(LxmertConfig(num_qa_labels=3129)).eval()
    theirs = {f"lxmert.{name.removeprefix('bert.')}": tensors[name] for name in tensors if name.startswith("bert.")}
    left = whole.load_state_dict(theirs | {name: weights[name] for name in weights if "answer" in name}, strict=True)
    assert not left.missing_keys
    inputs = some_inputs(model.config, 2)
    with torch.no_grad():
        assert torch.equal(answers(model, 2), whole(**inputs._asdict()).question_answering_score)


def test_the_names_are_those_of_transformers_pre_trained_model_one_to_one(tmp_path) -> None:
    with torch.device("meta"):
        theirs = {name: tensor.shape for name, tensor in LxmertForPreTraining(CONFIG).state_dict().items()}
    original = read_original(write(tmp_path, expand(pretrained_shapes(TINY))))
    aside = {name for names in LXMERT.aside.values() for name in names}
    assert set(original.weights) | aside == set(theirs)
    assert not set(original.weights) & aside
    assert {name: tensor.shape for name, tensor in original.weights.items()} == {
        name: shape for name, shape in theirs.items() if name not in aside
    }
    assert {
        field: getattr(original.config, field) for field in ("num_attention_heads", "num_qa_labels", "l_layers")
    } == {field: getattr(CONFIG, field) for field in ("num_attention_heads", "num_qa_labels", "l_layers")}


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "before torch 1.6"])
@pytest.mark.parametrize("dress", [dict, released], ids=["one GPU", "several GPUs"])
def test_from_transformers_to_the_authors_names_and_back_is_identity(dress, zipped, tmp_path) -> None:
    torch.manual_seed(3)
    theirs = LxmertForPreTraining(CONFIG).state_dict()
    written = {name.replace("lxmert.", "bert.", 1): tensor for name, tensor in theirs.items()}
    original = read_original(write(tmp_path, dress(written), zipped=zipped))
    assert original.weights
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in original.weights.items())
    assert theirs.keys() - original.weights.keys() == {name for names in LXMERT.aside.values() for name in names}


@pytest.mark.parametrize("dress", [dict, in_several_places, released, compiled, compiled_in_several_places])
def test_a_fine_tuned_model_answers_as_transformers_model_with_the_same_tensors(dress, tmp_path) -> None:
    tensors = draw(fine_tuned_shapes(TINY))
    model = load_model(write(tmp_path, dress(tensors), "BEST.pth"))
    whole = LxmertForQuestionAnswering(CONFIG).eval()
    whole.load_state_dict(
        {
            name.replace("lxrt_encoder.model.bert.", "lxmert.").replace("logit_fc", "answer_head.logit_fc"): tensor
            for name, tensor in tensors.items()
        }
    )
    with torch.no_grad():
        expected = whole(**some_inputs(CONFIG, 6)._asdict()).question_answering_score
    assert torch.equal(answers(model), expected)
    assert expected.shape == (6, TINY.answers)
    assert float(expected.std()) > 0
    found = account(tmp_path / "BEST.pth")
    assert found.total == count(fine_tuned_shapes(TINY)) == model.whole
    assert found.used == model.live


def test_a_start_from_the_release_is_the_start_from_a_folder_with_the_same_tensors(pretrained, tmp_path) -> None:
    whole = LxmertForPreTraining(CONFIG)
    tensors = {name.removeprefix("module."): tensor for name, tensor in torch.load(pretrained).items()}
    whole.load_state_dict({name.replace("bert.", "lxmert.", 1): tensor for name, tensor in tensors.items()})
    whole.save_pretrained(tmp_path / "folder")
    model, weights = load_start(str(pretrained), LABELS, 5)
    other, theirs = load_start(str(tmp_path / "folder"), LABELS, 5)
    assert weights.keys() == theirs.keys() == model.weights.keys()
    assert all(torch.equal(weights[name], theirs[name]) for name in weights)
    assert torch.equal(answers(model), answers(other))
    assert (model.live, model.whole) == (other.live, other.whole)
    assert not any(lxmert.FAMILY.is_dead(name, model.config) for name in weights)


def test_a_start_may_be_a_fine_tuned_model_or_an_encoder_alone(tmp_path) -> None:
    fine_tuned = write(tmp_path, draw(fine_tuned_shapes(TINY)), "BEST.pth")
    alone = write(tmp_path, draw({f"bert.{name}": shape for name, shape in encoder(TINY).items()}), "alone_LXRT.pth")
    first, second = (load_start(str(path), LABELS, 0)[1] for path in (fine_tuned, alone))
    assert all(torch.equal(first[name], second[name]) for name in first if name.startswith("answer_head."))
    assert account(alone).answer_head == 0
    complain(lambda: load_model(alone), alone, "has no answer head")


def test_the_start_does_not_hang_on_the_file(pretrained) -> None:
    _, weights = load_start(str(pretrained), LABELS, 0)
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    pretrained.write_bytes(bytes(pretrained.stat().st_size))
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_what_it_reads_of_a_region_is_known_before_it_is_loaded(pretrained, toy_start) -> None:
    assert feature_size(str(pretrained)) == TINY.features
    assert feature_size(str(toy_start)) == FEATURES
    complain(lambda: feature_size(str(pretrained.with_name("absent.pth"))), "absent.pth", "no such file")


def test_half_precision_is_read_as_what_it_says(tmp_path) -> None:
    tensors = {name: tensor.half() for name, tensor in draw(pretrained_shapes(TINY)).items()}
    original = read_original(write(tmp_path, tensors))
    assert {tensor.dtype for tensor in original.weights.values()} == {torch.float32}
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(original.weights[f"lxmert.{word}"], tensors[f"bert.{word}"].float())


def test_reading_leaves_the_global_randomness_alone(pretrained) -> None:
    before = torch.get_rng_state()
    load_start(str(pretrained), LABELS, 0)
    account(pretrained)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", list(fine_tuned_shapes(TINY))[::5])
def test_a_missing_tensor_is_named(name, tmp_path) -> None:
    tensors = expand(fine_tuned_shapes(TINY))
    del tensors[name]
    path = write(tmp_path, tensors)
    for call in (account, load_model, lambda where: load_start(str(where), LABELS, 0)):
        complain(lambda call=call: call(path), path, "lacks 1 tensors", name.removeprefix("lxrt_encoder.model."))


def test_a_missing_layer_is_named(tmp_path) -> None:
    tensors = expand({name: shape for name, shape in pretrained_shapes(TINY).items() if ".layer.0." not in name})
    complain(lambda: account(write(tmp_path, tensors)), "lacks", "bert.encoder.layer.0.")


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.position_ids",
        "module.bert.x_layers.0.extra",
        "cls.predictions.other",
        "head.weight",
        "lxmert.x",
    ],
)
def test_an_unknown_tensor_is_named(name, tmp_path) -> None:
    tensors = {**expand(pretrained_shapes(TINY)), name: torch.zeros(3)}
    complain(lambda: account(write(tmp_path, tensors)), tmp_path, f"1 tensors that are not LXMERT's ({name} ")


def test_the_same_tensor_under_two_names_is_refused(tmp_path) -> None:
    tensors = expand(pretrained_shapes(TINY))
    tensors["module.bert.pooler.dense.bias"] = torch.ones(TINY.hidden)
    complain(
        lambda: account(write(tmp_path, tensors)), "as bert.pooler.dense.bias and as module.bert.pooler.dense.bias"
    )


@pytest.mark.parametrize("name", ["bert.pooler.dense.bias", "answer_head.logit_fc.2.weight"])
def test_a_tensor_of_another_shape_is_named(name, tmp_path) -> None:
    tensors = {**expand(pretrained_shapes(TINY)), name: torch.zeros(3)}
    complain(lambda: account(write(tmp_path, tensors)), name, "[3]")


def test_a_width_whose_heads_cannot_be_told_is_refused(tmp_path) -> None:
    tensors = expand(pretrained_shapes(Sizes(**{**vars(TINY), "hidden": 48})))
    complain(lambda: account(write(tmp_path, tensors)), "hidden size 48", "config.json")


class Bomb:
    """What reading it as any object would do: leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(zipped, tmp_path) -> None:
    path = write(tmp_path, {**expand(pretrained_shapes(TINY)), "extra": Bomb(tmp_path / "trace")}, zipped=zipped)
    for call in (account, load_model, lambda where: load_start(str(where), LABELS, 0)):
        complain(lambda call=call: call(path), path, "holds other objects than tensors", "state_dict")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epoch", 3, 'under "epoch" expected a dense tensor of floats, got int'),
        ("state_dict", {"bert.pooler.dense.bias": torch.zeros(3)}, "got dict"),
        ("bert.steps", torch.arange(3), "got a tensor of int64"),
        ("bert.steps", torch.eye(3).to_sparse(), "(sparse_coo)"),
        (7, torch.zeros(3), "under 7"),
    ],
)
def test_what_is_no_weight_is_named(name, value, said, tmp_path) -> None:
    complain(lambda: account(write(tmp_path, {name: value})), tmp_path, said)


@pytest.mark.parametrize("value", [torch.zeros(3), [torch.zeros(3)], {}, 1])
def test_what_is_no_state_dict_is_refused(value, tmp_path) -> None:
    torch.save(value, tmp_path / "x.pth")
    complain(lambda: account(tmp_path / "x.pth"), tmp_path, "expected tensors by name")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.3, 0.999])
def test_a_file_that_was_cut_off_is_refused(share, zipped, tmp_path) -> None:
    path = write(tmp_path, draw(pretrained_shapes(TINY)), zipped=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    complain(lambda: account(path), path, "copy it again")


@pytest.mark.parametrize("content", [b"no checkpoint", b"\x80\x02", b"PK\x03\x04", b"\x00" * 1000, b"(lp0\n", b"."])
def test_a_file_of_anything_else_is_refused(content, tmp_path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    complain(lambda: account(tmp_path / "x.pth"), tmp_path, "copy it again")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_path_that_is_no_file_is_refused(make, tmp_path) -> None:
    path = tmp_path / "model_LXRT.pth"
    make(path)
    assert is_original(str(path))
    for call in (account, load_model, lambda where: load_start(str(where), LABELS, 0)):
        complain(lambda call=call: call(path), path, "no such file")


@pytest.mark.parametrize("shape", [(), (3,), (0, 128), (40, 0), (2, 2, 2)])
@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings.weight", "bert.encoder.visn_fc.box_fc.weight"])
def test_a_tensor_that_no_size_can_be_read_off_is_named(name, shape, tmp_path) -> None:
    tensors = {**draw(pretrained_shapes(TINY)), name: torch.zeros(shape)}
    complain(lambda: account(write(tmp_path, tensors)), tmp_path, name, list(shape), "expected")


def test_its_vocabulary_is_beside_it_or_given(pretrained, tmp_path) -> None:
    assert load_vocabulary(str(pretrained)).tokens == tuple(VOCABULARY.split())
    given = tmp_path / "given.txt"
    (tmp_path / "vocab.txt").rename(given)
    assert load_vocabulary(str(pretrained), given).tokens == tuple(VOCABULARY.split())
    complain(lambda: load_vocabulary(str(pretrained)), "vocab.txt", "model.vocabulary", "30,522", "bert-base-uncased")


def test_a_vocabulary_given_where_none_is_beside_is_that_of_its_pre_training(pretrained, tmp_path) -> None:
    plain = load_start(str(pretrained), LABELS, 0)[1]
    (tmp_path / "vocab.txt").rename(tmp_path / "given.txt")
    given = load_start(str(pretrained), LABELS, 0, vocabulary=tmp_path / "given.txt")[1]
    assert all(torch.equal(plain[name], given[name]) for name in plain)
    (tmp_path / "long.txt").write_text(f"{VOCABULARY}\nmore", encoding="utf-8")
    complain(
        lambda: load_start(str(pretrained), LABELS, 0, vocabulary=tmp_path / "long.txt"),
        "long.txt",
        f"has {TINY.tokens + 1} tokens, but {pretrained} embeds {TINY.tokens}",
    )


def test_the_error_is_of_models(tmp_path) -> None:
    with pytest.raises(ModelError):
        account(tmp_path / "absent.pth")
