"""Silence for other libraries: their warnings, logs and progress bars that no user can act on."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partialmethod

_STDERR = 2


@contextmanager
def quiet(*loggers: str, level: int = logging.ERROR) -> Iterator[None]:
    """Hide all Python warnings, and the messages below `level` of these loggers and of their children."""
    with quiet_loggers(*loggers, level=level), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def quiet_loggers(*names: str, level: int = logging.ERROR) -> Iterator[None]:
    """Hide the messages below `level` of these loggers and of their children."""
    known = tuple(logging.root.manager.loggerDict)
    found = [logger for name in names for logger in (name, *(child for child in known if child.startswith(f"{name}.")))]
    levels = {name: logging.getLogger(name).level for name in found}
    try:
        for name in found:
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


@contextmanager
def quiet_root_logger() -> Iterator[None]:
    """Hide what is logged through the root logger, and remove the handlers that a library adds to it meanwhile."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def quiet_tqdm() -> Iterator[None]:
    """Hide the progress bars that a library draws with tqdm; standard error itself stays, for our own progress."""
    from tqdm import tqdm

    shown = tqdm.__init__
    tqdm.__init__ = partialmethod(shown, disable=True)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        tqdm.__init__ = shown  # type: ignore[method-assign]


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Hide the progress bars and the retry messages of the Hugging Face hub."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    level, hidden = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not hidden and not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not hidden:
            enable_progress_bars()


@contextmanager
def hide_native_stderr() -> Iterator[Callable[[], str]]:
    """Hide what a library in C++ writes to standard error; yield a function that returns the last line of it.

    A library may print through Python's sys.stderr and to the standard error of the process, which may be two different
    streams.
    """
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    with tempfile.TemporaryFile() as file, redirect_stderr(io.StringIO()) as heard:

        def last() -> str:
            file.seek(0)
            lines = (file.read().decode("utf-8", errors="replace") + heard.getvalue()).strip().splitlines()
            return lines[-1].strip() if lines else ""

        os.dup2(file.fileno(), _STDERR)
        try:
            yield last
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
