"""ExecuTorch programs (.pte), served by its own C++ runtime and XNNPACK on the CPU.

A program answers one question at a time, of any number of tokens and regions up to its bounds: the questions of a batch
follow each other. The program's inputs have no names; they stand in the order of INPUTS.
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

    # The documented portable_lib brings ExecuTorch's exporter along: 140 MB and seconds that a measured process shall
    # not be charged with. What it offers is this module, which needs torch's libraries to be loaded before it.
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
"""A flatbuffer's root and identifier, then the extended header: where its segments start, and their size."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class ExecutorchSession:
    """A program, loaded; `bounds` are the largest shapes of its inputs, whose rows are those of one question."""

    path: Path
    module: Any
    bounds: Mapping[str, tuple[int, ...]]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores, float32 [B, A], of `feeds`, a question at a time. Raises MeasureError for inputs that do not fit."""
        rows = self._count_rows(feeds)
        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in INPUTS]
        step = self.bounds[INPUTS[0]][0]
        try:
            scores = [
                self.module.forward([each[start : start + step] for each in tensors])[0]
                for start in range(0, rows, step)
            ]
        except Exception as problem:  # the runtime raises RuntimeError, its bindings others
            raise MeasureError(
                f"{self.path}: ExecuTorch failed while answering ({first_line(problem)}); export it again with this "
                "version of lxcompress"
            ) from problem
        return check_scores(self.path, torch.cat(scores).numpy().astype(np.float32, copy=False))

    def _count_rows(self, feeds: Mapping[str, np.ndarray]) -> int:
        """The rows of all feeds. Raises MeasureError for feeds that the program does not take: it would say so itself
        on standard error, in its own lines."""
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
    """The program at `path`, or in the folder `path`; `threads` holds for all programs of this process.

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
    bounds = {name: tuple(meta.input_tensor_meta(place).sizes()) for place, name in enumerate(INPUTS)}
    return ExecutorchSession(program, module, bounds)


def has_xnnpack() -> bool:
    """Whether this build of ExecuTorch has the kernels that programs are written for."""
    return library._is_available("XnnpackBackend")


def _thorough() -> Any:
    """Checks the whole of a program's structure as it is loaded: a damaged one would crash the process later."""
    return library.Verification.InternalConsistency


def _check_whole(program: Path) -> None:
    """Raises MeasureError for what is no program, or less than its header tells of: the runtime maps its weights, and
    would crash on those that are not there."""
    with program.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[4:6] != b"ET" or head[8:12] != b"eh00" or len(head) < _HEAD_BYTES:
        raise MeasureError(f"{program}: is not an ExecuTorch program; export it again")
    size, start, segments = (int.from_bytes(head[place : place + 8], "little") for place in (16, 24, 32))
    expected, found = max(size, start + segments), program.stat().st_size
    if found < expected:
        raise MeasureError(
            f"{program}: is cut short (expected {expected} bytes, found {found}); export or copy it again"
        )


def _load(program: Path, make: Callable[[], Made]) -> Made:
    """What `make` returns; its failure, with the last that the runtime said, is a MeasureError."""
    with _diverted() as last:
        try:
            return make()
        except Exception as problem:  # as above
            words = last() or first_line(problem)
            raise MeasureError(f"{program}: ExecuTorch cannot load it ({words}); export it again") from problem


@contextmanager
def _diverted() -> Iterator[Callable[[], str]]:
    """Keeps what the C++ runtime writes to standard error off the terminal; the last line of it can be asked for.

    It tells there how many processors it counts whenever it starts its threads: some of it through Python, which may
    have another standard error than the process, and some of it past it.
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
    """Whether an input of so many rows, in whole questions, is within its bound; features are as many as they are."""
    if len(shape) != len(bound) or shape[0] != rows or rows % bound[0]:
        return False
    return (
        all(0 < size <= most for size, most in zip(shape, (rows, *bound[1:]), strict=True)) and shape[2:] == bound[2:]
    )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(each) for each in shape)
