"""Tokenize questions to WordPiece ids, as BERT does (Devlin et al. 2019), with the tokenizers library.

A vocabulary is read from `vocab.txt` or `tokenizer.json`, and its settings from other files of the same folder. Token
ids are always equal to those of transformers' BertTokenizer; settings that would give other ids raise DataError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, overload

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from lxcompress.data.bert_rules import (
    ADVICE,
    CLASSIFY,
    PAD,
    SEPARATE,
    SPECIAL,
    SWITCHES,
    UNKNOWN,
    WHITE_SPACE,
    check_added_token,
    check_flags,
    check_roles,
    check_tokens,
    read_object,
    read_words,
    text_of_token,
)
from lxcompress.data.persian import normalise_persian
from lxcompress.data.tokenizer_json import NORMALIZER_NAMES, TokenizerFile, read_tokenizer
from lxcompress.errors import DataError
from lxcompress.text import shorten

VOCABULARY_FILE, TOKENIZER_FILE, SETTINGS_FILE = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
TRANSLATIONS_FILE = "translations.json"
SPECIAL_FILE, ADDED_FILE = "special_tokens_map.json", "added_tokens.json"
WORD_FILES = (VOCABULARY_FILE, TOKENIZER_FILE, SETTINGS_FILE, SPECIAL_FILE, ADDED_FILE)
"""The files of a model folder that decide how words become ids."""
PERSIAN = "fa"
PERSIAN_WORDS = Path(__file__).parent / "persian_words"
"""The folder of the shipped Persian vocabulary."""

_LANGUAGE_KEY = "lxcompress_language"
"""The field of tokenizer_config.json that names the language; transformers ignores it."""

_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", "LxmertTokenizer", "LxmertTokenizerFast")
_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Names of tokenizer classes that read only tokenizer.json. The classes of BERT take their settings from
tokenizer_config.json."""
_FIXED: Mapping[str, tuple[object, ...]] = {
    "clean_text": (True,),
    "do_basic_tokenize": (True,),
    "never_split": (None, []),
    "wordpieces_prefix": ("##",),
    "padding_side": ("right",),
    "truncation_side": ("right",),
    "add_special_tokens": (True,),
    "add_prefix_space": (False,),
    "split_special_tokens": (False,),
}
"""The settings that may not be changed: name -> the values that agree with how this module tokenizes."""


@dataclass(frozen=True)
class Vocabulary(Sequence[str]):
    """The tokens of a model in the order of their ids, and the settings of its tokenizer (named as in transformers)."""

    tokens: tuple[str, ...]
    do_lower_case: bool = True
    strip_accents: bool | None = None
    """None means: strip accents if `do_lower_case` is set"""
    tokenize_chinese_chars: bool = True
    language: str | None = None
    """the language whose rules are applied to a text before it is split: "fa" is Persian; None applies none"""

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.tokens[index]

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Return token -> id; a token that comes twice has the last of its ids, as in transformers."""
        return {token: index for index, token in enumerate(self.tokens)}

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """Return the id of a token. Raises ValueError if the vocabulary lacks it."""
        if start or stop is not None or value not in self.ids:
            return self.tokens.index(value, start, len(self.tokens) if stop is None else stop)
        return self.ids[value]

    @property
    def settings(self) -> dict[str, bool | None]:
        """Return the settings as in tokenizer_config.json: name -> value."""
        return {name: getattr(self, name) for name in SWITCHES}

    @property
    def is_usual(self) -> bool:
        """Return whether the settings are the defaults, so that no tokenizer_config.json is needed."""
        return self.settings == SWITCHES and self.language is None

    def normalise(self, text: str) -> str:
        """Return `text` as it is before it is split into tokens, by the rules of the vocabulary's language."""
        if self.language is None:
            return text
        return normalise_persian(text, has_persian_digits=self.has_persian_digits)

    @property
    def has_persian_digits(self) -> bool:
        """Return whether digits are Persian ones in the vocabulary."""
        return "۱" in self.ids


@cache
def shipped_vocabulary(language: str | None = None) -> Vocabulary:
    """Return the vocabulary of the shipped mini model, or a Persian one if `language` is "fa".

    The first has the words of scenes and CLEVR, the second those of Persian scenes; all other words are made of its
    letters.
    """
    if language == PERSIAN:
        return read_vocabulary(PERSIAN_WORDS)
    text = (resources.files("lxcompress.data") / VOCABULARY_FILE).read_text("utf-8")
    return Vocabulary(parse_vocabulary(text, VOCABULARY_FILE))


