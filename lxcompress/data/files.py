"""Read published files: JSON, JSON lines or CSV; plain, gzip or zip. For a damaged file, the error is one sentence.

A path may lead into a zip archive, as in questions.zip/train.json. If an archive has only one JSON (or CSV) file, the
path of the archive is enough.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any, Literal, TypeVar

from lxcompress.data.archives import DAMAGE, GZIP, is_zip, read_member, read_unpacked
from lxcompress.errors import DataError
from lxcompress.text import Hook, decode_text, parse_json, read_bytes, shorten

Value = TypeVar("Value")
Kind = Literal["JSON", "CSV"]
"""The format of a file; in an archive, the names of such files end in .json or .csv."""
_VOCABULARY = "give trainval_ans2label.json, {answer: label}, or trainval_label2ans.json, a list of answers"


def read_json(path: Path, *, remedy: str, hook: Hook | None = None) -> Any:
    """Return the JSON document in `path`. Raises DataError; `remedy` says what to give if there is no such file.

    `hook` is called with each JSON object, and the document gets its result instead of the object. A hook that drops
    fields keeps a large file from filling the memory.
    """
    return _parse(read_text(path, remedy=remedy), path, hook)


def read_records(path: Path, *, remedy: str) -> list[dict[str, Any]]:
    """Return the JSON objects in `path`, which has an object on each line, or a list of objects. Raises DataError."""
    text = read_text(path, remedy=remedy)
    if text[:100].lstrip().startswith("["):
        found = _parse(text, path)
    else:
        # str.splitlines would also split at line separators inside a JSON string.
        lines = enumerate(text.split("\n"), 1)
        found = [_parse(line, path, where=f"line {number} ") for number, line in lines if line.strip()]
    if not found:
        raise DataError(f"{path}: is empty; {remedy}")
    for index, record in enumerate(found):
        if not isinstance(record, dict):
            raise DataError(f"{path}: record {index} is {shorten(record)}, expected an object; {remedy}")
    return found


def read_text(path: Path, *, remedy: str, kind: Kind = "JSON") -> str:
    """Return the text of `path`, which is UTF-8 with or without a byte order mark.

    `kind` is the format to look for in an archive. Raises DataError; `remedy` says what to give if there is no file.
    """
    try:
        data = _read_bytes(path, kind)
        if data[:2] == GZIP:
            data = read_unpacked(gzip.GzipFile(fileobj=io.BytesIO(data)), len(data))
        return decode_text(data)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {remedy}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, expected a file; {remedy}") from None
    except DAMAGE as problem:
        if isinstance(problem, OSError) and problem.errno is not None:  # an error of the system, not of the contents
            reason = problem.strerror or str(problem)
            raise DataError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
        raise DataError(f"{path}: is damaged or not {kind} ({problem}); write or download it again") from None


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the answers in an answer vocabulary, in the order of their labels. Raises DataError.

    The file has {answer: label}, or a list of answers, whose labels are their indices.
    """
    document = read_json(path, remedy=_VOCABULARY)
    if isinstance(document, list):
        labelled = {answer: label for label, answer in enumerate(document) if isinstance(answer, str)}
        if len(labelled) < len(document):
            raise DataError(f"{path}: is a list with an answer that is repeated or is not a text; {_VOCABULARY}")
    else:
        labelled = document
    if not isinstance(labelled, dict) or not labelled:
        raise DataError(f"{path}: is {shorten(document)}, expected an answer vocabulary; {_VOCABULARY}")
    answers: dict[int, str] = {}
    for answer, label in labelled.items():
        if type(label) is not int or not 0 <= label < len(labelled):
            raise DataError(
                f"{path}: the label of {answer!r} is {shorten(label)}, expected a number from 0 to "
                f"{len(labelled) - 1}; "
                f"{_VOCABULARY}"
            )
        if label in answers:
            raise DataError(f"{path}: {answers[label]!r} and {answer!r} have the same label {label}; {_VOCABULARY}")
        answers[label] = answer
    return tuple(answers[label] for label in range(len(answers)))


def list_files(path: Path, *, remedy: str) -> list[Path]:
    """Return [path]; for a folder, the JSON files in it, sorted by name. Raises DataError for a folder without any."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith((".json", ".json.gz")))
    if not found:
        raise DataError(f"{path}: is a folder without a .json file; {remedy}")
    return found


def field(record: Any, name: str, kind: type[Value]) -> Value | None:
    """Return the field `name` of `record` if its type is `kind`, else None; true and false are not numbers."""
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def whole_number(value: Any) -> int | None:
    """Return `value` as an int if it is a whole number (5 or 5.0); None for anything else, also for a bool."""
    if type(value) is float:
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None


def _parse(text: str, path: Path, hook: Hook | None = None, *, where: str = "") -> Any:
    """Return the JSON document in `text`, which was read from `path`; `where` is a line. Raises DataError."""
    try:
        return parse_json(text, hook)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path}: {where}is damaged or not JSON ({problem}); write or download it again") from None


def _read_bytes(path: Path, kind: Kind) -> bytes:
    """Return the bytes of the file `path`.

    If `path` is a zip archive, its only file of the format `kind` is read. If `path` leads into an archive, that file
    is read.
    """
    archive = None if path.exists() else next((parent for parent in path.parents if parent.is_file()), None)
    if archive is not None:
        return _read_member(archive, kind, path.relative_to(archive).as_posix())
    return _read_member(path, kind) if path.is_file() and is_zip(path) else read_bytes(path)


def _read_member(archive: Path, kind: Kind, name: str | None = None) -> bytes:
    """Return the bytes of the file `name` in an archive; without a name, of its only file of that kind.

    Raises DataError, FileNotFoundError, or one of DAMAGE.
    """
    if not zipfile.is_zipfile(archive):
        if name:
            raise FileNotFoundError(archive / name)
        raise zipfile.BadZipFile("a zip archive without an end")
    ending = f".{kind.lower()}"
    with zipfile.ZipFile(archive) as opened:
        names = [file for file in opened.namelist() if file.endswith(ending) and not file.startswith("__MACOSX/")]
        if name is None and len(names) != 1:
            raise DataError(
                f"{archive}: has {len(names)} {kind} files ({', '.join(names[:4]) or 'none'}), expected one; name the "
                f"one to read, as in {archive}/{names[0] if names else f'name{ending}'}"
            )
        member = name or names[0]
        if member not in opened.namelist():
            raise FileNotFoundError(archive / member)
        return read_member(opened, member)
