"""Laws of a model folder: whatever it holds, loading it ends with its model or in one sentence, and runs no code."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    LxmertModel,
    ViltForImagesAndTextClassification,
    ViltForMaskedLM,
    VisualBertForVisualReasoning,
)

import lxcompress
from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.models.checkpoints import identify, load_model, save_model
from lxcompress.models.source import find_folder, is_hub_name
from lxcompress.models.start import load_start
from lxcompress.models.tensors import unwrap
from lxcompress.models.vocabulary import load_vocabulary
from tests.complain import complain
from tests.models.families import TOYS, Toy, family_params, save_start


@pytest.fixture(scope="module")
def whole(toy_start, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    save_model(folder, model, weights, shipped_vocabulary())
    return folder


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    """A fine-tuned toy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def change_config(folder: Path, **fields: object) -> None:
    tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**tree, **fields}), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refuse(folder: Path, *named: object) -> None:
    """Loading the folder, as a model and as a start, ends in one short sentence, soon."""
    for call in (lambda: load_model(folder), lambda: load_start(str(folder), ANSWERS, 0)):
        begun = time.process_time()
        said = complain(call, *named)
        assert time.process_time() - begun < 5
        assert len(said) < 500


NONSENSE = (0, -1, 10**9, 10**18, 1.5, "16", None, True, [1], {"a": 1}, float("nan"), float("inf"))
SIZES = ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings")


@pytest.mark.parametrize("value", NONSENSE, ids=str)
@pytest.mark.parametrize("name", [*SIZES, "visual_feat_dim", "visual_pos_dim", "type_vocab_size"])
def test_a_size_that_no_model_has_is_named(name, value, copied) -> None:
    change_config(copied, **{name: value})
    refuse(copied, name)


@pytest.mark.parametrize("value", [-1, 10**9, 2.0, "2", None, [1], float("nan")], ids=str)
@pytest.mark.parametrize("name", ["l_layers", "r_layers", "x_layers", "num_qa_labels"])
def test_a_count_that_no_model_has_is_named(name, value, copied) -> None:
    change_config(copied, **{name: value})
    refuse(copied, name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", 3),
        ("hidden_act", "no-such-activation"),
        ("hidden_act", 7),
        ("hidden_dropout_prob", float("nan")),
        ("hidden_dropout_prob", 2),
        ("attention_probs_dropout_prob", "0.1"),
        ("initializer_range", -1),
        ("pad_token_id", 10**6),
        ("pad_token_id", "x"),
        ("id2label", [1]),
        ("id2label", {"x": "yes"}),
        ("id2label", {"0": ["yes"]}),
        ("architectures", "LxmertModel"),
        ("architectures", [1]),
        ("images_per_question", 0),
        ("images_per_question", 10**9),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("x" * 5000, 1),
    ],
)
def test_a_value_of_another_kind_is_named_or_does_not_matter(field, value, copied) -> None:
    change_config(copied, **{field: value})
    if len(field) > 1000:
        load_model(copied)
    else:
        refuse(copied, field)


@pytest.mark.parametrize(
    "name", ["__class__", "__dict__", "to_dict", "to_json_string", "_attn_implementation", "dtype", "return_dict"]
)
@pytest.mark.parametrize("value", ["evil", 5, None, {"a": [1]}], ids=str)
def test_a_field_that_is_none_of_the_models_changes_nothing(name, value, copied, whole) -> None:
    change_config(copied, **{name: value})
    model, expected = load_model(copied), load_model(whole)
    assert type(model.config) is type(expected.config)
    assert model.config.to_json_string() == expected.config.to_json_string()


@pytest.mark.parametrize(
    "text", ["7", "[]", "null", '"x"', "{", "", "[" * 10_000, '{"a":1,"a":2}', "\x00", "{}", "9" * 9000]
)
def test_a_config_that_is_no_object_is_one_sentence(text, copied) -> None:
    (copied / "config.json").write_text(text, encoding="utf-8")
    refuse(copied, "config.json")


@pytest.mark.parametrize("vocabulary", [10**7])
def test_a_model_beyond_memory_is_refused_before_any_is_taken(vocabulary, copied) -> None:
    change_config(copied, hidden_size=65_536, vocab_size=vocabulary, num_attention_heads=64)
    refuse(copied, "GB")


