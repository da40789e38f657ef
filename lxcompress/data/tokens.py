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

from lxcompress.data.persian import normalise_persian
from lxcompress.errors import DataError
from lxcompress.text import parse_json, read_text, shorten

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLASSIFY, SEPARATE, MASK = SPECIAL
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

_WHITE = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""The white space that the tokenizers library strips from the end of a line of vocab.txt (Unicode White_Space)."""
_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", "LxmertTokenizer", "LxmertTokenizerFast")
_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Names of tokenizer classes that read only tokenizer.json. The classes of BERT take their settings from
tokenizer_config.json."""
_SWITCHES = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
"""The settings that may be changed: name in transformers -> default."""
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
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
_ROLES = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
_MOST_TOKENS = 10_000_000
_MINE = "give a tokenizer with BERT's own settings, or another vocabulary as model.vocabulary"


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
        return {name: getattr(self, name) for name in _SWITCHES}

    @property
    def is_usual(self) -> bool:
        """Return whether the settings are the defaults, so that no tokenizer_config.json is needed."""
        return self.settings == _SWITCHES and self.language is None

    def normalise(self, text: str) -> str:
        """Return `text` as it is before it is split into tokens, by the rules of the vocabulary's language."""
        if self.language is None:
            return text
        return normalise_persian(text, has_persian_digits="۱" in self.ids)


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
        stored = _read_tokenizer(path)
        tokens = stored.tokens
    else:
        tokens = parse_vocabulary(_read_text(path), str(path))
        if path.name == VOCABULARY_FILE and (folder / TOKENIZER_FILE).is_file():
            stored = _read_tokenizer(folder / TOKENIZER_FILE)
            _check_same_tokens(path, tokens, stored.tokens)
    settings = dict(_SWITCHES if usual is None else usual.settings)
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
    found = _read_object(file) if file.is_file() else {}
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
    tokens = tuple(line.rstrip(_WHITE) for line in lines)
    _check_tokens(tokens, where)
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


@dataclass(frozen=True)
class _TokenizerFile:
    """The contents of a tokenizer.json: its tokens, and the settings of its normalizer."""

    path: Path
    tokens: tuple[str, ...]
    settings: Mapping[str, bool | None]


