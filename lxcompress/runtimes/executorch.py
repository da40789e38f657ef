"""The runtime of ExecuTorch programs (.pte): ExecuTorch's C++ runtime, with XNNPACK on the CPU.

A program answers one question at a time, so the questions of a batch are answered one after another. A question may
have any number of tokens and regions up to the program's bounds. The inputs of a program have no names; they are in the
order of INPUTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.output import command_line
from lxcompress.quiet import hide_native_stderr
from lxcompress.runtimes.feeds import check_feeds, check_scores
from lxcompress.text import first_line

try:
    import torch

    # The documented module portable_lib is a wrapper of this one, and imports ExecuTorch's exporter too. That takes
    # 140 MB and seconds, which must not count as cost of a measured process. This module needs torch's libraries to be
    # loaded first.
    from executorch.extension.pybindings import _C as library  # noqa: N811
except ImportError as problem:
    raise MeasureError(
        f"runtime executorch: its library cannot be imported ({problem}); install it with: "
        "pip install 'lxcompress[executorch]'"
    ) from None

MODEL_FILE = "model.pte"
METHOD = "forward"
INPUTS = ("input_ids", "attention_mask", "visual_feats", "visual_pos", "visual_attention_mask")
PICTURE = "picture"
"""The input of an exported extractor, which has no other."""
_HEAD_BYTES = 40
"""The bytes at the start of a program: a flatbuffer's root and identifier, and ExecuTorch's extended header.

The extended header has the size of the flatbuffer, the start of the segments, and their size.
"""

Made = TypeVar("Made")


@dataclass(frozen=True)
class ExecutorchSession:
    """A loaded program. `bounds` maps the name of an input to its largest shape, for one question."""

    path: Path
    module: Any
    bounds: Mapping[str, tuple[int, ...]]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`; they are answered one at a time.

        Raises MeasureError for inputs that do not fit the program.
        """
        rows = self._count_rows(feeds)
        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self.bounds]
        step = next(iter(self.bounds.values()))[0]
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
        """Return the number of rows that all arrays in `feeds` have.

        Raises MeasureError for arrays that the program does not take; the program itself would only report them on
        standard error.
        """
        check_feeds(self.path, feeds, self.bounds)
        rows = len(feeds[next(iter(self.bounds))])
        for name, bound in self.bounds.items():
            if not _fits(feeds[name].shape, bound, rows):
                raise MeasureError(
                    f"{self.path}: takes {name} of at most {_size(bound)}, {bound[0]} rows per question, but was given "
                    f"{_size(feeds[name].shape)}; give shorter questions, or export the model with data of that size"
                )
        return rows


def open_executorch(path: Path, *, threads: int) -> ExecutorchSession:
    """Load the program at `path`, or in the folder `path`. Raises MeasureError.

    `threads` is the number of threads of all ExecuTorch programs in this process.
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
    inputs = (PICTURE,) if meta.num_inputs() == 1 else INPUTS
    if meta.num_inputs() != len(inputs) or meta.num_outputs() != 1:
        raise MeasureError(
            f"{program}: takes {meta.num_inputs()} inputs, expected {len(INPUTS)}; export it again with this version "
            "of lxcompress"
        )
    bounds = {name: tuple(meta.input_tensor_meta(index).sizes()) for index, name in enumerate(inputs)}
    return ExecutorchSession(program, module, bounds)


def has_xnnpack() -> bool:
    """Return whether this build of ExecuTorch has XNNPACK, which exported programs need."""
    return library._is_available("XnnpackBackend")


def _thorough() -> Any:
    """Return the option that makes ExecuTorch check the whole structure of a program when it loads the program.

    A damaged program would crash the process later.
    """
    return library.Verification.InternalConsistency


def _check_whole(program: Path) -> None:
    """Raise MeasureError for a file that is not a program, or is shorter than its header says.

    The runtime maps the weights into memory, and would crash when it reads weights that are missing.
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
    """Call `make` and return its result. Raises MeasureError, with the runtime's last message, if `make` fails."""
    with hide_native_stderr() as last:  # when the runtime starts its threads, it prints how many processors it counts
        try:
            return make()
        except Exception as problem:  # the runtime raises RuntimeError, its bindings raise others
            words = last() or first_line(problem)
            raise MeasureError(f"{program}: ExecuTorch cannot load it ({words}); export it again") from problem


def _fits(shape: tuple[int, ...], bound: tuple[int, ...], rows: int) -> bool:
    """Return whether an input of this shape fits its bound.

    It must have `rows` rows, which are whole questions, at most as many tokens or regions as the bound, and exactly the
    bound's number of features.
    """
    if len(shape) != len(bound) or shape[0] != rows or rows % bound[0]:
        return False
    return (
        all(0 < size <= most for size, most in zip(shape, (rows, *bound[1:]), strict=True)) and shape[2:] == bound[2:]
    )


def _size(shape: tuple[int, ...]) -> str:
    """Return a shape in words, such as 1 x 20."""
    return " x ".join(str(size) for size in shape)
