"""Read text from outside: decode files as UTF-8, parse JSON strictly, and fit any text on one line of a screen."""

from __future__ import annotations

import codecs
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

Hook = Callable[[dict[str, Any]], Any]
"""Converts each JSON object, the innermost first."""

MOST_CHARACTERS = 499
"""The limit of an error, which is one sentence."""
MOST_BYTES = 8 << 30
"""The limit of a text file; GQA's largest question file has 1.4 GB."""
PIECE_BYTES = 1 << 20

_LONG_WORD = 160
"""The limit of a word (a path, a value) in an error that is too long."""
_SPACES = re.compile(r"\s+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# UTF-32 comes first, because its little-endian mark begins with that of UTF-16.
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def read_text(path: Path) -> str:
    """Return the text of a file, UTF-8 with or without a byte order mark.

    Raises OSError, also for a file that is not regular, and ValueError, whose text gives the reason, for text that is
    not UTF-8.
    """
    return decode_text(read_bytes(path))


def read_bytes(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file. Raises OSError, also for a device or a pipe; ValueError for a file that is too large.

    A pipe that the shell has already opened (/dev/fd/63) is read, because it cannot block forever.
    """
    about = path.stat()
    is_regular = stat.S_ISREG(about.st_mode)
    if not (is_regular or stat.S_ISDIR(about.st_mode) or str(path).startswith(_DESCRIPTORS)):
        raise OSError("it is a device, a socket or a pipe, not a regular file")
    # read(most_bytes) would allocate that many bytes at once.
    with path.open("rb") as file:
        is_large = is_regular and about.st_size > most_bytes
        data = b"" if is_large else file.read() if is_regular else _read_pieces(file.read, most_bytes)
    if is_large or len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return data


def decode_text(data: bytes) -> str:
    """Return `data` as text, UTF-8 with or without a byte order mark. Raises ValueError, which gives the reason."""
    name = find_other_encoding(data)
    if name:
        raise ValueError(f"it is {name} text, expected UTF-8; convert it with: iconv -f {name} -t UTF-8")
    return data.decode("utf-8-sig")


def find_other_encoding(data: bytes) -> str | None:
    """Return UTF-16 or UTF-32 if `data` begins as text of that encoding does, with or without a byte order mark."""
    marked = next((name for mark, name in _OTHER_MARKS if data.startswith(mark)), None)
    start = data[:64]
    if marked or len(start) < 4 or b"\0" not in start:
        return marked
    evens, odds = start[0::2], start[1::2]
    # Latin text in UTF-16 has a zero in every second byte, and no zero in the others.
    is_wide = (not any(evens) and all(odds)) or (not any(odds) and all(evens))
    return "UTF-16" if is_wide else None


def parse_json(text: str, hook: Hook | None = None) -> Any:
    """Return the JSON document in `text`.

    Raises ValueError or RecursionError, also for a repeated key of an object (all values but the last would be lost)
    and for half of a surrogate pair, which is not a character and cannot be written again.
    """
    if _SURROGATE_ESCAPE.search(text):
        broken = _find_lone_surrogate(json.loads(text))
        if broken is not None:
            raise ValueError(f"the text {shorten(broken)} has half of a surrogate pair in it")

    def build(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError(f"an object has the key {shorten(_find_repeated(pairs))} twice")
        return found if hook is None else hook(found)

    return json.loads(text, object_pairs_hook=build)


def shorten(value: Any, most: int = 60) -> str:
    """Return `value` as JSON on one line, shortened to `most` characters."""
    text = ""
    # In pieces, because `value` may be a file of gigabytes.
    for piece in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(_cut_text(value, most)):
        text += piece
        if len(text) > most:
            return as_printable(f"{text[: most - 3]}...")
    return as_printable(text)


def as_printable(text: str) -> str:
    """Return `text` with unprintable characters escaped, so that it cannot control a terminal or hide text.

    Unprintable are control characters, marks that change the writing direction, separators except the space, and lone
    surrogates, as in `str.isprintable`.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def as_sentence(text: str) -> str:
    """Return `text` as one printable line of at most MOST_CHARACTERS; the middle of a longer text is left out."""
    line = as_printable(_SPACES.sub(" ", text).strip())
    if len(line) <= MOST_CHARACTERS:
        return line
    line = " ".join(_cut_word(word) for word in line.split(" "))
    if len(line) <= MOST_CHARACTERS:
        return line
    end = MOST_CHARACTERS * 2 // 5  # the remedy is at the end
    return f"{line[: MOST_CHARACTERS - end - 5].rstrip()} ... {line[-end:].lstrip()}"


def first_line(error: Exception) -> str:
    """Return the first line of the text of `error`, or the name of its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def escape_surrogates(text: str) -> str:
    """Return JSON `text` with its surrogates as JSON escapes, so that it can be written as UTF-8."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def has_surrogate(text: str) -> bool:
    """Return whether `text` has half of a surrogate pair, which UTF-8 cannot encode."""
    return _SURROGATE.search(text) is not None


def _read_pieces(read: Callable[[int], bytes], most_bytes: int) -> bytes:
    pieces, size = [], 0
    while size <= most_bytes and (piece := read(PIECE_BYTES)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _cut_word(word: str) -> str:
    if len(word) <= _LONG_WORD:
        return word
    half = _LONG_WORD // 2
    return f"{word[:half]}...{word[-half:]}"


def _cut_text(value: Any, most: int) -> Any:
    return value[: most + 1] if isinstance(value, str) else value


def _find_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    raise AssertionError(f"no key is repeated: {len(seen)} keys")


def _find_lone_surrogate(document: Any) -> str | None:
    """Return the first text or key of a document that has half of a surrogate pair; None without one."""
    remaining = [document]
    while remaining:
        value = remaining.pop()
        if isinstance(value, str):
            if has_surrogate(value):
                return value
        elif isinstance(value, dict):
            remaining.extend(value.values())
            remaining.extend(value.keys())
        elif isinstance(value, list):
            remaining.extend(value)
    return None
