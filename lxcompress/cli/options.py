"""The options that every command has: --quiet, --verbose and --log FILE, before or after the command's name."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lxcompress.errors import LxError

QUIET = "Show only results and errors; no progress, no remarks."
VERBOSE = "Show the traceback of an error, and the log records of this package."
LOG = "Append all output to this file, with the time of each line; progress bars become lines."
EPILOG = "Every command also has --quiet, --verbose and --log FILE: see lxcompress --help."

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass
class OutputOptions:
    """The settings for how much a command shows, and the log file that its output is copied to."""

    is_quiet: bool = False
    is_verbose: bool = False
    log: IO[str] | None = None
    open_lines: dict[str, str] = field(default_factory=dict)
    """Name of a stream -> the beginning of its last line, which has no end yet."""

    def keep(self, stream: str, text: str) -> None:
        """Append the complete lines of `text` to the log, if there is a log; `stream` is where the text is shown."""
        if self.log is None:
            return
        *lines, self.open_lines[stream] = (self.open_lines.get(stream, "") + text).split("\n")
        for line in lines:
            text = _CONTROLS.sub("", line).rstrip()
            if text:
                self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


output = OutputOptions()


class Tee:
    """A standard stream whose text is also copied to the log; `is_muted` says whether --quiet silences the stream."""

    def __init__(self, name: str, *, is_muted: bool) -> None:
        self.name, self.is_muted = name, is_muted

    @property
    def stream(self) -> IO[str]:
        """Return the stream that `sys` has now; tests and --json replace it."""
        return getattr(sys, self.name)

    @property
    def encoding(self) -> str:
        """Return the encoding of the stream."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write `text` to the log, and to the stream unless --quiet silences it; return the number of characters."""
        if not (self.is_muted and output.is_quiet):
            self.stream.write(text)
        output.keep(self.name, text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal on which progress bars are shown."""
        shows_bars = not (self.is_muted and (output.is_quiet or output.log is not None))
        return shows_bars and self.stream.isatty()


def take_options(words: Sequence[str]) -> list[str]:
    """Apply --quiet, --verbose and --log FILE in a command line; return its other words."""
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*others, word, *rest]
        if word in ("--quiet", "--verbose"):
            set_options(quiet=word == "--quiet", verbose=word == "--verbose", log=None)
        elif word == "--log" or word.startswith("--log="):
            path = word.partition("=")[2] if "=" in word else next(rest, "")
            if not path or path.startswith("--"):
                raise LxError("--log: needs a file to append to, such as --log study.log")
            set_options(quiet=False, verbose=False, log=Path(path))
        else:
            others.append(word)
    if output.log is not None:
        _check_log(Path(output.log.name), others)
    return others


def _check_log(log: Path, words: Sequence[str]) -> None:
    """Raise LxError if the log file is also named by a word of the command, and so may be one of its inputs."""
    for word in words:
        path = Path(word.rpartition("=")[2])
        if path.is_file() and path.samefile(log):
            raise LxError(f"--log {log}: is an input of this command; give another file")


def set_options(*, quiet: bool, verbose: bool, log: Path | None) -> None:
    """Apply the given options and keep the others unchanged. Raises LxError if the log cannot be opened."""
    output.is_quiet = output.is_quiet or quiet
    output.is_verbose = output.is_verbose or verbose
    if log is not None:
        try:
            output.log = log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        except OSError as error:
            raise LxError(f"--log {log}: cannot be written ({error.strerror}); give another file") from None


def reset_options() -> None:
    """Reset all options to their defaults, and close the log."""
    if output.log is not None:
        output.log.close()
    output.is_quiet, output.is_verbose, output.log = False, False, None
    output.open_lines.clear()
