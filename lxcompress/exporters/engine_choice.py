"""Choose the layout of each matrix of an engine file: the fastest one, as measured on this machine.

A layout without zeros does less work and reads less, but needs an index for every kept weight. Which layout is fastest
depends on the fraction of zeros, the shape of the matrix, the number of columns of the input, and the machine. So some
rows of each matrix are packed in every layout that may be fastest. The engine then multiplies with each, and reads the
weights from memory, not from a cache. Of several matrices with one shape and about the same fraction of zeros, only the
first is timed.
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
from lxcompress.engine.records import GROUP

Time = Callable[[Sequence[PackedWeight], int], Sequence[float]]
"""(packed matrices, columns of the input) -> the seconds of one product with each matrix."""

Lay = Callable[[np.ndarray], PackedWeight]
"""Packs a matrix, float32 [outputs, inputs]."""


UNITS: Mapping[str, tuple[int, int]] = {
    "1x1": (1, 1),
    "2x1": (2, 1),
    "4x1": (4, 1),
    "1x4": (1, 4),
    "2x4": (2, 4),
    "4x4": (4, 4),
}
"""The name of what a layout leaves out when all of its weights are zero -> its rows and columns."""


@dataclass(frozen=True)
class LayoutChoice:
    """A layout that a matrix can be stored in, and the fractions of zeros from which the layout is timed or chosen.

    `leaves_out` names one of UNITS; None for a dense layout, which fits every matrix. `hopeless` and `usual` are
    fractions (0-1) of units that are zero. Up to `hopeless` the layout was never the fastest, so it is not timed. From
    `usual` on it usually is the fastest, which decides where nothing can be timed. Both were measured on 2 cores of an
    AMD server with AVX-512 and VNNI, on 512 rows of 768 and of 3072 weights, with 1 to 56 columns.

    Rows that share an index store zeros of one row where another row has a weight. Such a layout names the unit of a
    single row in `finer`. It is timed if it stores at most TIMED times as many weights as that unit needs, and chosen
    without a measurement up to CHOSEN times.
    """

    name: str
    pack: Lay
    leaves_out: str | None = None
    hopeless: float = 0.0
    usual: float = 0.0
    finer: str | None = None

    def is_promising(self, shares: Mapping[str, float]) -> bool:
        """Return whether the layout may be the fastest for a matrix with these fractions of zeros, and is timed."""
        return self.leaves_out is None or (shares[self.leaves_out] > self.hopeless and self._stores(shares) <= TIMED)

    def is_usual(self, shares: Mapping[str, float]) -> bool:
        """Return whether the layout usually is the fastest for a matrix with these fractions of zeros."""
        return self.leaves_out is None or (shares[self.leaves_out] >= self.usual and self._stores(shares) <= CHOSEN)

    def _stores(self, shares: Mapping[str, float]) -> float:
        """Return the number of stored weights divided by the number that the unit of a single row would store."""
        if self.finer is None or self.leaves_out is None:
            return 1.0
        fewest = 1 - shares[self.finer]
        return (1 - shares[self.leaves_out]) / fewest if fewest else 1.0


TIMED, CHOSEN = 2.0, 1.25
"""Rows that share an index multiply one and a half to two times as fast, so more zeros than this do not pay."""


def _by_weights(type: str, tile: int, *, hopeless: float, usual: float) -> LayoutChoice:
    """Return the layout that leaves out single zeros, with tiles of `tile` inputs."""
    return LayoutChoice("sparse", partial(sparse, type=type, tile=tile), "1x1", hopeless, usual)


def _by_rows(name: str, pack: Callable[..., PackedWeight], columns: int) -> list[LayoutChoice]:
    """Return the layouts that leave out units of `columns` columns that are zero in 4, or in 2, neighbouring rows."""
    return [
        LayoutChoice(
            f"{name} of {rows} rows",
            partial(pack, tile=tile, shared=rows),
            f"{rows}x{columns}",
            hopeless=0.05,
            usual=usual,
            finer=f"1x{columns}",
        )
        for rows in (4, 2)
        for tile, usual in ((256, 0.75), (128, 0.1))
    ]


LAYOUTS: Mapping[str, Sequence[LayoutChoice]] = {
    "fp32": (
        *_by_rows("sparse", partial(sparse, type="fp32"), 1),
        _by_weights("fp32", 128, hopeless=0.15, usual=0.3),
        _by_weights("fp32", 256, hopeless=0.15, usual=0.3),
        LayoutChoice("dense", partial(dense, type="fp32")),
    ),
    "bf16": (
        *_by_rows("sparse", partial(sparse, type="bf16"), 1),
        _by_weights("bf16", 128, hopeless=0.15, usual=0.4),
        _by_weights("bf16", 256, hopeless=0.15, usual=0.4),
        LayoutChoice("dense", partial(dense, type="bf16")),
    ),
    "int8": (
        *_by_rows("blocks", blocks, 4),
        LayoutChoice("blocks", partial(blocks, tile=128), "1x4", hopeless=0.15, usual=0.4),
        LayoutChoice("blocks", partial(blocks, tile=256), "1x4", hopeless=0.15, usual=0.4),
        _by_weights("int8", 128, hopeless=0.7, usual=0.9),
        LayoutChoice("dense", quantised),
    ),
}
"""Precision -> the layouts to choose from; without a measurement, the first that `is_usual` is used.

