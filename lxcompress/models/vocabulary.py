"""Read and write the vocabulary of a model: the words of its folder, or those that a recipe gives instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lxcompress.checksums import check_folder
from lxcompress.data.bert_rules import SPECIAL
from lxcompress.data.tokens import (
    PERSIAN_WORDS,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    WORD_FILES,
    Vocabulary,
    format_vocabulary,
    has_vocabulary,
    read_vocabulary,
    shipped_vocabulary,
)
from lxcompress.errors import ModelError
from lxcompress.models.paths import without_paths
from lxcompress.models.source import find_file, find_folder, is_original
from lxcompress.rundir import write_text
from lxcompress.text import parse_json, read_text

Words = Vocabulary | Mapping[str, str]
"""A vocabulary, or the text of each of its files by file name."""


def load_vocabulary(start: str, vocabulary: Path | None = None) -> Vocabulary:
    """Return the WordPiece vocabulary in `vocabulary`; if that is None, return the one in the model's folder.

    If `vocabulary` has no tokenizer settings, those of the model are used. Raises LxError.
    """
    if vocabulary is not None and not vocabulary.exists():
        return read_vocabulary(vocabulary)  # raises an error; it is reported first even if the start is missing too
    check_folder(Path(start), only=WORD_FILES)
    found = find_vocabulary_folder(start)
    if vocabulary is not None:
        return read_vocabulary(vocabulary, None if found is None else read_vocabulary(found))
    if found is None and is_original(start):
        raise ModelError(
            f"{start}: its folder has no {VOCABULARY_FILE}; give model.vocabulary, or copy {VOCABULARY_FILE} of "
            "bert-base-uncased there (30,522 tokens: huggingface.co/google-bert/bert-base-uncased)"
        )
    if found is None:
        raise ModelError(
            f"{start}: has no {VOCABULARY_FILE} and no {TOKENIZER_FILE}; copy the vocabulary of its pre-training there"
        )
    return read_vocabulary(found)


def choose_vocabulary(start: str, given: Path | None, language: str | None) -> Path | None:
    """Return the vocabulary that replaces the one of the start model; None keeps that one.

    It is `given`, if that is not None. For Persian data it is otherwise the shipped Persian vocabulary, unless the
    start has most of its words. Raises LxError.
    """
    if given is not None or language is None:
        return given
    found = find_vocabulary_folder(start)
    known = {} if found is None else read_vocabulary(found).ids
    words = [token for token in shipped_vocabulary(language) if len(token.strip("#")) > 1 and token not in SPECIAL]
    return None if sum(word in known for word in words) > len(words) / 2 else PERSIAN_WORDS


def read_word_files(start: str) -> Mapping[str, str]:
    """Return {name: text} of a model's vocabulary files, for code that only copies the files.

    Whether lxcompress supports the settings in them is not checked. Raises ModelError for a file that is not text, or
    not JSON as its name says.
    """
    folder = find_vocabulary_folder(start)
    found = [] if folder is None else [folder / name for name in WORD_FILES if (folder / name).is_file()]
    try:
        texts = {path.name: read_text(path) for path in found}
        for name in texts:
            if name.endswith(".json"):
                parse_json(texts[name])
        return texts
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{folder}: a file of its vocabulary cannot be read ({error}); copy it again, or remove it"
        ) from None


def save_vocabulary(folder: Path, vocabulary: Words) -> None:
    """Write the files of a vocabulary into a folder, and remove those of an earlier vocabulary."""
    files = format_vocabulary(vocabulary) if isinstance(vocabulary, Vocabulary) else vocabulary
    for name in WORD_FILES:
        if name in files:
            write_text(folder / name, without_paths(files[name]))
        else:
            (folder / name).unlink(missing_ok=True)


def find_vocabulary_folder(start: str) -> Path | None:
    """Return the folder of a model if it has a vocabulary, else None. Raises ModelError if there is no model."""
    folder = find_file(start).parent if is_original(start) else find_folder(start)
    return folder if has_vocabulary(folder) else None
