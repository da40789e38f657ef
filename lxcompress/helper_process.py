"""Helper processes: a second Python process that does a part of the work, and ends with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ENDING_S = 20
"""How long a process waits for its helper to end."""


@contextmanager
def helper_process(
    module: str, arguments: Sequence[str | Path], variables: Mapping[str, object], report: Callable[[str], None]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module arguments` beside the block, with the environment `variables`; end it with the block.

    `report` gets the reason in words if the helper ended with an error before.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **{name: str(value) for name, value in variables.items()}},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            yield process
        finally:
            code = process.poll()
            _end(process)
            if code:
                errors.seek(0)
                lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
                report(lines[-1] if lines else f"exit code {code}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a helper: close its standard input, and kill it if it does not end then."""
    assert process.stdin is not None, "a helper is started with a pipe"
    process.stdin.close()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_with_starter() -> None:
    """End this process when the process that started it ends, even if that is killed. Ctrl-C is left to that process.

    The standard input of a helper is a pipe, which is closed then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    """End this process when its standard input is closed."""
    sys.stdin.read()
    os._exit(0)
