"""Laws of what is exported and pruned: a folder, a .pth file and a model of the hub, with its words or without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lxcompress.data.objects import ANSWERS
from lxcompress.data.tokens import SPECIAL, WORD_FILES, Vocabulary, shipped_vocabulary
from lxcompress.export.artifact import default_out, export, open_source
from lxcompress.models.checkpoints import load_model, load_start, load_vocabulary, save_model
from lxcompress.study.prune import prune_model
from tests.complain import complain
from tests.models.original import TINY, draw, fine_tuned_shapes

FORMATS = ("onnx", "bitmask", "transformers")


@pytest.fixture
def pth(tmp_path) -> Path:
    """A fine-tuned model of LXMERT's authors, and a vocabulary beside it."""
    folder = tmp_path / "authors"
    folder.mkdir()
    torch.save(draw(fine_tuned_shapes(TINY)), folder / "BEST.pth")
    words = "\n".join((*SPECIAL, *(f"word{number}" for number in range(TINY.tokens - len(SPECIAL)))))
    (folder / "vocab.txt").write_text(words, encoding="utf-8")
    return folder / "BEST.pth"


@pytest.fixture
def fine_tuned(toy_start, tmp_path) -> Path:
    model, weights = load_start(str(toy_start), ANSWERS, 0)
    cased = Vocabulary(shipped_vocabulary().tokens, do_lower_case=False)
    save_model(tmp_path / "model", model, weights, cased)
    return tmp_path / "model"


@pytest.mark.parametrize("has_words", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_a_pth_file_is_exported(format, has_words, pth, tmp_path) -> None:
    if not has_words:
        (pth.parent / "vocab.txt").unlink()
    made = export(open_source(pth), tmp_path / "out", format=format)
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
    made = export(open_source(Path(start)), tmp_path / "out", format="transformers")
    assert made.answers == len(ANSWERS)
    assert default_out(Path(start), "onnx") == Path("some-model-onnx")
    prune_model(start, tmp_path / "pruned", sparsity=0.5)
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
    prune_model(str(fine_tuned), tmp_path / "pruned", sparsity=0.5)
    for folder in (fine_tuned, tmp_path / "pruned"):
        load_model(folder)
        if words in ("vocab.txt", "tokenizer.json"):
            assert load_vocabulary(str(folder)) == expected
        else:
            complain(lambda folder=folder: load_vocabulary(str(folder)))
    for name in WORD_FILES:
        assert (fine_tuned / name).is_file() == (tmp_path / "pruned" / name).is_file()
    made = export(open_source(tmp_path / "pruned"), tmp_path / "out", format="bitmask")
    assert made.parity is not None


@pytest.mark.parametrize("name", ["BEST.pth", "hub:", "hub:x", "modle"])
def test_what_is_not_there_is_refused_before_any_work(name, fine_tuned, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    complain(lambda: open_source(Path(name)), name)
