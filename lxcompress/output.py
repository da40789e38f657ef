"""Write text safely to a screen, a page, a spreadsheet or JSON, so that text from outside has no other effect."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from lxcompress.text import as_printable

# Characters that json does not escape: C1 controls, marks that change the writing direction, line separators,
# surrogates.
_UNPRINTABLE_IN_JSON = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""The characters that begin a formula, with their full-width forms. Source: OWASP, CSV Injection."""
_ARABIC = "[\u0620-\u06ff\u0750-\u077f\u08a0-\u08ff]"
_JOINER = re.compile(f"((?<={_ARABIC})\u200c(?={_ARABIC}))")
"""The zero-width non-joiner between two letters of the Arabic script, where it is part of Persian spelling."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def printable_lines(text: str) -> str:
    """Return `text` with its control characters escaped, except the line ends and what Persian spelling needs."""
    return "\n".join(map(_print_words, text.split("\n")))


def _print_words(text: str) -> str:
    """Return `text` with unprintable characters escaped, except the zero-width non-joiner within a word."""
    return "".join(part if index % 2 else as_printable(part) for index, part in enumerate(_JOINER.split(text)))


def command_line(*words: object) -> str:
    """Return the command that runs lxcompress with these words, quoted for a shell."""
    return shlex.join(["lxcompress", *(word.as_posix() if isinstance(word, PurePath) else str(word) for word in words)])


def json_text(tree: Any) -> str:
    """Return `tree` as indented JSON, with the characters escaped that a terminal would act on."""
    text = json.dumps(tree, indent=1, ensure_ascii=False)
    return _UNPRINTABLE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as CSV with a header of `columns`; no cell begins a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in columns])
    writer.writerows([csv_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """Return `value` for a cell of a CSV file: text that would begin a formula gets an apostrophe first."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    words = _print_words(value)
    return f"'{words}" if value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA) else words
