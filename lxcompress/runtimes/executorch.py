"""ExecuTorch programs (.pte), served by ExecuTorch's C++ runtime and XNNPACK on the CPU.

A program answers one question at a time, of any number of tokens and regions up to its bounds, so the questions of a
batch are answered in turn. The program's inputs have no names; they are in the order of INPUTS.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.output import command_line
from lxcompress.runtimes.feeds import check_feeds, check_scores
from lxcompress.text import first_line

try:
    import torch

    # The documented portable_lib imports ExecuTorch's exporter too: 140 MB and seconds that must not count as cost of
    # a measured process. It is a wrapper of this module, which needs torch's libraries to be loaded first.
    from executorch.extension.pybindings import _C as library  # noqa: N811
except ImportError as problem:
    raise MeasureError(
        f"runtime executorch: its library cannot be imported ({problem}); add it with: "
        "pip install 'lxcompress[executorch]'"
    ) from None

MODEL_FILE = "model.pte"
METHOD = "forward"
INPUTS = ("input_ids", "attention_mask", "visual_feats", "visual_pos", "visual_attention_mask")
_STDERR = 2
_HEAD_BYTES = 40
"""The bytes of a flatbuffer's root and identifier, and of the extended header: where its segments start, their size."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class ExecutorchSession:
    """A program that is loaded; `bounds` are the largest shapes of its inputs, whose rows are those of one question."""

    path: Path
    module: Any
    bounds: Mapping[str, tuple[int, ...]]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of `feeds`, one question at a time. Raises MeasureError for inputs that do
        not fit.
        """
        rows = self._count_rows(feeds)
        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in INPUTS]
        step = self.bounds[INPUTS[0]][0]
        try:
            scores = [
                self.module.forward([tensor[start : start + step] for tensor in tensors])[0]
                for start in range(0, rows, step)
            ]
        except Exception as problem:  # the runtime raises RuntimeError, its bindings raise others
            raise MeasureError(
                f"{self.path}: ExecuTorch failed while answering ({first_line(problem)}); export it again with this "
                "version of lxcompress"
            ) from problem
        return check_scores(self.path, torch.cat(scores).numpy().astype(np.float32, copy=False))

    def _count_rows(self, feeds: Mapping[str, np.ndarray]) -> int:
        """Return the rows of all feeds. Raises MeasureError for feeds that the program does not take.

        The program itself would only report them on standard error.
        """
        check_feeds(self.path, feeds, INPUTS)
        rows = len(feeds[INPUTS[0]])
        for name, bound in self.bounds.items():
            if not _fits(feeds[name].shape, bound, rows):
                raise MeasureError(
                    f"{self.path}: takes {name} of {_size(bound)} at most, {bound[0]} rows a question, but was given "
                    f"{_size(feeds[name].shape)}; ask shorter, or export the model with data of that size"
                )
        return rows


def open_executorch(path: Path, *, threads: int) -> ExecutorchSession:
    """Load the program at `path`, or in the folder `path`; `threads` applies to all programs of this process.

    Raises MeasureError.
    """
    program = path / MODEL_FILE if path.is_dir() else path
    if not program.is_file():
        raise MeasureError(
            f"{program}: no such file; make it with: "
            f"{command_line('export', 'TICKET', '--format', 'executorch', '--out', path)}"
        )
    _check_whole(program)
    module = _load(program, lambda: library._load_for_executorch(str(program), program_verification=_thorough()))
    _load(program, lambda: library._unsafe_reset_threadpool(threads))
    meta = _load(program, lambda: module.method_meta(METHOD))
    if meta.num_inputs() != len(INPUTS) or meta.num_outputs() != 1:
        raise MeasureError(
            f"{program}: takes {meta.num_inputs()} inputs, expected {len(INPUTS)}; export it again with this version "
            "of lxcompress"
        )
    bounds = {name: tuple(meta.input_tensor_meta(index).sizes()) for index, name in enumerate(INPUTS)}
    return ExecutorchSession(program, module, bounds)


def has_xnnpack() -> bool:
    """Return whether this build of ExecuTorch has the kernels that programs are written for."""
    return library._is_available("XnnpackBackend")


def _thorough() -> Any:
    """Load a program and check its whole structure: a damaged one would crash the process later."""
    return library.Verification.InternalConsistency


def _check_whole(program: Path) -> None:
    """Raise MeasureError for a file that is not a program, or is shorter than its header says.

    The runtime maps its weights into memory, and would crash on missing ones.
    """
    with program.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[4:6] != b"ET" or head[8:12] != b"eh00" or len(head) < _HEAD_BYTES:
        raise MeasureError(f"{program}: is not an ExecuTorch program; export it again")
    size, start, segments = (int.from_bytes(head[index : index + 8], "little") for index in (16, 24, 32))
    expected, found = max(size, start + segments), program.stat().st_size
    if found < expected:
        raise MeasureError(
            f"{program}: is cut short (expected {expected} bytes, found {found}); export or copy it again"
        )


def _load(program: Path, make: Callable[[], Made]) -> Made:
    """Return what `make` returns; raise MeasureError with the runtime's last message if it fails."""
    with _diverted() as last:
        try:
            return make()
        except Exception as problem:  # as above
            words = last() or first_line(problem)
            raise MeasureError(f"{program}: ExecuTorch cannot load it ({words}); export it again") from problem


@contextmanager
def _diverted() -> Iterator[Callable[[], str]]:
    """Hide what the C++ runtime writes to standard error, and make its last line available.

    When it starts its threads it prints how many processors it counts: partly through Python, whose standard error may
    be another one than the process's, and partly directly.
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


def _fits(shape: tuple[int, ...], bound: tuple[int, ...], rows: int) -> bool:
    """Return whether an input with `rows` rows, in whole questions, is within its bound; the features must be equal."""
    if len(shape) != len(bound) or shape[0] != rows or rows % bound[0]:
        return False
    return (
        all(0 < size <= most for size, most in zip(shape, (rows, *bound[1:]), strict=True)) and shape[2:] == bound[2:]
    )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
