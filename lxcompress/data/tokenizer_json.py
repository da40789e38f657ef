"""Read a tokenizer.json, the file of the tokenizers library: its tokens and the settings of its normalizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxcompress.data.bert_rules import (
    ADVICE,
    CLASSIFY,
    SEPARATE,
    SWITCHES,
    UNKNOWN,
    WHITE_SPACE,
    check_added_token,
    check_flags,
    check_tokens,
    read_object,
)
from lxcompress.errors import DataError
from lxcompress.text import shorten

NORMALIZER_NAMES = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_MOST_TOKENS = 10_000_000


@dataclass(frozen=True)
class TokenizerFile:
    """The contents of a tokenizer.json: its tokens, and the settings of its normalizer."""

    path: Path
    tokens: tuple[str, ...]
    settings: Mapping[str, bool | None]


def read_tokenizer(path: Path) -> TokenizerFile:
    """Read a tokenizer.json. Raises DataError for a tokenizer that gives other ids than BERT's."""
    document = read_object(path)
    model = _part(document, "model", path)
    kind = model.get("type", "WordPiece" if "vocab" in model and "merges" not in model else None)
    if kind != "WordPiece":
        raise DataError(f"{path}: is a tokenizer of type {shorten(kind)}, and the models here read WordPiece; {ADVICE}")
    expected = {"unk_token": UNKNOWN, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    for name, value in expected.items():
        if model.get(name, value) != value:
            raise DataError(f"{path}: model.{name} is {shorten(model[name])}, expected {value}; {ADVICE}")
    normalizer = _part(document, "normalizer", path)
    pre_tokenizer = _part(document, "pre_tokenizer", path)
    for name, part, wanted in (
        ("normalizer", normalizer, "BertNormalizer"),
        ("pre_tokenizer", pre_tokenizer, "BertPreTokenizer"),
    ):
        if part.get("type") != wanted:
            raise DataError(f"{path}: its {name} is {shorten(part.get('type'))}, expected {wanted}; {ADVICE}")
    if normalizer.get("clean_text", True) is not True:
        raise DataError(
            f"{path}: normalizer.clean_text is {shorten(normalizer['clean_text'])}, expected true; {ADVICE}"
        )
    settings = {name: normalizer.get(own, SWITCHES[name]) for name, own in NORMALIZER_NAMES.items()}
    check_flags(settings, path)
    tokens = _order_tokens(model.get("vocab"), path)
    added = document.get("added_tokens") or []
    for token in added if isinstance(added, list) else [added]:
        check_added_token(token, token.get("id") if isinstance(token, dict) else None, tokens, path)
    _check_template(document.get("post_processor"), path)
    return TokenizerFile(path, tokens, settings)


def _order_tokens(found: object, path: Path) -> tuple[str, ...]:
    """Return the tokens of `found`, {token: id}, in the order of their ids; an unused id gets an empty token."""
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: model.vocab is {shorten(found)}, expected {{token: id}}; copy the file again")
    wrong = [id for id in found.values() if type(id) is not int or not 0 <= id < _MOST_TOKENS]
    if wrong:
        raise DataError(
            f"{path}: model.vocab has the id {shorten(wrong[0])}, expected a whole number from 0; copy it again"
        )
    if len(set(found.values())) < len(found) or max(found.values()) > 2 * len(found) + 1000:
        raise DataError(f"{path}: model.vocab gives two tokens one id, or has wide gaps between ids; copy it again")
    tokens = [""] * (max(found.values()) + 1)
    for token, id in found.items():
        # A token that ends in white space cannot be a line of vocab.txt, and no word of a question ends in white space.
        tokens[id] = token if token == token.rstrip(WHITE_SPACE) and "\n" not in token else ""
    check_tokens(tokens, str(path))
    return tuple(tokens)


def _check_template(found: object, path: Path) -> None:
    """Raise DataError unless the post-processor `found` puts [CLS] before a question and [SEP] after it."""
    kind = found.get("type") if isinstance(found, dict) else None
    is_bert = kind == "BertProcessing"
    if kind == "TemplateProcessing" and isinstance(found, dict):
        steps = found.get("single")
        pieces = [
            step.get("SpecialToken", step.get("Sequence"))
            for step in (steps if isinstance(steps, list) else [])
            if isinstance(step, dict)
        ]
        names = [piece.get("id") for piece in pieces if isinstance(piece, dict)]
        is_bert = names == [CLASSIFY, "A", SEPARATE]
    if not is_bert:
        raise DataError(f"{path}: its post_processor does not put {CLASSIFY} and {SEPARATE} around a text; {ADVICE}")


def _part(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    """Return the object in the field `name` of a document. Raises DataError for anything else."""
    found = document.get(name)
    if not isinstance(found, dict):
        raise DataError(f"{path}: its {name} is {shorten(found)}, expected an object; {ADVICE}")
    return found
