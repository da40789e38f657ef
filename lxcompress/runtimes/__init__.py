"""Runtimes: the libraries that load an exported file and answer questions with it, all with the same interface."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lxcompress.catalog.extensions import resolve
from lxcompress.catalog.formats import format_names, is_format
from lxcompress.catalog.runtimes import find_runtime_spec, is_runtime, list_serving, runtime_names
from lxcompress.errors import MeasureError

if TYPE_CHECKING:
    import numpy as np

# Shapes: B batch, L tokens, O regions, F features, A answers.


class Session(Protocol):
    """An exported file that is loaded and ready to answer."""

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`.

        `feeds` has the arrays input_ids and attention_mask, int64 [B, L]; visual_feats, float32 [B, O, F]; visual_pos,
        float32 [B, O, 4], boxes x1 y1 x2 y2 in 0-1; visual_attention_mask, int64 [B, O]. Raises MeasureError if the
        file has other inputs.
        """
        ...


class OpenFile(Protocol):
    """The function of a runtime that loads a file."""

    def __call__(self, path: Path, *, threads: int) -> Session:
        """Load the artifact at `path`; return a Session that uses `threads` threads. Raises MeasureError."""
        ...


def open_session(path: Path, *, threads: int, runtime: str = "onnxruntime") -> Session:
    """Load an artifact with `runtime`; return a session that uses `threads` threads.

    `path` is the artifact's folder or its model file. Raises MeasureError for an unknown runtime, or a file that the
    runtime cannot load.
    """
    if threads < 1:
        raise MeasureError(f"threads: expected 1 or more, got {threads}; give --threads 1")
    return load_runtime(runtime)(path, threads=threads)


def load_runtime(name: str) -> OpenFile:
    """Import a runtime, and return the function of the runtime that loads a file.

    Raises MeasureError if there is no such runtime, or if its library is not installed.
    """
    if not is_runtime(name):
        raise MeasureError(f"runtime {name}: is unknown; expected one of: {', '.join(sorted(runtime_names()))}")
    check_library(name)
    return partial(_open_file, resolve(find_runtime_spec(name).open))


def _open_file(open_file: OpenFile, path: Path, *, threads: int) -> Session:
    """Load a file with the function of a runtime; a file of fixed shape gets its questions padded."""
    from lxcompress.runtimes.fixed import open_as_recorded  # here, because it imports numpy

    return open_as_recorded(open_file(path, threads=threads), path)


def check_library(name: str) -> None:
    """Raise MeasureError if the library of a known runtime is not installed."""
    missing = find_runtime_spec(name).find_missing()
    if missing:
        raise MeasureError(f"runtime {name}: {missing}")


def runtimes_of(format: str) -> tuple[str, ...]:
    """Return the names of the runtimes that serve a format, the default first.

    Raises MeasureError for an unknown format.
    """
    if not is_format(format):
        known = ", ".join(sorted(format_names()))
        raise MeasureError(
            f"format {format}: no runtime of this lxcompress serves it (it knows: {known}); "
            "upgrade lxcompress, or export with --onnx"
        )
    return list_serving(format)


def runtime_of(format: str) -> str:
    """Return the name of a format's default runtime. Raises MeasureError if no runtime serves the format."""
    found = runtimes_of(format)
    if not found:
        raise MeasureError(f"format {format}: nothing on this machine can run it; measure it on a device that does")
    return found[0]