With many columns a tile of 128 inputs is better, because it stays in the first-level cache. With few columns a tile of
256 is better, because there are fewer tiles to start. In int8 the activations are quantised too, except in the layout
"sparse", which leaves out single weights.
"""
LEAST = 1 << 14
"""The fewest weights of a matrix that is timed: products of smaller matrices are too short to compare."""
BUCKET = 0.05
"""The width of a range of fractions of zeros: matrices with one shape, range and number of columns share a layout."""
SAMPLE_ROWS, ROUNDS = 512, 5
"""The most rows of a matrix that are timed, and the rounds that count."""
FLUSH_BYTES = 64 << 20
"""More bytes than a core's caches hold. They are written before each product, so that it reads weights from memory."""


class LayoutChooser:
    """The choice of a layout for each matrix of a model. Without `time`, the fractions in LAYOUTS decide.

    `chosen` counts the matrices by the name of their layout.
    """

    def __init__(self, precision: str, *, time: Time | None) -> None:
        self.chosen: Counter[str] = Counter()
        self._layouts, self._time = LAYOUTS[precision], time
        self._known: dict[tuple[int, ...], LayoutChoice] = {}

    def pack(self, weight: np.ndarray, columns: int) -> PackedWeight:
        """Return the matrix [outputs, inputs], packed in the fastest layout for inputs of `columns` columns."""
        shares = count_shares(weight)
        key = (*weight.shape, columns, *(round(share / BUCKET) for share in shares.values()))
        if key not in self._known:
            self._known[key] = self._choose(weight, columns, shares)
        layout = self._known[key]
        self.chosen[layout.name] += 1
        return layout.pack(weight)

    def _choose(self, weight: np.ndarray, columns: int, shares: Mapping[str, float]) -> LayoutChoice:
        """Return the fastest layout, as measured on some rows of `weight`, or the usual one if it cannot be timed."""
        if self._time is None or weight.size < LEAST:
            return next(_layout for _layout in self._layouts if _layout.is_usual(shares))
        layouts = [_layout for _layout in self._layouts if _layout.is_promising(shares)]
        if len(layouts) == 1:
            return layouts[0]
        part = take_rows(weight, SAMPLE_ROWS)
        seconds = self._time([layout.pack(part) for layout in layouts], columns)
        return layouts[int(np.argmin(seconds))]


def take_rows(weight: np.ndarray, most: int) -> np.ndarray:
    """Return about `most` rows of the matrix, evenly spread, in bands of GROUP rows that may share indices."""
    bands = np.arange(0, len(weight), GROUP)[:: -(-len(weight) // most)]
    rows = (bands[:, None] + np.arange(GROUP)).reshape(-1)
    return weight[rows[rows < len(weight)]]


def count_shares(weight: np.ndarray) -> dict[str, float]:
    """Return the fraction (0-1) of each of UNITS that has zeros only in a matrix; those at its edges may be smaller."""
    rows, columns = weight.shape
    kept = np.pad(weight != 0, ((0, -rows % 4), (0, -columns % 4)))
    shares = {}
    for name, (height, width) in UNITS.items():
        parts = kept[: -(-rows // height) * height, : -(-columns // width) * width]
        found = parts.reshape(len(parts) // height, height, -1, width).any((1, 3))
        shares[name] = 1 - float(found.mean())
    return shares


def time_here() -> Time | None:
    """Return the function that times products on this machine with one thread; None if the engine was not built."""
    return _time_products if is_built() else None


def _time_products(candidates: Sequence[PackedWeight], columns: int) -> list[float]:
    """Time one product with each candidate in turn, for several rounds; return the shortest seconds of each.

    The shortest time is the best estimate, because other work on the machine only adds time.
    """
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
    """Yield one engine session for each candidate: a program of a single product, with inputs of `columns` columns."""
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