@pytest.mark.parametrize("layers", [{"l_layers": 5}, {"x_layers": 1}, {"l_layers": 0}])
def test_a_config_of_another_depth_is_refused(layers, copied) -> None:
    change_config(copied, **layers)
    refuse(copied, "tensors")


EVIL = (
    'open({path!r}, "w").write("x")\nfrom transformers import LxmertConfig\nclass EvilConfig(LxmertConfig):\n    pass\n'
)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"]
)
def test_code_of_a_folder_is_never_run(name, nested, copied, tmp_path, monkeypatch) -> None:
    mark = tmp_path / "executed"
    (copied / "evil.py").write_text(EVIL.format(path=str(mark)), encoding="utf-8")
    own = {"auto_map": {"AutoConfig": "evil.EvilConfig", "AutoTokenizer": ["evil.EvilConfig", None]}}
    tree = json.loads((copied / name).read_text(encoding="utf-8")) if (copied / name).is_file() else {}
    (copied / name).write_text(json.dumps({**tree, **({"text_config": own} if nested else own)}), encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    refuse(copied, "auto_map", name, "never run")
    assert not mark.exists()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickled_file_is_never_run(protocol, copied, tmp_path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil(tmp_path / "executed")}, protocol=protocol))
    refuse(copied, "pytorch_model.bin", "other objects than tensors")
    torch.save({"a": Evil(tmp_path / "executed")}, copied / "pytorch_model.bin")
    refuse(copied, "pytorch_model.bin", "other objects than tensors")
    assert not (tmp_path / "executed").exists()


def test_an_old_file_of_tensors_is_read(copied, whole) -> None:
    tensors = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save({**tensors, "lxmert.embeddings.position_ids": torch.arange(64)}, copied / "pytorch_model.bin")
    model, expected = load_model(copied), load_model(whole)
    assert all(torch.equal(model.weights[name], expected.weights[name]) for name in expected.weights)


@pytest.mark.parametrize("wrap", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_what_wrappers_add_to_names_is_dropped(wrap, kind, copied, whole) -> None:
    tensors = {f"{wrap}{name}": tensor for name, tensor in load_file(copied / "model.safetensors").items()}
    (copied / "model.safetensors").unlink()
    if kind == "bin":
        torch.save(tensors, copied / "pytorch_model.bin")
    else:
        save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    model, expected = load_model(copied), load_model(whole)
    assert all(torch.equal(model.weights[name], expected.weights[name]) for name in expected.weights)
    assert load_start(str(copied), ANSWERS, 0)[1].keys() == expected.weights.keys()


def test_a_wrapper_in_the_middle_is_dropped_and_a_name_twice_is_refused(copied) -> None:
    assert unwrap("lxmert._orig_mod.encoder.module.layer.0.x") == "lxmert.encoder.layer.0.x"
    assert unwrap("a.LayerNorm.gamma") == "a.LayerNorm.weight"
    change_tensors(
        copied, lambda all: all.update({"module.lxmert.pooler.dense.bias": all["lxmert.pooler.dense.bias"] + 1})
    )
    refuse(copied, "lxmert.pooler.dense.bias", "module.lxmert.pooler.dense.bias")


@pytest.mark.parametrize("name", ["lxmert.pooler.dense.weight", "lxmert.embeddings.word_embeddings.weight"])
@pytest.mark.parametrize("shape", [(3,), (1, 1), (0, 16), (2, 2, 2), ()])
def test_a_tensor_of_another_shape_is_named_with_both(name, shape, copied) -> None:
    change_tensors(copied, lambda tensors: tensors.update({name: torch.zeros(shape)}))
    expected = list(load_file(copied / "model.safetensors")[name].shape)
    refuse(copied, name, list(shape), "expected", expected and "give")


def test_a_tensor_of_no_floats_is_named(copied) -> None:
    change_tensors(copied, lambda all: all.update({"lxmert.pooler.dense.bias": torch.zeros(16, dtype=torch.int8)}))
    refuse(copied, "lxmert.pooler.dense.bias", "int8")


INDEX: dict[str, tuple[object, str]] = {
    "missing shard": ({"weight_map": {"a": "absent.safetensors"}}, "absent.safetensors"),
    "parent": ({"weight_map": {"a": "../model.safetensors"}}, "../model.safetensors"),
    "absolute": ({"weight_map": {"a": "/etc/passwd"}}, "/etc/passwd"),
    "backslash": ({"weight_map": {"a": "..\\x.safetensors"}}, "x.safetensors"),
    "no map": ({}, "weight_map"),
    "empty": ({"weight_map": {}}, "weight_map"),
    "a list": ([1], "weight_map"),
    "numbers": ({"weight_map": {"a": 7}}, "7"),
    "long": ({"weight_map": {"a": "x" * 10_000}}, "xxx"),
    "null": ({"weight_map": None}, "weight_map"),
}


@pytest.mark.parametrize("name", INDEX)
def test_an_index_names_files_of_its_folder(name, copied) -> None:
    tree, named = INDEX[name]
    (copied / "model.safetensors").rename(copied.parent / "model.safetensors")
    (copied / "model.safetensors.index.json").write_text(json.dumps(tree), encoding="utf-8")
    refuse(copied, "model.safetensors.index.json", named)


def test_shards_are_read_together(copied, whole) -> None:
    tensors, weight_map = load_file(copied / "model.safetensors"), {}
    (copied / "model.safetensors").unlink()
    for index, part in enumerate((dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2]))):
        save_file(part, copied / f"part-{index}.safetensors", metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, f"part-{index}.safetensors")
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    model, expected = load_model(copied), load_model(whole)
    assert all(torch.equal(model.weights[name], expected.weights[name]) for name in expected.weights)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, 5000, -1])