def read_vocabulary(path: Path, usual: Vocabulary | None = None) -> Vocabulary:
    """Read the vocabulary in `path`: a vocab.txt (one token on each line), a tokenizer.json, or a folder with either.

    The settings come from other files of the same folder. Without such files they are those of `usual`, or else BERT's.
    Raises DataError for a file that cannot be read, and for settings that would give other ids than transformers'
    tokenizer.
    """
    path = _find_in(path) if path.is_dir() else path
    folder, stored = path.parent, None
    if path.suffix == ".json":
        stored = read_tokenizer(path)
        tokens = stored.tokens
    else:
        tokens = parse_vocabulary(read_words(path), str(path))
        if path.name == VOCABULARY_FILE and (folder / TOKENIZER_FILE).is_file():
            stored = read_tokenizer(folder / TOKENIZER_FILE)
            _check_same_tokens(path, tokens, stored.tokens)
    settings = dict(SWITCHES if usual is None else usual.settings)
    given = _read_settings(folder / SETTINGS_FILE)
    if given is not None or stored is not None:
        settings = _combine_settings(path, given or {}, stored)
    language = None if usual is None else usual.language
    if given is not None:
        language = _read_language(given, folder / SETTINGS_FILE)
    _check_special(folder / SPECIAL_FILE)
    _check_added(folder / ADDED_FILE, tokens)
    return Vocabulary(
        tokens,
        do_lower_case=bool(settings["do_lower_case"]),
        strip_accents=settings["strip_accents"],
        tokenize_chinese_chars=bool(settings["tokenize_chinese_chars"]),
        language=language,
    )


def read_translations(path: Path) -> dict[str, str]:
    """Return the translations beside a vocabulary: token -> token of another vocabulary; none if there is no file.

    They are a JSON object in translations.json, in the folder of the vocabulary. Raises DataError.
    """
    file = (path if path.is_dir() else path.parent) / TRANSLATIONS_FILE
    found = read_object(file) if file.is_file() else {}
    wrong = next((token for token, other in found.items() if not isinstance(other, str)), None)
    if wrong is not None:
        raise DataError(f"{file}: {shorten(wrong)} is {shorten(found[wrong])}, expected a token of the start model")
    return found


