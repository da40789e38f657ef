"""Laws of what is exported and pruned: a folder, a .pth file and a model of the hub, with its words or without."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import WORD_FILES, Vocabulary, shipped_vocabulary
from lxcompress.errors import LxError
from lxcompress.exporters.artifact import default_out, digest_source, export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.exporters.twins import TwinRequest, find_fresh
from lxcompress.models.checkpoints import load_model, save_model
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary
from lxcompress.study.options import PruneOptions
from lxcompress.study.prune import prune_model
from tests.complain import complain
from tests.export.small import WORDS, save_small
from tests.models.original import TINY, draw, fine_tuned_shapes

SMALLEST = replace(TINY, language=1, cross=1)
"""One layer of each stack."""


@pytest.fixture
def pth(tmp_path) -> Path:
    """A fine-tuned model of LXMERT's authors, and a vocabulary beside it."""
    folder = tmp_path / "authors"
    folder.mkdir()
    torch.save(draw(fine_tuned_shapes(SMALLEST)), folder / "BEST.pth")
    words = "\n".join((*SPECIAL, *(f"word{number}" for number in range(SMALLEST.tokens - len(SPECIAL)))))
    (folder / "vocab.txt").write_text(words, encoding="utf-8")
    return folder / "BEST.pth"


@pytest.fixture
def fine_tuned(toy_start, tmp_path) -> Path:
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    cased = Vocabulary(shipped_vocabulary().tokens, do_lower_case=False)
    save_model(tmp_path / "model", model, weights, cased)
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("format", "has_words"),
    [
        pytest.param("onnx", True, marks=pytest.mark.slow),
        ("bitmask", True),
        ("bitmask", False),
        ("transformers", True),
        ("transformers", False),
    ],
)
def test_a_pth_file_is_exported(format, has_words, pth, tmp_path) -> None:
    if not has_words:
        (pth.parent / "vocab.txt").unlink()
    made = export(open_source(pth), tmp_path / "out", ExportOptions(format))
    assert made.parity is not None
    assert made.answers == TINY.answers
    assert (tmp_path / "out" / "config.json").is_file()
    assert (tmp_path / "out" / "vocab.txt").is_file() == has_words
    assert default_out(pth, format) == pth.parent / f"BEST-{format}"
    if format != "onnx":
        ours, theirs = load_model(tmp_path / "out"), load_model(pth)
        assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)