def _find_in(folder: Path) -> Path:
    """Return the path of the vocabulary file in a folder. Raises DataError if there is none."""
    found = next((folder / name for name in (VOCABULARY_FILE, TOKENIZER_FILE) if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{folder}: has neither {VOCABULARY_FILE} nor {TOKENIZER_FILE}; give BERT's vocab.txt")
    return found


def _check_tokens(tokens: Sequence[str], where: str) -> None:
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


def _check_same_tokens(path: Path, tokens: Sequence[str], others: Sequence[str]) -> None:
    """Raise DataError unless vocab.txt and tokenizer.json of a folder give each token the same id."""
    own, other = Vocabulary(tuple(tokens)).ids, Vocabulary(tuple(others)).ids
    differing = sorted(token for token in own.keys() | other.keys() if token and own.get(token) != other.get(token))
    if differing:
        raise DataError(
            f"{path}: differs from {TOKENIZER_FILE} in the same folder ({len(differing)} tokens, first "
            f"{shorten(differing[0])}); remove the one that the model was not trained with"
        )


def _read_tokenizer(path: Path) -> _TokenizerFile:
    """Read a tokenizer.json. Raises DataError for a tokenizer that gives other ids than BERT's."""
    document = _read_object(path)
    model = _part(document, "model", path)
    kind = model.get("type", "WordPiece" if "vocab" in model and "merges" not in model else None)
    if kind != "WordPiece":
        raise DataError(f"{path}: is a tokenizer of type {shorten(kind)}, and the models here read WordPiece; {_MINE}")
    expected = {"unk_token": UNKNOWN, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    for name, value in expected.items():
        if model.get(name, value) != value:
            raise DataError(f"{path}: model.{name} is {shorten(model[name])}, expected {value}; {_MINE}")
    normalizer = _part(document, "normalizer", path)
    pre_tokenizer = _part(document, "pre_tokenizer", path)
    for name, part, wanted in (
        ("normalizer", normalizer, "BertNormalizer"),
        ("pre_tokenizer", pre_tokenizer, "BertPreTokenizer"),
    ):
        if part.get("type") != wanted:
            raise DataError(f"{path}: its {name} is {shorten(part.get('type'))}, expected {wanted}; {_MINE}")
    if normalizer.get("clean_text", True) is not True:
        raise DataError(f"{path}: normalizer.clean_text is {shorten(normalizer['clean_text'])}, expected true; {_MINE}")
    settings = {name: normalizer.get(own, _SWITCHES[name]) for name, own in _NORMALIZER.items()}
    _check_flags(settings, path)
    tokens = _order_tokens(model.get("vocab"), path)
    added = document.get("added_tokens") or []
    for token in added if isinstance(added, list) else [added]:
        _check_added_token(token, token.get("id") if isinstance(token, dict) else None, tokens, path)
    _check_template(document.get("post_processor"), path)
    return _TokenizerFile(path, tokens, settings)


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
        tokens[id] = token if token == token.rstrip(_WHITE) and "\n" not in token else ""
    _check_tokens(tokens, str(path))
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
        raise DataError(f"{path}: its post_processor does not put {CLASSIFY} and {SEPARATE} around a text; {_MINE}")


def _read_settings(path: Path) -> Mapping[str, Any] | None:
    """Read a tokenizer_config.json; None if there is none. Raises DataError for settings that are not supported."""
    if not path.is_file():
        return None
    given = _read_object(path)
    kind = given.get("tokenizer_class")
    if kind not in (None, *_BERT_CLASSES, *_PLAIN_CLASSES):
        raise DataError(f"{path}: tokenizer_class is {shorten(kind)}, and the models here read BertTokenizer; {_MINE}")
    for name, values in _FIXED.items():
        if name in given and given[name] not in values:
            raise DataError(f"{path}: {name} is {shorten(given[name])}, which is not supported; {_MINE}")
    _check_flags({name: given[name] for name in _SWITCHES if name in given}, path)
    _check_roles(given, path)
    for name in ("additional_special_tokens", "extra_special_tokens"):
        if given.get(name):
            more = [token for token in given[name] if _content(token) not in SPECIAL]
            if more:
                raise DataError(
                    f"{path}: {name} has {shorten(_content(more[0]))} in addition to BERT's five tokens; {_MINE}"
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


def _combine_settings(path: Path, given: Mapping[str, Any], stored: _TokenizerFile | None) -> dict[str, Any]:
    """Return the settings of a tokenizer: name -> value.

    `given` is from tokenizer_config.json, `stored` from tokenizer.json. Raises DataError if the two contradict.
    """
    tokens = stored.tokens if stored else ()
    added = given.get("added_tokens_decoder") or {}
    for id, token in added.items() if isinstance(added, dict) else ():
        _check_added_token(token, int(id) if str(id).isdecimal() else None, tokens, path.parent / SETTINGS_FILE)
    if stored and given.get("tokenizer_class") in _PLAIN_CLASSES:
        return dict(stored.settings)
    settings = {name: given.get(name, usual) for name, usual in _SWITCHES.items()}
    for name, value in settings.items():
        if stored and stored.settings[name] != value:
            own = _NORMALIZER[name]
            raise DataError(
                f"{stored.path}: its normalizer has {own}: {json.dumps(stored.settings[name])}, but transformers' "
                f"BertTokenizer takes {name}: {json.dumps(value)} from {SETTINGS_FILE}, or by default; write the one "
                f"that the model was trained with as {name} into {SETTINGS_FILE} of the same folder"
            )
    return settings


def _check_flags(settings: Mapping[str, object], path: Path) -> None:
    """Raise DataError unless all settings are true or false; strip_accents may be null."""
    for name, value in settings.items():
        allowed = (bool, type(None)) if name == "strip_accents" else (bool,)
        if not isinstance(value, allowed):
            raise DataError(f"{path}: {name} is {shorten(value)}, expected true or false; {_MINE}")


def _check_special(path: Path) -> None:
    """Raise DataError if a special_tokens_map.json renames BERT's special tokens or adds others."""
    if path.is_file():
        _check_roles(_read_object(path), path)


def _check_roles(given: Mapping[str, Any], path: Path) -> None:
    """Raise DataError if a role, such as pad_token, has another token than in BERT."""
    for role, token in _ROLES.items():
        if role in given and (_content(given[role]) != token or _has_flags(given[role])):
            raise DataError(f"{path}: {role} is {shorten(given[role])}, expected {token}; {_MINE}")
    for role in ("bos_token", "eos_token"):
        if given.get(role) is not None and _content(given[role]) not in SPECIAL:
            raise DataError(f"{path}: {role} is {shorten(given[role])}, which BERT does not have; {_MINE}")


def _check_added(path: Path, tokens: Sequence[str]) -> None:
    """Raise DataError if an added_tokens.json adds tokens to the vocabulary."""
    if path.is_file():
        for token, id in _read_object(path).items():
            _check_added_token(token, id, tokens, path)


def _check_added_token(token: object, id: object, tokens: Sequence[str], path: Path) -> None:
    """Raise DataError unless an added token is one of BERT's special tokens, with its usual id and no flags."""
    name = _content(token)
    is_own = not tokens or (type(id) is int and 0 <= id < len(tokens) and tokens[id] == name)
    if name not in SPECIAL or _has_flags(token) or not is_own:
        raise DataError(
            f"{path}: adds the token {shorten(name)} to the vocabulary, or changes how it is found; only BERT's five "
            f"special tokens may be listed; {_MINE}"
        )


def _content(token: object) -> object:
    """Return the text of a token, which is given as a JSON object or as the text itself."""
    return token.get("content") if isinstance(token, dict) else token


def _has_flags(token: object) -> bool:
    """Return whether a special token has flags that change where it is found in a text."""
    return isinstance(token, dict) and any(
        token.get(name) for name in ("single_word", "lstrip", "rstrip", "normalized")
    )


def _part(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    """Return the object in the field `name` of a document. Raises DataError for anything else."""
    found = document.get(name)
    if not isinstance(found, dict):
        raise DataError(f"{path}: its {name} is {shorten(found)}, expected an object; {_MINE}")
    return found


def _read_object(path: Path) -> dict[str, Any]:
    """Read a file with one JSON object. Raises DataError."""
    text = _read_text(path)
    try:
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({shorten(str(error))}); copy the file again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is {shorten(found)}, expected an object; copy the file again")
    return found


def _read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError."""
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as a vocabulary ({shorten(str(error))}); give BERT's vocab.txt, with one token on "
            "each line"
        ) from None
