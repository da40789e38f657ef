"""The runtime of bitmask artifacts and transformers folders: torch on the CPU, directly or through torch.compile.

Weights and arithmetic are float32 for every stored precision. So the answers differ from those of the ticket only by
the rounding of the stored values. float16 would halve the memory and take several times as long (whole LXMERT, Zen 4).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lxcompress.data.split import INPUT_NAMES, Inputs
from lxcompress.errors import LxError, MeasureError
from lxcompress.models.checkpoints import Model, read_model
from lxcompress.models.flops import make_example
from lxcompress.quiet import quiet
from lxcompress.runtimes.feeds import check_feeds, check_scores

_TOKENS, _OBJECTS = 5, 7
"""The number of tokens and of regions of the question that is compiled.

The two numbers differ, because torch.compile takes two equal sizes for one size.
"""


@dataclass(frozen=True)
class TorchSession:
    """A loaded model. torch uses `threads` threads while the model answers, and its earlier number otherwise."""

    path: Path
    model: Model
    compute: Callable[[Inputs], Tensor]
    threads: int

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`.

        Raises MeasureError if the model has other inputs, and for NaN or infinity in inputs or scores.
        """
        check_feeds(self.path, feeds, INPUT_NAMES)
        try:
            with held_to(self.threads), torch.inference_mode():
                scores = self.compute(Inputs(**{name: torch.from_numpy(array) for name, array in feeds.items()}))
        except (RuntimeError, IndexError, ValueError, TypeError) as problem:
            raise MeasureError(
                f"{self.path}: torch {torch.__version__} failed while answering ({_say(problem)}); "
                "give inputs of the sizes that artifact.json names"
            ) from problem
        return check_scores(self.path, scores.numpy())


def open_torch(path: Path, *, threads: int) -> TorchSession:
    """Load the model of a bitmask artifact or a transformers folder. Raises MeasureError.

    `path` is the folder, or a file in the folder.
    """
    folder = path.parent if path.is_file() else path
    with held_to(threads):
        try:
            # Checksums are not verified here, so that the load time has no hashing in it; the caller verified them.
            model = read_model(folder)
        except LxError as problem:
            raise MeasureError(str(problem)) from None
    return TorchSession(path, model, lambda inputs: model.family.answer(model.module, inputs), threads)


def open_compiled(path: Path, *, threads: int) -> TorchSession:
    """Load the model and compile it with torch.compile, so that the load time includes the compilation.

    The numbers of tokens and regions are dynamic. Otherwise torch would compile the model again for each of the dozen
    lengths of questions in a data set, and each time would take as long. The first batch with more than one question is
    compiled when it is answered, because torch treats an axis of size 1 as constant. Raises MeasureError.
    """
    _check_compiler(path)
    session = open_torch(path, threads=threads)
    with quiet():  # torch.compile imports libraries that warn
        compiled = torch.compile(session.compute, dynamic=True)

    def compute(inputs: Inputs) -> Tensor:
        with quiet():
            return compiled(inputs)

    try:
        with held_to(threads), torch.inference_mode():
            compute(make_example(session.model, tokens=_TOKENS, objects=_OBJECTS))
    except Exception as problem:  # a compiler raises errors of many types
        raise MeasureError(
            f"{path}: torch.compile cannot compile it here ({_say(problem, lines=2)}); give the runtime torch instead"
        ) from problem
    return TorchSession(path, session.model, compute, threads)


@contextlib.contextmanager
def held_to(threads: int) -> Iterator[None]:
    """Set the number of threads that torch uses within one operation to `threads`, inside the `with` block.

    torch has a second number, for running several operations at once. It can be set only once in a process, and is not
    used here.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_compiler(path: Path) -> None:
    """Raise MeasureError if the C++ compiler that torch.compile calls is not installed."""
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(wanted) is None:
        raise MeasureError(
            f"{path}: torch.compile needs a C++ compiler, and there is no {wanted}; install it (on Debian: apt install "
            "g++), or give the runtime torch instead"
        )


def _say(problem: Exception, *, lines: int = 1) -> str:
    """Return the first `lines` lines of an error's message as one line."""
    kept_lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return ", ".join(kept_lines[:lines]) or type(problem).__name__