def test_a_file_cut_off_is_one_sentence(cut, copied) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refuse(copied, "model.safetensors")


def test_a_header_that_promises_terabytes_is_one_sentence(copied) -> None:
    (copied / "model.safetensors").write_bytes((1 << 50).to_bytes(8, "little") + b"{}")
    refuse(copied, "model.safetensors")
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (copied / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refuse(copied, "model.safetensors")


def save_bare(toy: Toy, kind: type, folder: Path, **fields: object) -> Path:
    config = type(toy.config).from_dict({**toy.config.to_dict(), **fields})
    with torch.random.fork_rng(devices=()):
        kind(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(shipped_vocabulary()), encoding="utf-8")
    return folder


HEADLESS = {
    "bare lxmert": ("lxmert", LxmertModel, {}, "LxmertModel"),
    "masked words": ("vilt", ViltForMaskedLM, {}, "ViltForMaskedLM"),
    "two pictures": (
        "vilt",
        ViltForImagesAndTextClassification,
        {"num_images": 2, "modality_type_vocab_size": 3},
        "ViltForImagesAndTextClassification",
    ),
    "reasoning": ("visual_bert", VisualBertForVisualReasoning, {}, "VisualBertForVisualReasoning"),
}


@pytest.mark.parametrize("name", HEADLESS)
def test_a_model_without_an_answer_head_says_what_to_do_and_starts_a_study(name, tmp_path) -> None:
    family, kind, fields, named = HEADLESS[name]
    folder = save_bare(TOYS[family], kind, tmp_path / "model", **fields)
    complain(lambda: load_model(folder), named, "no answer head", "model.start")
    model, weights = load_start(str(folder), ("yes", "no"), 0)
    kept = load_file(folder / "model.safetensors")
    prefix = model.family.anatomy.encoder
    bare = "" if any(own.startswith(prefix) for own in kept) else prefix
    encoder = {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    assert encoder
    assert all(torch.equal(tensor, kept[name.removeprefix(bare)]) for name, tensor in encoder.items())


@pytest.mark.parametrize("names", [None, 2, 28, 40])
@pytest.mark.parametrize("family", family_params())
def test_the_answers_are_the_rows_of_the_head(family, names, tmp_path) -> None:
    """Whatever a config says of them: no names, too few, as many, too many."""
    start = save_start(TOYS[family], tmp_path / "start")
    model, weights = load_start(str(start), ANSWERS, 0)
    save_model(tmp_path / "model", model, weights, shipped_vocabulary())
    tree = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    for key in ("id2label", "label2id", "num_labels", "num_qa_labels"):
        tree.pop(key, None)
    if names is not None:
        tree["id2label"] = {str(index): f"a{index}" for index in range(names)}
        tree["label2id"] = {f"a{index}": index for index in range(names)}
    (tmp_path / "model" / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    loaded = load_model(tmp_path / "model")
    assert loaded.family.count_answers(loaded.config) == len(ANSWERS)
    config, adapter = identify(str(tmp_path / "model"))
    assert adapter.count_answers(config) == len(ANSWERS)
    assert all(torch.equal(loaded.weights[name], weights[name]) for name in loaded.weights)
    if names == len(ANSWERS):
        assert loaded.config.id2label[3] == "a3"


@pytest.mark.parametrize("family", family_params())
def test_a_folder_of_transformers_5_is_read_with_tokenizer_json_alone(family, tmp_path) -> None:
    from transformers import BertTokenizer

    start = save_start(TOYS[family], tmp_path / "start")
    expected = load_vocabulary(str(start))
    tokenizer = BertTokenizer.from_pretrained(start)
    (start / "vocab.txt").unlink()
    complain(lambda: load_vocabulary(str(start)), "tokenizer.json")
    tokenizer.save_pretrained(start)
    assert not (start / "vocab.txt").exists()
    assert load_vocabulary(str(start)) == expected


def test_a_mistyped_path_is_refused_at_once_and_names_its_neighbour(tmp_path, monkeypatch) -> None:
    (tmp_path / "runs" / "quick" / "dense").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lxcompress.models.source._ask_hub", lambda *_: pytest.fail("asked the hub"))
    for typed, near in {
        "runs/quik/dense": "runs/quick/dense",
        "runs/quick/dens": "runs/quick/dense",
        "rns/quick": "runs/quick",
        "runs/quikc": "runs/quick",
        "./runs/quik": "runs/quick",
        str(tmp_path / "runs" / "quik"): str(tmp_path / "runs" / "quick"),
        "model": "no such folder",
        "model/x": "no such folder",
        "~/x": "no such folder",
        "a/b/c": "no such folder",
        "runs/quick/": "config.json",
        "x\0y": "no such folder",
        "y" * 300: "no such folder",
        "hub:x": "not a name on the hub",
        "hub:../x": "not a name on the hub",
        "hub:a/b/c": "not a name on the hub",
    }.items():
        complain(lambda typed=typed: identify(typed), near)


def test_names_of_the_hub_are_told_from_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("hub:unc-nlp/lxmert-base-uncased")
    assert is_hub_name("unc-nlp/lxmert-base-uncased")
    (tmp_path / "unc-nlp" / "lxmert-base-uncased").mkdir(parents=True)
    assert not is_hub_name("unc-nlp/lxmert-base-uncased")
    assert is_hub_name("hub:unc-nlp/lxmert-base-uncased")


@pytest.mark.parametrize("name", ["hub:unc-nlp/lxmert-base-uncased", "unc-nlp/lxmert-base-uncased"])
def test_a_name_of_the_hub_says_at_once_that_there_is_no_network(name, tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.monotonic()
    complain(lambda: find_folder(name), "cannot be reached", "HF_HUB_OFFLINE")
    assert time.monotonic() - begun < 5


def test_no_module_lets_transformers_read_a_folder() -> None:
    """Its Auto classes and `from_pretrained` run code of folders that ask for it.

    The one exception are the image networks of `lxcompress features`, of which there are too many to build them all
    here: a folder that names code is refused before (tests/extractors/test_backbone.py), and every call forbids it.
    The weights of encoders are given as tensors, so that the call has no folder to read.
    """
    package = Path(lxcompress.__file__).parent
    images, encoders = package / "extractors/transformers_models.py", package / "models/encoder_weights.py"
    for path in (images, encoders):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        readers = [call for call in calls if ast.unparse(call.func).endswith("from_pretrained")]
        assert readers
        for call in readers:
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert (given["trust_remote_code"], given["local_files_only"]) == ("False", "True")
            assert path == images or ast.unparse(call.args[0]) == "None"
    for path in set(package.rglob("*.py")) - {images, encoders}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            is_reader = name in ("from_pretrained", "pipeline", "get_class_from_dynamic_module")
            assert not is_reader, f"{path} calls {name}"
            assert not (name.startswith("Auto") and hasattr(transformers, name)), f"{path} uses {name}"
