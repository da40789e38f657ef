"""Laws of tokens: ids are those of transformers' own BertTokenizer, whatever the text and the settings."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers.models import WordPiece
from transformers import BertTokenizer

from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import Vocabulary, format_vocabulary, read_vocabulary, shipped_vocabulary, tokenize
from lxcompress.errors import DataError
from lxcompress.recipe import DATA_KINDS
from tests.complain import complain
from tests.readers import write_vqa

ODD = (
    *("é", "É", "e\u0301", "İ", "ß", "ﬁ", "ǅ", "Σς", "ñandú", "Å", "кот", "ёж"),
    *("红色", "立方体red", "\u3400", "\U00020000", "한국어", "カタカナ", "ｆｕｌｌ"),
    *("😀", "👩‍👩‍👧", "🇩🇪", "\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060"),
    *(
        "\x00",
        "\x07",
        "\x1b[31m",
        "\x1c",
        "\x1d",
        "\x1e",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        "\x0b",
        "\x0c",
        "\r",
        "\n",
        "\t",
    ),
    *("گربه", "کتاب‌ها", "العَرَبِيَّة", "שָׁלוֹם", "ไทย", "हिन्दी"),
    *SPECIAL,
    *("[sep]", "[MASK]red", "##s", "red##s", "[ SEP ]", "x" * 101, "y" * 100, "cubes", "Cube", "RED", "café", "CAFÉ"),
    *("...", "don't", "a-b_c", "$5.00", "\ufffd", "\xa0", "\u3000", "１", "²", "½", "", " "),
)
PIECES = (
    *SPECIAL,
    *(
        "red",
        "Red",
        "cube",
        "Cube",
        "##s",
        "##e",
        "##d",
        "##é",
        "cafe",
        "café",
        "CAFÉ",
        "caf",
        "e",
        "é",
        "x",
        "##x",
        "y",
    ),
    *(
        "红",
        "色",
        "立",
        "##方",
        "😀",
        "گ",
        "##ر",
        "کتاب",
        "##ها",
        "\u2028",
        "\x85",
        "a\x0c",
        "b\x1c",
        "##\x1d",
        "red",
        ".",
    ),
    *("?", "'", "don", "t", "##t", "ß", "ss", "i", "##̇", "σ", "##ς", "кот", "[sep]", "d\u3000"),
)
SETTINGS = (
    {},
    {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True},
    {"strip_accents": False},
    {"tokenize_chinese_chars": False},
    {"do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": None},
)


def odd_texts(count: int) -> list[str]:
    draw = random.Random(13)
    texts = []
    for _ in range(count):
        words = [draw.choice(ODD) for _ in range(draw.randrange(1, 9))]
        texts.append(draw.choice(("", " ", "  ")).join(words))
        letters = chr(
            draw.choice((draw.randrange(0x20, 0x7F), draw.randrange(0xD800), draw.randrange(0xE000, 0x30000)))
        )
        texts[-1] += letters
    return texts


def their_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    return BertTokenizer.from_pretrained(folder)(texts).input_ids


def our_ids(vocabulary: Vocabulary, texts: list[str]) -> list[list[int]]:
    # One at a time, as [PAD] written out in a text has the id of padding.
    return [tokenize([text], vocabulary, 10_000)[0].tolist() for text in texts]


def save(folder: Path, settings: dict, *, kind: str, tokens: tuple[str, ...] = PIECES) -> Path:
    """A folder with the tokens and settings, in the files of that kind."""
    folder.mkdir()
    (folder / "vocab.txt").write_bytes("\n".join(tokens).encode())
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
    if kind == "vocab.txt":
        return folder
    made = folder.with_name(f"{folder.name}-made")
    BertTokenizer.from_pretrained(folder).save_pretrained(made)
    assert (made / "tokenizer.json").is_file()
    assert not (made / "vocab.txt").is_file()
    if kind == "both":
        shutil.copy(folder / "vocab.txt", made)
    return made


@pytest.mark.parametrize("kind", ["vocab.txt", "tokenizer.json", "both"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_ids_are_transformers_own(settings, kind, tmp_path) -> None:
    folder, texts = save(tmp_path / "words", settings, kind=kind), odd_texts(150)
    vocabulary = read_vocabulary(folder)
    expected = their_ids(folder, texts)
    assert our_ids(vocabulary, texts) == expected
    assert len({tuple(ids) for ids in expected}) > 80
    for name, text in format_vocabulary(vocabulary).items():
        (tmp_path / "back").mkdir(exist_ok=True)
        (tmp_path / "back" / name).write_text(text, encoding="utf-8", newline="")
    again = read_vocabulary(tmp_path / "back")
    assert again == vocabulary
    assert their_ids(tmp_path / "back", texts) == expected


def test_settings_decide_ids() -> None:
    texts, seen = odd_texts(60), set()
    for settings in SETTINGS:
        seen.add(str(our_ids(Vocabulary(PIECES, **settings), texts)))
    assert len(seen) == len(SETTINGS)


def test_a_batch_is_its_texts_padded() -> None:
    vocabulary = Vocabulary(PIECES)
    texts = [text for text in odd_texts(60) if "[PAD]" not in text]
    alone, together = our_ids(vocabulary, texts), tokenize(texts, vocabulary, 10_000).tolist()
    assert [[*ids, *[0] * (len(together[0]) - len(ids))] for ids in alone] == together


def test_lines_are_the_tokenizers_librarys(tmp_path) -> None:
    """A thousand odd lines, endings and repeats: the ids of their tokens are those of its own reader."""
    draw, path = random.Random(5), tmp_path / "vocab.txt"
    ends = ("", "\r", "\x0c", "\u2028", "\x85", " ", "\x1c", "\x1f", "\u3000", "\t", "\u200b", "\xa0", "\ufeff")
    names = [
        f"{draw.choice(('', ' ', 'w', 'ä', chr(0x2028)))}{draw.randrange(300)}{draw.choice(ends)}" for _ in range(1000)
    ]
    for last in ("\n", "", "\n\n"):
        path.write_bytes(("\n".join([*SPECIAL, *names]) + last).encode())
        vocabulary = read_vocabulary(path)
        assert vocabulary.ids == WordPiece.read_file(str(path))
        assert [vocabulary.index(token) for token in vocabulary.ids] == list(vocabulary.ids.values())


def test_a_mark_of_byte_order_is_no_part_of_the_first_token(tmp_path) -> None:
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    plain.write_bytes("\r\n".join(PIECES).encode())
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert read_vocabulary(plain) == read_vocabulary(marked)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff red", "red \ud83d\ude00 cube", "\ude00\ud83d"])
def test_a_lone_surrogate_is_left_out_and_a_pair_is_its_character(text) -> None:
    vocabulary = Vocabulary(PIECES)
    whole = text.replace("\ud83d\ude00", "😀")
    whole = "".join(letter for letter in whole if not "\ud800" <= letter <= "\udfff")
    assert our_ids(vocabulary, [text]) == our_ids(vocabulary, [whole])


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


STORED: dict[str, tuple[Callable[[dict], object], str]] = {
    "BPE": (lambda made: made["model"].update(type="BPE", merges=[]), "BPE"),
    "Unigram": (lambda made: made["model"].update(type="Unigram"), "Unigram"),
    "no type, merges": (lambda made: (made["model"].pop("type"), made["model"].update(merges=[])), "type null"),
    "a list": (lambda made: made["model"].update(vocab=["a"]), "model.vocab"),
    "no id": (lambda made: made["model"]["vocab"].update(red=None), "null"),
    "negative ids": (lambda made: made["model"]["vocab"].update(red=-1), "-1"),
    "huge ids": (lambda made: made["model"]["vocab"].update(red=10**9), "1000000000"),
    "wide gaps": (lambda made: made["model"]["vocab"].update(red=10**6), "gaps"),
    "one id twice": (lambda made: made["model"]["vocab"].update(new=6), "two tokens one id"),
    "no [SEP]": (lambda made: made["model"]["vocab"].pop("[SEP]"), "has no token [SEP]"),
    "another unknown": (lambda made: made["model"].update(unk_token="<unk>"), "<unk>"),
    "another prefix": (lambda made: made["model"].update(continuing_subword_prefix="@@"), "@@"),
    "short words": (lambda made: made["model"].update(max_input_chars_per_word=5), "max_input_chars_per_word"),
    "another normalizer": (lambda made: made.update(normalizer={"type": "NFKC"}), "NFKC"),
    "no normalizer": (lambda made: made.update(normalizer=None), "normalizer"),
    "kept controls": (lambda made: made["normalizer"].update(clean_text=False), "clean_text"),
    "capitals kept": (lambda made: made["normalizer"].update(lowercase=False), "do_lower_case"),
    "a switch as text": (lambda made: made["normalizer"].update(lowercase="yes"), "do_lower_case"),
    "other words": (lambda made: made.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
    "no [CLS]": (lambda made: made["post_processor"].update(single=[{"Sequence": {"id": "A"}}]), "post_processor"),
    "no template": (lambda made: made.update(post_processor=None), "post_processor"),
    "an added token": (lambda made: made["added_tokens"].append({"id": 99, "content": "<x>", "special": True}), "<x>"),
    "added as text": (lambda made: made.update(added_tokens=["<x>"]), "<x>"),
    "a lone surrogate": (lambda made: made["model"]["vocab"].update({"\ud800": 60}), "not JSON"),
    "no model": (lambda made: made.pop("model"), "model"),
}


@pytest.mark.parametrize("name", STORED)
def test_a_tokenizer_of_another_kind_is_named(name, tmp_path) -> None:
    change, named = STORED[name]
    folder = save(tmp_path / "words", {}, kind="tokenizer.json", tokens=(*PIECES[:50],))
    change_json(folder / "tokenizer.json", change)
    said = complain(lambda: read_vocabulary(folder), folder, named, kind=DataError)
    assert len(said) < 500 + len(str(tmp_path)) * 2


CONFIGURED: dict[str, tuple[dict, str]] = {
    "class": ({"tokenizer_class": "RobertaTokenizer"}, "RobertaTokenizer"),
    "switch": ({"do_lower_case": "false"}, "do_lower_case"),
    "number": ({"do_lower_case": 0}, "do_lower_case"),
    "null": ({"tokenize_chinese_chars": None}, "tokenize_chinese_chars"),
    "cls": ({"cls_token": "<s>"}, "<s>"),
    "mask": ({"mask_token": {"content": "[MASK]", "lstrip": True}}, "mask_token"),
    "more": ({"additional_special_tokens": ["<obj>"]}, "<obj>"),
    "added": ({"added_tokens_decoder": {"70": {"content": "<new>"}}}, "<new>"),
    "never split": ({"never_split": ["red"]}, "never_split"),
    "side": ({"truncation_side": "left"}, "truncation_side"),
    "whole words": ({"do_basic_tokenize": False}, "do_basic_tokenize"),
    "long": ({"cls_token": "z" * 10_000}, "zzz"),
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_setting_that_is_not_honoured_is_named(name, tmp_path) -> None:
    settings, named = CONFIGURED[name]
    folder = save(tmp_path / "words", {"do_lower_case": True, **settings}, kind="vocab.txt")
    said = complain(lambda: read_vocabulary(folder), "tokenizer_config.json", named, kind=DataError)
    assert len(said) < 500 + len(str(tmp_path)) * 2


@pytest.mark.parametrize("text", ["[1]", "null", "{", "[" * 5000, "7", '"x"', "\xff"])
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
)
def test_a_damaged_file_is_one_sentence(name, text, tmp_path) -> None:
    folder = save(tmp_path / "words", {}, kind="vocab.txt")
    (folder / name).write_bytes(text.encode("latin-1"))
    complain(lambda: read_vocabulary(folder), folder / name, kind=DataError)


def test_two_vocabularies_that_differ_are_refused(tmp_path) -> None:
    folder = save(tmp_path / "words", {}, kind="both")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, "other", *PIECES[6:]]), encoding="utf-8")
    complain(lambda: read_vocabulary(folder), folder / "vocab.txt", "differs", kind=DataError)


def test_a_bare_vocabulary_takes_the_settings_that_are_usual_for_its_model(tmp_path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("\n".join(PIECES), encoding="utf-8")
    cased = Vocabulary(SPECIAL, do_lower_case=False)
    assert read_vocabulary(path).do_lower_case
    assert not read_vocabulary(path, cased).do_lower_case
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    assert read_vocabulary(path, cased).do_lower_case


def test_the_shipped_vocabulary_is_lower_cased() -> None:
    assert shipped_vocabulary().is_usual
    assert (
        tokenize(["Red CUBE"], shipped_vocabulary(), 9).tolist()
        == tokenize(["red cube"], shipped_vocabulary(), 9).tolist()
    )


@pytest.mark.parametrize("is_padded", [False, True])
def test_padding_that_is_written_out_is_a_word_of_its_question(is_padded, tmp_path) -> None:
    """Of the inputs of a model: ids and attention mask are those that transformers pads a batch to."""
    questions = [
        "is it red?",
        "[PAD]",
        "[PAD] [PAD] is it [PAD] red [PAD]",
        "what [PAD]",
        "[PAD]" * 30,
        "is the [MASK] [SEP] [PAD] blue or red or green or blue?",
    ]
    write_vqa(tmp_path)
    for split in ("train", "valid"):
        path = tmp_path / f"{split}_q.json"
        document = json.loads(path.read_text())
        for number, question in enumerate(document["questions"]):
            question["question"] = questions[number % len(questions)]
        path.write_text(json.dumps(document))
    files = {"train": "train_q.json", "valid": "valid_q.json"}
    files |= {f"{split}_annotations": f"{split}_a.json" for split in ("train", "valid")}
    settings = DATA_KINDS["vqa"].model_validate(
        {"kind": "vqa", "answers": tmp_path / "labels.json", **{name: tmp_path / file for name, file in files.items()}}
    )
    task = load_task(settings)
    (tmp_path / "words").mkdir()
    for name, text in format_vocabulary(task.vocabulary).items():
        (tmp_path / "words" / name).write_text(text, encoding="utf-8")
    theirs = BertTokenizer.from_pretrained(tmp_path / "words")(
        questions, padding=True, truncation=True, max_length=settings.tokens, return_tensors="pt"
    )
    rows = torch.arange(len(questions))
    inputs = task.valid.padded_inputs(rows) if is_padded else task.valid.inputs(rows)
    assert torch.equal(inputs.input_ids, theirs.input_ids)
    assert torch.equal(inputs.attention_mask, theirs.attention_mask)
    assert torch.equal(task.valid.lengths[rows], theirs.attention_mask.sum(1))
    few = torch.tensor([1, 3])  # the longest of a batch may end in [PAD]
    assert torch.equal(task.valid.inputs(few).attention_mask, torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]))
