"""Laws of another vocabulary: a token keeps its embedding whatever its number, and a new one is drawn by the seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.split import Inputs
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.errors import DataError, ModelError
from lxcompress.models.checkpoints import Model
from lxcompress.models.lxmert import ANATOMY
from lxcompress.models.source import MINI
from lxcompress.models.start import load_start
from lxcompress.models.vocabulary import load_vocabulary, read_word_files
from tests.real import real

QUESTIONS = ("Is there a red cube?", "How many green spheres are left of the thing?", "What color is it?")


@pytest.fixture
def turned(tmp_path) -> Path:
    """The shipped vocabulary in another order, [PAD] being first as it must."""
    path = tmp_path / "turned.txt"
    first, *rest = shipped_vocabulary()
    path.write_text("\n".join([first, *reversed(rest)]), encoding="utf-8")
    return path


@pytest.fixture
def other(tmp_path) -> Path:
    """A vocabulary with half of the shipped one's tokens and some of its own."""
    path = tmp_path / "other.txt"
    kept = [token for token in shipped_vocabulary()[::2] if token not in SPECIAL]
    path.write_text("\n".join([*SPECIAL, "zebra", *kept, *(f"new{number}" for number in range(400))]), encoding="utf-8")
    return path


def answers(model: Model, vocabulary: tuple[str, ...]) -> torch.Tensor:
    ids = torch.as_tensor(tokenize(QUESTIONS, vocabulary, 20)).long()
    features = torch.rand(len(ids), 3, FEATURES, generator=torch.Generator().manual_seed(0))
    inputs = Inputs(ids, (ids != 0).long(), features, features[..., :4], torch.ones(len(ids), 3, dtype=torch.int64))
    with torch.no_grad():
        return model.family.answer(model.module, inputs)


@pytest.mark.parametrize("start", ["toy", "mini"])
def test_with_the_same_vocabulary_nothing_changes(start, toy_start, tmp_path) -> None:
    where = str(MINI) if start == "mini" else str(toy_start)
    path = tmp_path / "same.txt"
    path.write_text("\r\n".join(shipped_vocabulary()), encoding="utf-8")
    plain, same = load_start(where, ANSWERS, 3), load_start(where, ANSWERS, 3, vocabulary=path)
    assert plain[1].keys() == same[1].keys()
    assert all(torch.equal(plain[1][name], same[1][name]) for name in plain[1])
    assert plain[0].config.to_dict() == same[0].config.to_dict()


def test_the_numbers_of_the_tokens_do_not_matter(turned) -> None:
    plain, _ = load_start(str(MINI), ANSWERS, 0)
    moved, _ = load_start(str(MINI), ANSWERS, 0, vocabulary=turned)
    own, given = load_vocabulary(str(MINI)), load_vocabulary(str(MINI), turned)
    assert own != given
    assert torch.equal(answers(plain, own), answers(moved, given))
    assert not torch.equal(answers(plain, own), answers(moved, own))


def test_known_tokens_keep_their_embeddings_and_new_ones_are_drawn(other) -> None:
    plain, before = load_start(str(MINI), ANSWERS, 0)
    moved, after = load_start(str(MINI), ANSWERS, 0, vocabulary=other)
    own, given = load_vocabulary(str(MINI)), load_vocabulary(str(MINI), other)
    assert moved.config.vocab_size == len(given) == len(after[ANATOMY.words])
    assert moved.live - plain.live == (len(given) - len(own)) * plain.config.hidden_size
    fresh = [row for row, token in enumerate(given) if token not in own]
    assert len(fresh) == 401
    for row, token in enumerate(given):
        if token in own:
            assert torch.equal(after[ANATOMY.words][row], before[ANATOMY.words][own.index(token)])
    assert float(after[ANATOMY.words][fresh].std()) == pytest.approx(moved.config.initializer_range, rel=0.02)
    assert abs(float(after[ANATOMY.words][fresh].mean())) < 0.001
    assert all(torch.equal(before[name], after[name]) for name in before if name != ANATOMY.words)
    assert answers(moved, given).shape == (3, len(ANSWERS))


def test_new_tokens_are_of_the_seed_alone(toy_start, other) -> None:
    before = torch.get_rng_state()
    first, again, another = (
        load_start(str(toy_start), ANSWERS, seed, vocabulary=other)[1][ANATOMY.words] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, another)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_vocabulary_that_is_none_or_absent_is_refused(toy_start, tmp_path) -> None:
    (tmp_path / "bad.txt").write_text("red\n", encoding="utf-8")
    for name in ("bad.txt", "absent.txt"):
        for call in (
            lambda path: load_start(str(toy_start), ANSWERS, 0, vocabulary=path),
            lambda path: load_vocabulary(str(toy_start), path),
        ):
            with pytest.raises(DataError, match=name):
                call(tmp_path / name)


def test_a_start_whose_own_vocabulary_is_not_its_own_is_refused(toy_start, other, tmp_path) -> None:
    folder = tmp_path / "start"
    folder.mkdir()
    for file in toy_start.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "vocab.txt").write_bytes(other.read_bytes())
    with pytest.raises(ModelError, match=r"tokens, but .* embeds"):
        load_start(str(folder), ANSWERS, 0, vocabulary=toy_start / "vocab.txt")


def test_the_mini_reads_real_questions_with_berts_vocabulary() -> None:
    bert = real("vocab", "vocab.txt")
    model, _ = load_start(str(MINI), ANSWERS, 0, vocabulary=bert)
    vocabulary = load_vocabulary(str(MINI), bert)
    assert model.config.vocab_size == len(vocabulary) == 30_522
    shared = set(vocabulary) & set(shipped_vocabulary())
    assert len(shared) > 100
    asked = "What is the unusual stuffed zebra's name?"
    ids = tokenize([asked], vocabulary, 20)[0].tolist()
    assert vocabulary.index("[UNK]") not in ids
    assert answers(model, vocabulary).shape == (3, len(ANSWERS))


@pytest.mark.parametrize(
    "text", ["{", '{"a": 1, "a": 2}', "[" * 100_000, b"\xff"], ids=("cut", "twice", "deep", "bytes")
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_broken_file_of_words_is_not_copied(name, text, tmp_path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    (tmp_path / name).write_text('{"do_lower_case": 3}', encoding="utf-8")
    assert read_word_files(str(tmp_path)) == {"vocab.txt": "[PAD]\n", name: '{"do_lower_case": 3}'}
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ModelError, match=r"a file of its vocabulary cannot be read"):
        read_word_files(str(tmp_path))