@pytest.mark.parametrize("start", ["hub:some-one/some-model", "some-one/some-model"])
def test_a_model_of_the_hubs_cache_is_exported_and_pruned(start, fine_tuned, tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    own = tmp_path / "hub" / "models--some-one--some-model"
    shutil.copytree(fine_tuned, own / "snapshots" / ("0" * 40))
    (own / "refs").mkdir()
    (own / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    made = export(open_source(Path(start)), tmp_path / "out", ExportOptions("transformers"))
    assert made.answers == len(ANSWERS)
    assert default_out(Path(start), "onnx") == Path("some-model-onnx")
    prune_model(start, tmp_path / "pruned", PruneOptions(sparsity=0.5))
    for folder in (tmp_path / "out", tmp_path / "pruned"):
        assert load_vocabulary(str(folder)) == load_vocabulary(str(fine_tuned))
    complain(lambda: open_source(Path("hub:some-one/other-model")), "hub:some-one/other-model", "HF_HUB_OFFLINE")


@pytest.mark.parametrize("words", ["vocab.txt", "tokenizer.json", "none", "unreadable"])
def test_prune_needs_no_words_and_hands_on_those_that_are_there(words, fine_tuned, tmp_path) -> None:
    from transformers import BertTokenizer

    expected = load_vocabulary(str(fine_tuned))
    tokenizer = BertTokenizer.from_pretrained(fine_tuned)
    if words != "vocab.txt":
        (fine_tuned / "vocab.txt").unlink()
    if words == "none":
        (fine_tuned / "tokenizer_config.json").unlink()
    if words == "tokenizer.json":
        tokenizer.save_pretrained(fine_tuned)
    if words == "unreadable":
        (fine_tuned / "tokenizer.json").write_text('{"model": {"type": "BPE"}}', encoding="utf-8")
    prune_model(str(fine_tuned), tmp_path / "pruned", PruneOptions(sparsity=0.5))
    for folder in (fine_tuned, tmp_path / "pruned"):
        load_model(folder)
        if words in ("vocab.txt", "tokenizer.json"):
            assert load_vocabulary(str(folder)) == expected
        else:
            complain(lambda folder=folder: load_vocabulary(str(folder)))
    for name in WORD_FILES:
        assert (fine_tuned / name).is_file() == (tmp_path / "pruned" / name).is_file()
    made = export(open_source(tmp_path / "pruned"), tmp_path / "out", ExportOptions("bitmask"))
    assert made.parity is not None


@pytest.mark.parametrize("name", ["BEST.pth", "hub:", "hub:x", "modle"])
def test_what_is_not_there_is_refused_before_any_work(name, fine_tuned, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    complain(lambda: open_source(Path(name)), name)


def as_one_file(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def as_shards(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """Two files of other names than transformers', which the index names."""
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"part-a.safetensors": names[::2], "part-b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
    places = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return folder


def as_pickle(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


STORED = (as_one_file, as_shards, as_pickle)


def stored(folder: Path, kind: torch.dtype, save: Callable[[Path, dict[str, torch.Tensor]], Path]) -> Path:
    save_small(folder)
    return save(folder, {name: each.to(kind) for name, each in load_file(folder / "model.safetensors").items()})


def spoken(folder: Path, out: Path, precision: str, format: str = "transformers") -> list[str]:
    """What is said of types, by the command and in the record."""
    said = CliRunner().invoke(
        app, ["export", str(folder), "--format", format, "--precision", precision, "--out", str(out)]
    )
    assert said.exit_code == 0, said.output
    notes = [
        note for note in json.loads((out / "artifact.json").read_text("utf-8"))["notes"] if "stores weights" in note
    ]
    assert all(note in " ".join(said.output.split()) for note in notes)
    return notes


@pytest.mark.parametrize("save", STORED)
@pytest.mark.parametrize(("kind", "name"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16"), (torch.float64, "fp64")])
def test_weights_that_are_stored_in_another_type_than_the_file_are_said_to_be(tmp_path, kind, name, save) -> None:
    folder = stored(tmp_path / "model", kind, save)
    note = f"the source stores weights in {name}; this file holds them in fp32"
    assert spoken(folder, tmp_path / "out", "fp32") == [note]


def test_nothing_is_said_where_the_types_are_the_same_or_int8_is_asked_for(tmp_path) -> None:
    folder = stored(tmp_path / "half", torch.float16, as_one_file)
    assert spoken(folder, tmp_path / "same", "fp16", "bitmask") == []
    assert spoken(folder, tmp_path / "int8", "int8", "bitmask") == []
    assert spoken(save_small(tmp_path / "whole"), tmp_path / "fp16", "fp16", "bitmask") == []
    packed = "the source stores weights in fp16; this file holds them in fp32"
    assert spoken(tmp_path / "same", tmp_path / "again", "fp32") == [packed]


def test_the_types_of_a_pth_file_are_said(pth, tmp_path) -> None:
    weights = {name: each.bfloat16() for name, each in torch.load(pth, weights_only=True).items()}
    torch.save(weights, pth)
    note = "the source stores weights in bf16; this file holds them in fp32"
    assert spoken(pth, tmp_path / "out", "fp32") == [note]


def test_a_ticket_of_a_model_in_another_type_is_in_fp32_and_prune_says_so(tmp_path) -> None:
    folder = stored(tmp_path / "model", torch.bfloat16, as_shards)
    said = CliRunner().invoke(app, ["prune", str(folder), "--sparsity", "0.5", "--out", str(tmp_path / "ticket")])
    assert said.exit_code == 0, said.output
    assert "bf16 in the model, fp32 in the ticket" in " ".join(said.output.split())
    assert {each.dtype for each in load_file(tmp_path / "ticket" / "model.safetensors").values()} == {torch.float32}
    assert spoken(tmp_path / "ticket", tmp_path / "out", "fp32") == []


@pytest.mark.parametrize("save", STORED)
def test_a_twin_is_stale_when_any_file_of_its_source_has_changed(tmp_path, save) -> None:
    """Its words too: the same weights answer otherwise with another vocabulary."""
    folder = stored(tmp_path / "model", torch.float32, save)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    for name in set(WORD_FILES) - {"vocab.txt"}:
        (folder / name).write_text("{}", encoding="utf-8")
    wanted = TwinRequest("dense", folder, "transformers", "fp32", tmp_path / "out")
    before = digest_source(folder)
    for path in sorted(folder.iterdir()):
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        assert digest_source(folder) != before, path.name
        path.write_bytes(kept)
    assert digest_source(folder) == before
    for name in set(WORD_FILES) - {"vocab.txt"}:
        (folder / name).unlink()
    export(open_source(folder), wanted.out, ExportOptions(wanted.format))
    assert find_fresh(wanted, digest_source(folder)) is not None
    words = (folder / "vocab.txt").read_text("utf-8")
    (folder / "vocab.txt").write_text(words.replace("word1\n", "other\n"), encoding="utf-8")
    assert find_fresh(wanted, digest_source(folder)) is None


def test_the_words_beside_a_pth_file_are_of_its_digest(pth) -> None:
    before = digest_source(pth)
    (pth.parent / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    assert digest_source(pth) != before


ASKED = {
    "export": ["export", "--onnx"],
    "twins": ["export", "--twins"],
    "prune": ["prune", "--sparsity", "0.5", "--out", "OUT"],
    "bench": ["bench"],
}
MISTAKEN = [
    *((name, "run/artifacts/one", "exported from") for name in ("export", "twins", "prune")),
    *((name, "run/artifacts/one/model.onnx", "is a file") for name in ASKED),
    *((name, "run", "is the folder of a run") for name in ("export", "twins", "prune")),
    ("bench", "run", "run/artifacts/*"),
    ("bench", "run/artifacts", "run/artifacts/*"),
    ("bench", "run/seeds/0/dense", "lxcompress export"),
]


@pytest.mark.parametrize(("name", "given", "words"), MISTAKEN)
def test_one_thing_in_place_of_another_is_refused_with_what_to_give(name, given, words, tmp_path, monkeypatch) -> None:
    """No advice is to copy weights into an artifact, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    dense, one = save_small(tmp_path / "run/seeds/0/dense"), tmp_path / "run/artifacts/one"
    export(open_source(dense), one, ExportOptions("bitmask"))
    (one / "bitmask.safetensors").rename(one / "model.onnx")
    (tmp_path / "run/recipe.yaml").write_text("name: run\n", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    command, *options = ASKED[name]
    said = CliRunner().invoke(app, [command, given, *options])
    assert isinstance(said.exception, LxError), (said.output, said.exception)
    sentence = str(said.exception)
    assert words in sentence
    assert len(sentence) < 500
    assert "\n" not in sentence
    assert "copy" not in sentence
    assert sorted(tmp_path.rglob("*")) == before
