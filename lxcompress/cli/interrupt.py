"""Interrupts: Ctrl-C, and the signals that end a session, stop a command in one sentence, at any moment of it.

Nothing heavy is imported here, so that this module is at work before anything else is loaded.
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
"""Signal -> what it does to a command. The exit code is 128 and the signal's number, as a shell has it."""
AGAIN = "give the same command again"
_SHOW_CURSOR = "\x1b[?25h"

_received: list[int] = []
_said: list[str] = []


@contextmanager
def caught() -> Iterator[None]:
    """Around a whole command: end an interrupted one with a sentence and its exit code, whatever came of the interrupt.

    An interrupt is raised as KeyboardInterrupt, by which work in progress is tidied up. While a module is loading the
    command ends at once: what is raised there may come back as any error, or as none.
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
        _ignore()  # what is left to do is to end


def is_received() -> bool:
    """Whether the command was interrupted."""
    return bool(_received)


def say(sentence: str) -> None:
    """Print the sentence that an interrupted command ends with, unless there was one."""
    if not _said:
        _said.append(sentence)
        print(sentence, file=sys.stderr, flush=True)


def _install() -> None:
    for number in SIGNALS:
        # Where the parent had it ignored, as nohup does, it stays so.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable


def _ignore() -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if _is_loading(frame):
        _leave()
    raise KeyboardInterrupt


def _on_unraisable(problem: sys.UnraisableHookArgs) -> None:
    """An interrupt that hit a destructor or a callback would be printed and forgotten."""
    if _received and isinstance(problem.exc_value, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(problem)


def _is_loading(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave() -> NoReturn:
    """End the process now, with its sentence; remove what it was writing."""
    _ignore()
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
    writing = sys.modules.get("lxcompress.writing")
    if writing is not None and hasattr(writing, "remove_own"):  # not while it is itself loading
        writing.remove_own()
    say(f"{SIGNALS[_received[0]]}; {AGAIN}")
    os._exit(128 + _received[0])
