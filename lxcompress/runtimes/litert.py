"""The runtime of LiteRT files (.tflite): LiteRT's interpreter, with XNNPACK on the CPU.

A file answers one question of one shape. The questions of a batch are answered one after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.output import command_line
from lxcompress.quiet import hide_native_stderr
from lxcompress.runtimes.feeds import check_feeds, check_scores
from lxcompress.text import first_line

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as problem:
    raise MeasureError(
        f"runtime litert: its library cannot be imported ({problem}); install it with: pip install 'lxcompress[litert]'"
    ) from None

MODEL_FILE = "model.tflite"
_HEAD_BYTES, _IDENTIFIER = 8, b"TFL3"
"""The size of the start of a file, and the last four bytes of it."""


@dataclass(frozen=True)
class LitertSession:
    """A loaded file. `inputs` maps the name of an input to LiteRT's description of it, `output` describes the scores.

    A description has the index, the shape and the dtype of the tensor.
    """

    path: Path
    interpreter: Interpreter
    inputs: Mapping[str, Mapping[str, Any]]
    output: Mapping[str, Any]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`; they are answered one at a time.

        Raises MeasureError for inputs of another shape than the file's.
        """
        rows = self._count_rows(feeds)
        step = next(iter(self.inputs.values()))["shape"][0]
        scores = [
            self._answer_one({name: array[start : start + step] for name, array in feeds.items()})
            for start in range(0, rows, step)
        ]
        return check_scores(self.path, np.concatenate(scores).astype(np.float32, copy=False))

    def _answer_one(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, [1, A], of one question."""
        try:
            for name, about in self.inputs.items():
                self.interpreter.set_tensor(about["index"], feeds[name].astype(about["dtype"], copy=False))
            self.interpreter.invoke()
            return self.interpreter.get_tensor(self.output["index"])
        except (RuntimeError, ValueError) as problem:
            raise MeasureError(
                f"{self.path}: LiteRT failed while answering ({first_line(problem)}); export it again with this "
                "version of lxcompress"
            ) from problem

    def _count_rows(self, feeds: Mapping[str, np.ndarray]) -> int:
        """Return the number of rows that all arrays in `feeds` have.

        Raises MeasureError for arrays that the file does not take.
        """
        check_feeds(self.path, feeds, self.inputs)
        rows = len(next(iter(feeds.values())))
        for name, about in self.inputs.items():
            step, *sizes = (int(size) for size in about["shape"])
            if feeds[name].shape != (rows, *sizes) or rows % step or not rows:
                raise MeasureError(
                    f"{self.path}: takes {name} of exactly {_size((step, *sizes))}, {step} rows per question, but was "
                    f"given {_size(feeds[name].shape)}; keep its artifact.json next to it, by which shorter questions "
                    "are padded, or export the model with --fixed of that size"
                )
        return rows


def open_litert(path: Path, *, threads: int) -> LitertSession:
    """Load the file at `path`, or in the folder `path`, to compute on `threads` threads. Raises MeasureError."""
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise MeasureError(
            f"{file}: no such file; make it with: "
            f"{command_line('export', 'TICKET', '--format', 'litert', '--out', path)}"
        )
    with file.open("rb") as opened:
        if opened.read(_HEAD_BYTES)[4:] != _IDENTIFIER:
            raise MeasureError(f"{file}: is not a LiteRT file; export it again")
    with hide_native_stderr():  # LiteRT says there that it uses XNNPACK
        try:
            interpreter = Interpreter(str(file), num_threads=threads)
            interpreter.allocate_tensors()
            signatures = interpreter.get_signature_list()
            runner = interpreter.get_signature_runner(next(iter(signatures))) if signatures else None
        except Exception as problem:  # LiteRT raises ValueError and RuntimeError, its bindings raise others
            raise MeasureError(
                f"{file}: LiteRT cannot load it ({first_line(problem)}); export or copy it again"
            ) from problem
    outputs = list(runner.get_output_details().values()) if runner else []
    if runner is None or len(outputs) != 1:
        raise MeasureError(
            f"{file}: has {len(outputs)} named outputs, expected one; export it again with this version of lxcompress"
        )
    return LitertSession(file, interpreter, runner.get_input_details(), outputs[0])


def _size(shape: tuple[int, ...]) -> str:
    """Return a shape in words, such as 1 x 20."""
    return " x ".join(str(size) for size in shape)