def parse_vocabulary(text: str, where: str) -> tuple[str, ...]:
    """Return the tokens of `text`, one on each line; the ids are the line numbers from 0. Raises DataError.

    Only "\\n" ends a line, and white space at the end of a line is removed, as in the tokenizers library.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    tokens = tuple(line.rstrip(WHITE_SPACE) for line in lines)
    check_tokens(tokens, where)
    return tokens


def has_vocabulary(folder: Path) -> bool:
    """Return whether a folder has a vocabulary: a vocab.txt or a tokenizer.json."""
    return any((folder / name).is_file() for name in (VOCABULARY_FILE, TOKENIZER_FILE))


def format_vocabulary(vocabulary: Vocabulary) -> dict[str, str]:
    """Return the files that store `vocabulary`: file name -> text.

    They are vocab.txt and, unless the settings are the defaults, tokenizer_config.json.
    """
    files = {VOCABULARY_FILE: "\n".join(vocabulary.tokens) + "\n"}
    if not vocabulary.is_usual:
        files[SETTINGS_FILE] = format_settings(vocabulary)
    return files


def format_settings(vocabulary: Vocabulary, **more: object) -> str:
    """Return the text of tokenizer_config.json for `vocabulary`, with the further fields `more`."""
    language = {} if vocabulary.language is None else {_LANGUAGE_KEY: vocabulary.language}
    fields = {"tokenizer_class": "BertTokenizer", **vocabulary.settings, **language, **more}
    return json.dumps(fields, indent=1) + "\n"


def tokenize(questions: Sequence[str], vocabulary: Vocabulary, limit: int) -> np.ndarray:
    """Return ids int32 [Q, L]: [CLS] words [SEP], padded with 0 to the longest question and cut to `limit` tokens.

    The ids are equal to those of transformers' BertTokenizer: "[SEP]" in the text of a question becomes the special
    token. A lone surrogate is not a character, and BertTokenizer raises TypeError for it; here it is left out. The text
    is normalised first if the vocabulary names a language.
    """
    ids = vocabulary.ids
    tokenizer = Tokenizer(WordPiece(dict(ids), unk_token=UNKNOWN))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=vocabulary.tokenize_chinese_chars,
        strip_accents=vocabulary.strip_accents,
        lowercase=vocabulary.do_lower_case,
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLASSIFY} $A {SEPARATE}",
        special_tokens=[(CLASSIFY, ids[CLASSIFY]), (SEPARATE, ids[SEPARATE])],
    )
    tokenizer.enable_truncation(limit)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD)
    clean = (question.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for question in questions)
    texts = [vocabulary.normalise(text) for text in clean]
    return np.asarray([encoding.ids for encoding in tokenizer.encode_batch(texts)], dtype=np.int32)


def _find_in(folder: Path) -> Path:
    """Return the path of the vocabulary file in a folder. Raises DataError if there is none."""
    found = next((folder / name for name in (VOCABULARY_FILE, TOKENIZER_FILE) if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{folder}: has neither {VOCABULARY_FILE} nor {TOKENIZER_FILE}; give BERT's vocab.txt")
    return found


def _check_same_tokens(path: Path, tokens: Sequence[str], others: Sequence[str]) -> None:
    """Raise DataError unless vocab.txt and tokenizer.json of a folder give each token the same id."""
    own, other = Vocabulary(tuple(tokens)).ids, Vocabulary(tuple(others)).ids
    differing = sorted(token for token in own.keys() | other.keys() if token and own.get(token) != other.get(token))
    if differing:
        raise DataError(
            f"{path}: differs from {TOKENIZER_FILE} in the same folder ({len(differing)} tokens, first "
            f"{shorten(differing[0])}); remove the one that the model was not trained with"
        )


def _read_settings(path: Path) -> Mapping[str, Any] | None:
    """Read a tokenizer_config.json; None if there is none. Raises DataError for settings that are not supported."""
    if not path.is_file():
        return None
    given = read_object(path)
    kind = given.get("tokenizer_class")
    if kind not in (None, *_BERT_CLASSES, *_PLAIN_CLASSES):
        raise DataError(f"{path}: tokenizer_class is {shorten(kind)}, and the models here read BertTokenizer; {ADVICE}")
    for name, values in _FIXED.items():
        if name in given and given[name] not in values:
            raise DataError(f"{path}: {name} is {shorten(given[name])}, which is not supported; {ADVICE}")
    check_flags({name: given[name] for name in SWITCHES if name in given}, path)
    check_roles(given, path)
    for name in ("additional_special_tokens", "extra_special_tokens"):
        if given.get(name):
            more = [token for token in given[name] if text_of_token(token) not in SPECIAL]
            if more:
                raise DataError(
                    f"{path}: {name} has {shorten(text_of_token(more[0]))} in addition to BERT's five tokens; {ADVICE}"
                )
    return given


def _read_language(given: Mapping[str, Any], path: Path) -> str | None:
    """Return the language that a tokenizer_config.json names. Raises DataError for one without rules."""
    language = given.get(_LANGUAGE_KEY)
    if language not in (None, PERSIAN):
        raise DataError(
            f"{path}: {_LANGUAGE_KEY} is {shorten(language)}, expected {PERSIAN} (Persian), or leave it out"
        )
    return language


def _combine_settings(path: Path, given: Mapping[str, Any], stored: TokenizerFile | None) -> dict[str, Any]:
    """Return the settings of a tokenizer: name -> value.

    `given` is from tokenizer_config.json, `stored` from tokenizer.json. Raises DataError if the two contradict.
    """
    tokens = stored.tokens if stored else ()
    added = given.get("added_tokens_decoder") or {}
    for id, token in added.items() if isinstance(added, dict) else ():
        check_added_token(token, int(id) if str(id).isdecimal() else None, tokens, path.parent / SETTINGS_FILE)
    if stored and given.get("tokenizer_class") in _PLAIN_CLASSES:
        return dict(stored.settings)
    settings = {name: given.get(name, usual) for name, usual in SWITCHES.items()}
    for name, value in settings.items():
        if stored and stored.settings[name] != value:
            own = NORMALIZER_NAMES[name]
            raise DataError(
                f"{stored.path}: its normalizer has {own}: {json.dumps(stored.settings[name])}, but transformers' "
                f"BertTokenizer takes {name}: {json.dumps(value)} from {SETTINGS_FILE}, or by default; write the one "
                f"that the model was trained with as {name} into {SETTINGS_FILE} of the same folder"
            )
    return settings


def _check_special(path: Path) -> None:
    """Raise DataError if a special_tokens_map.json renames BERT's special tokens or adds others."""
    if path.is_file():
        check_roles(read_object(path), path)


def _check_added(path: Path, tokens: Sequence[str]) -> None:
    """Raise DataError if an added_tokens.json adds tokens to the vocabulary."""
    if path.is_file():
        for token, id in read_object(path).items():
            check_added_token(token, id, tokens, path)
