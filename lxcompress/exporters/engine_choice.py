"""Which layout each matrix of an engine file gets: the one that takes least time, as measured where the file is made.

A layout that leaves zeros out does less and reads less, but pays for every weight's place; what wins depends on the
share of zeros, on the shape, on the number of columns and on the machine. So a part of each matrix is packed in every
layout that may win, and timed as the engine would run it, its weights coming from memory. Matrices of one shape and
about as many zeros are timed once.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lxcompress.engine import InferenceSession, is_built
from lxcompress.engine.pack import PackedWeight, blocks, dense, quantised, sparse
from lxcompress.engine.program import Program

Time = Callable[[Sequence[PackedWeight], int], Sequence[float]]
"""Seconds that a product with each of some weights takes, of so many columns."""

Lay = Callable[[np.ndarray], PackedWeight]
"""Packs a matrix, float32 [outputs, inputs]."""


@dataclass(frozen=True)
class LayoutChoice:
    """A layout; `leaves_out` names the share of count_shares that it gains by, None if it always serves.

    `hopeless` is the share up to which it was never the fastest one, and is not timed; `usual` the share from which it
    mostly is: what is gone by where nothing can be timed. Both as measured on 2 cores of an AMD server with AVX-512 and
    VNNI, 512 rows of 768 and 3072 weights, 1 to 56 columns.
    """

    name: str
    pack: Lay
    leaves_out: str | None = None
    hopeless: float = 0.0
    usual: float = 0.0

    def is_promising(self, shares: Mapping[str, float]) -> bool:
        """Whether it is worth timing."""
        return self.leaves_out is None or shares[self.leaves_out] > self.hopeless

    def is_usual(self, shares: Mapping[str, float]) -> bool:
        """Whether it mostly wins."""
        return self.leaves_out is None or shares[self.leaves_out] >= self.usual


def _by_weights(type: str, tile: int, *, hopeless: float, usual: float) -> LayoutChoice:
    return LayoutChoice("sparse", partial(sparse, type=type, tile=tile), "weights", hopeless, usual)


LAYOUTS: Mapping[str, Sequence[LayoutChoice]] = {
    "fp32": (
        _by_weights("fp32", 128, hopeless=0.15, usual=0.3),
        _by_weights("fp32", 256, hopeless=0.15, usual=0.3),
        LayoutChoice("dense", partial(dense, type="fp32")),
    ),
    "bf16": (
        _by_weights("bf16", 128, hopeless=0.15, usual=0.4),
        _by_weights("bf16", 256, hopeless=0.15, usual=0.4),
        LayoutChoice("dense", partial(dense, type="bf16")),
    ),
    "int8": (
        LayoutChoice("blocks", partial(blocks, tile=128), "blocks", hopeless=0.15, usual=0.4),
        LayoutChoice("blocks", partial(blocks, tile=256), "blocks", hopeless=0.15, usual=0.4),
        _by_weights("int8", 128, hopeless=0.7, usual=0.9),
        LayoutChoice("dense", quantised),
    ),
}
"""Precision -> its layouts: where nothing is timed, the first that fits. A tile of 128 inputs stays in the first cache
where there are many columns, a larger one has less to begin with where there are few. Activations are quantised for
int8, but for what is sparse by single weights."""
LEAST = 1 << 14
"""Matrices of fewer weights take no time that could be told apart: nothing is timed for them."""
BUCKET = 0.05
SAMPLE_ROWS, ROUNDS = 512, 5
FLUSH_BYTES = 64 << 20
"""More than a core's caches hold, so that each round's weights come from memory, as they do in a whole model."""


class LayoutChooser:
    """The layouts of a model's matrices, and how often each was chosen. Without `time`, LAYOUTS decide."""

    def __init__(self, precision: str, *, time: Time | None) -> None:
        self.chosen: Counter[str] = Counter()
        self._layouts, self._time = LAYOUTS[precision], time
        self._known: dict[tuple[int, ...], LayoutChoice] = {}

    def pack(self, weight: np.ndarray, columns: int) -> PackedWeight:
        """The matrix [outputs, inputs] in the layout that suits products of so many columns."""
        shares = count_shares(weight)
        key = (*weight.shape, columns, *(round(share / BUCKET) for share in shares.values()))
        if key not in self._known:
            self._known[key] = self._choose(weight, columns, shares)
        layout = self._known[key]
        self.chosen[layout.name] += 1
        return layout.pack(weight)

    def _choose(self, weight: np.ndarray, columns: int, shares: Mapping[str, float]) -> LayoutChoice:
        if self._time is None or weight.size < LEAST:
            return next(each for each in self._layouts if each.is_usual(shares))
        layouts = [each for each in self._layouts if each.is_promising(shares)]
        if len(layouts) == 1:
            return layouts[0]
        part = weight[:: -(-len(weight) // SAMPLE_ROWS)]
        seconds = self._time([each.pack(part) for each in layouts], columns)
        return layouts[int(np.argmin(seconds))]


def count_shares(weight: np.ndarray) -> dict[str, float]:
    """The shares of a matrix that are zeros: of its weights, and of its blocks of 1 x 4."""
    kept = np.pad(weight != 0, ((0, 0), (0, -weight.shape[1] % 4))).reshape(-1, 4)
    return {"weights": 1 - np.count_nonzero(weight) / weight.size, "blocks": 1 - float(kept.any(1).mean())}


def time_here() -> Time | None:
    """How long products take on this machine, with one thread; None where the engine was not built."""
    return _time_products if is_built() else None


def _time_products(candidates: Sequence[PackedWeight], columns: int) -> list[float]:
    """The least of some rounds, in which all take their turn: what else the machine does only ever adds time."""
    caches = np.zeros(FLUSH_BYTES // 4, np.float32)
    x = np.random.default_rng(0).standard_normal((1, columns, candidates[0].columns), np.float32)
    feeds = {"kept": np.ones((1, columns), np.int64), "x": x}
    taken: list[list[float]] = [[] for _ in candidates]
    with _sessions(candidates, columns) as sessions:
        for _ in range(ROUNDS + 1):
            for session, mine in zip(sessions, taken, strict=True):
                caches += 1
                start = time.perf_counter()
                session.run(None, feeds)
                mine.append(time.perf_counter() - start)
    return [min(mine[1:]) for mine in taken]  # the first round maps the file


@contextmanager
def _sessions(candidates: Sequence[PackedWeight], columns: int) -> Iterator[list[Any]]:
    """Sessions of programs of one product each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sessions = []
        for number, packed in enumerate(candidates):
            path = folder / f"{number}.lxe"
            program = Program()
            size = program.rows("kept", most=columns)
            program.scores(program.linear(program.load(program.floats("x", size, width=packed.columns)), packed))
            program.write(path)
            sessions.append(stack.enter_context(InferenceSession(path, threads=1)))
        yield sessions
