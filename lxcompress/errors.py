"""Errors that a user can fix: one sentence with the thing, what was expected, what was found and the remedy."""

from __future__ import annotations

import errno
import os
import re
from typing import TypeVar

from lxcompress.text import as_sentence

_UNREADABLE = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EISDIR", "ENOTDIR", "EIO", "ELOOP", "ENAMETOOLONG", "EMFILE", "ENFILE", "ESTALE")
    if hasattr(errno, name)
}
"""The system errors that prevent reading a file, whatever its contents."""


class LxError(Exception):
    """Base of every error that a user can fix; the command line prints it and exits with code 1.

    Its text is one printable line, whatever a file or an argument contains: control characters are escaped, and a text
    that is too long is shortened.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(as_sentence(sentence))


Kind = TypeVar("Kind", bound=LxError)


class RecipeError(LxError):
    """A recipe, or an override of one, that cannot be used."""


class DataError(LxError):
    """A data file that is missing, damaged or of another format."""


class ModelError(LxError):
    """A model folder or checkpoint that is missing, damaged or of an unknown family."""


class PruneError(LxError):
    """A mask, criterion or sparsity that does not fit the model."""


class RunError(LxError):
    """A run folder that is missing, in use, or of another recipe."""


class TicketError(LxError):
    """A ticket folder that is missing, damaged, or whose weights do not match its mask."""


class ExportError(LxError):
    """A file that could not be exported, or whose answers differ from its ticket's."""


class ExtensionError(LxError):
    """An extension of another installed package that cannot be loaded."""


class MeasureError(LxError):
    """An artifact that could not be measured."""


def unreadable(path: object, problem: BaseException, kind: type[Kind]) -> Kind | None:
    """Return the error for a file that the system did not let us read; None if `problem` is about its contents.

    Libraries may give the number of the system's error only in the text of their own.
    """
    number = problem.errno if isinstance(problem, OSError) else None
    if number is None:
        said = re.search(r"os error (\d+)|errno = (\d+)|\[Errno (\d+)\]", str(problem))
        number = int(next(group for group in said.groups() if group)) if said else None
    if number is None or number not in _UNREADABLE:
        return None
    return kind(f"{path}: cannot be read ({os.strerror(number)}); check the path and its permissions")
