"""BERT's special tokens and settings (Devlin et al. 2019), and the checks of tokenizer files against them.

A check raises DataError for what would give other token ids than transformers' BertTokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lxcompress.errors import DataError
from lxcompress.text import parse_json, read_text, shorten

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLASSIFY, SEPARATE, MASK = SPECIAL
WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
"""The white space that the tokenizers library strips from the end of a line of vocab.txt (Unicode White_Space)."""
SWITCHES = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
"""The settings that may be changed: name in transformers -> default."""
_ROLES = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
"""Name of a special token in transformers -> the token in BERT."""
ADVICE = "give a tokenizer with BERT's own settings, or another vocabulary as model.vocabulary"
"""The end of each message about a tokenizer that is not BERT's."""


def check_tokens(tokens: Sequence[str], where: str) -> None:
    """Raise DataError unless `tokens` have all special tokens, and [PAD] has the id 0."""
    present = set(tokens)
    missing = [token for token in SPECIAL if token not in present]
    if missing:
        raise DataError(f"{where}: has no token {missing[0]}, expected {', '.join(SPECIAL)}; give BERT's vocab.txt")
    if tokens[0] != PAD or tokens.count(PAD) > 1:
        raise DataError(
            f"{where}: {PAD} must be the first token of the vocabulary (id 0 is padding) and must not occur again, "
            f"got {shorten(tokens[0])} first; give the vocabulary of the model"
        )


def check_flags(settings: Mapping[str, object], path: Path) -> None:
    """Raise DataError unless all settings are true or false; strip_accents may be null."""
    for name, value in settings.items():
        allowed = (bool, type(None)) if name == "strip_accents" else (bool,)
        if not isinstance(value, allowed):
            raise DataError(f"{path}: {name} is {shorten(value)}, expected true or false; {ADVICE}")


def check_roles(given: Mapping[str, Any], path: Path) -> None:
    """Raise DataError if a role, such as pad_token, has another token than in BERT."""
    for role, token in _ROLES.items():
        if role in given and (text_of_token(given[role]) != token or _has_flags(given[role])):
            raise DataError(f"{path}: {role} is {shorten(given[role])}, expected {token}; {ADVICE}")
    for role in ("bos_token", "eos_token"):
        if given.get(role) is not None and text_of_token(given[role]) not in SPECIAL:
            raise DataError(f"{path}: {role} is {shorten(given[role])}, which BERT does not have; {ADVICE}")


def check_added_token(token: object, id: object, tokens: Sequence[str], path: Path) -> None:
    """Raise DataError unless an added token is one of BERT's special tokens, with its usual id and no flags."""
    name = text_of_token(token)
    has_usual_id = not tokens or (type(id) is int and 0 <= id < len(tokens) and tokens[id] == name)
    if name not in SPECIAL or _has_flags(token) or not has_usual_id:
        raise DataError(
            f"{path}: adds the token {shorten(name)} to the vocabulary, or changes how it is found; only BERT's five "
            f"special tokens may be listed; {ADVICE}"
        )


def text_of_token(token: object) -> object:
    """Return the text of a token, which is given as a JSON object or as the text itself."""
    return token.get("content") if isinstance(token, dict) else token


def read_object(path: Path) -> dict[str, Any]:
    """Read a file with one JSON object. Raises DataError."""
    text = read_words(path)
    try:
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({shorten(str(error))}); copy the file again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is {shorten(found)}, expected an object; copy the file again")
    return found


def read_words(path: Path) -> str:
    """Return the text of a file. Raises DataError."""
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as a vocabulary ({shorten(str(error))}); give BERT's vocab.txt, with one token on "
            "each line"
        ) from None


def _has_flags(token: object) -> bool:
    """Return whether a special token has flags that change where it is found in a text."""
    return isinstance(token, dict) and any(
        token.get(name) for name in ("single_word", "lstrip", "rstrip", "normalized")
    )
