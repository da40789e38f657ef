"""Interrupts: end a command with one sentence after Ctrl-C, or after a signal that ends the session.

This works at any moment. The module imports nothing large, so that it is active before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

NAMES = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "terminated"}
SIGNALS = {getattr(signal, name): word for name, word in NAMES.items() if hasattr(signal, name)}
"""Signal -> the word for it in the last sentence. The exit code is 128 + the signal's number, as in a shell."""
AGAIN = "run the same command again"
_SHOW_CURSOR = "\x1b[?25h"

_received: list[int] = []
_printed: list[str] = []


@contextmanager
def caught() -> Iterator[None]:
    """Run a command in this context. If it is interrupted, end it with one sentence and an exit code.

    An interrupt is raised as KeyboardInterrupt, so that work in progress is cleaned up. While a module is being
    imported, the process ends at once instead: an exception raised there may be lost, or replaced by another one.
    """
    _install()
    try:
        yield
    except BaseException as error:
        if not _received or (isinstance(error, SystemExit) and not error.code):
            raise
        _ignore()
        say(f"{SIGNALS[_received[0]]}; {AGAIN}")
        raise SystemExit(128 + _received[0]) from None
    finally:
        _ignore()  # the command is ending


def is_received() -> bool:
    """Return whether the command was interrupted."""
    return bool(_received)


def say(sentence: str) -> None:
    """Print the last sentence of an interrupted command, unless one was printed before."""
    if not _printed:
        _printed.append(sentence)
        print(sentence, file=sys.stderr, flush=True)


def _install() -> None:
    """Handle the signals, except those that the parent process ignores."""
    for number in SIGNALS:
        # A signal that the parent process (for example nohup) ignores stays ignored. A handler that was installed
        # when Python started, as the coverage tool does, is replaced: it would end the command without a sentence.
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable


def _ignore() -> None:
    """Ignore further signals: the command is ending."""
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Note the signal and raise KeyboardInterrupt; end the process at once if a module is being imported."""
    _received.append(number)
    if _is_loading(frame):
        _leave()
    raise KeyboardInterrupt


def _on_unraisable(problem: sys.UnraisableHookArgs) -> None:
    """End the process if an interrupt came during a destructor or a callback, where Python would only print it."""
    if _received and isinstance(problem.exc_value, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(problem)


def _is_loading(frame: FrameType | None) -> bool:
    """Return whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave() -> NoReturn:
    """End the process now: remove the files that are only partly written, and print the last sentence."""
    _ignore()
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
    writing = sys.modules.get("lxcompress.writing")
    if writing is not None and hasattr(writing, "remove_own"):  # False while that module is being imported
        writing.remove_own()
    say(f"{SIGNALS[_received[0]]}; {AGAIN}")
    os._exit(128 + _received[0])
