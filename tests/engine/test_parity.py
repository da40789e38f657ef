"""The C engine against the slow reference: each layout, type, number of columns, instruction set, number of threads.

A file's scores are the first column of a value; here of a slice that starts where a second mask says, so that a batch
of one question for each column shows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import ModelFile, instruction_sets, pack
from lxcompress.engine.pack import PackedWeight
from lxcompress.engine.program import POSITION, Program, Size, Value
from lxcompress.errors import MeasureError
from tests.complain import complain
from tests.engine.reference import Reference

SETS = instruction_sets()
COLUMNS = (1, 5, 16, 17, 20, 36, 56, 70)
MOST = max(COLUMNS)
PACKERS: dict[str, Callable[..., PackedWeight]] = {
    f"{layout} {type}": lambda weight, layout=layout, type=type, **cut: getattr(pack, layout)(weight, type, **cut)
    for layout in ("dense", "sparse")
    for type in pack.PRECISIONS
} | {"quantised": pack.quantised, "blocks": pack.blocks}
PACKERS |= {
    f"sparse {type} of {rows} rows": partial(pack.sparse, type=type, shared=rows)
    for type in ("fp32", "bf16")
    for rows in (2, 4)
} | {f"blocks of {rows} rows": partial(pack.blocks, shared=rows) for rows in (2, 4)}
FLOATS = [name for name in PACKERS if not name.startswith(("quantised", "blocks"))]
Feeds = dict[str, np.ndarray]


class Case:
    """A file, and what the reference says to questions, once for all instruction sets."""

    def __init__(self, path: Path) -> None:
        self.path, self.reference = path, Reference(path)
        self.known: dict[object, np.ndarray] = {}

    def expect(self, feeds: Feeds) -> np.ndarray:
        key = tuple((name, value.shape, hash(value.tobytes())) for name, value in feeds.items())
        if key not in self.known:
            self.known[key] = self.reference.run(feeds)
        return self.known[key]


def weigh(rng: np.random.Generator, rows: int, columns: int, sparsity: float) -> np.ndarray:
    weight = rng.normal(size=(rows, columns)) * columns**-0.5
    weight[rng.random(weight.shape) < sparsity] = 0
    weight[rng.random(rows) < 0.1] = 0
    return weight.astype(np.float32)


def bias_of(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.normal(size=rows).astype(np.float32)


def show(program: Program, value: Value) -> None:
    """One column is the answer: as many as the mask `pick` keeps, less one, come before it."""
    pick = program.rows("pick", 2 * MOST)
    program.scores(value.take(start=program.sum(pick, add=-1), columns=program.constant(1)))


def pick_columns(feeds: Feeds, columns: int, picked: Sequence[int] = ()) -> Feeds:
    """A question for each column of `picked`, or for each one.

    Of more than 20 columns it is one for the edges of each vector of 16, and two of five: the columns of a vector are
    computed by the same instructions.
    """
    known = [column for column in range(columns) if columns <= 20 or column % 16 in (0, 15) or column % 5 in (0, 4)]
    chosen = list(picked) or known
    repeated = {name: np.repeat(value[None], len(chosen), 0) for name, value in feeds.items()}
    return repeated | {"pick": np.tri(columns, dtype=np.int64)[chosen]}


def answer(case: Case, feeds: Feeds, instructions: str) -> np.ndarray:
    """What one thread says; that two and three say the same, to the bit, is asked of three questions of the batch."""
    model = ModelFile(case.path)
    with model.session(instructions=instructions) as session:
        scores = session.run(None, feeds)[0]
    few = sorted({0, len(scores) // 2, len(scores) - 1})
    for threads in (2, 3):
        with model.session(threads=threads, instructions=instructions) as session:
            again = session.run(None, {name: value[few] for name, value in feeds.items()})[0]
            assert again.tobytes() == scores[few].tobytes()
    return scores


def compare(case: Case, feeds: Feeds, instructions: str, within: float = 1e-5) -> None:
    expected = case.expect(feeds)
    found = answer(case, feeds, instructions)
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() <= within * max(1.0, np.abs(expected).max())


SHAPES = (
    {"rows": 7, "columns": 1, "sparsity": 0.0},
    {"rows": 1, "columns": 37, "sparsity": 0.5},
    {"rows": 131, "columns": 30, "sparsity": 0.5, "activation": "gelu"},
    {"rows": 20, "columns": 259, "sparsity": 0.9, "activation": "tanh", "residual": True},
    {"rows": 38, "columns": 1030, "sparsity": 0.7, "activation": "relu", "panel": 8},
    {"rows": 8, "columns": 12, "sparsity": 1.0, "residual": True},
)


def write_linear(path: Path, name: str, number: int) -> Case:
    """One product of a kind: y = activation(W x + bias + residual), all columns shown."""
    rng = np.random.default_rng(number)
    about = SHAPES[number]
    rows, columns = about["rows"], about["columns"]
    program = Program()
    tokens = program.rows("mask", MOST)
    x = program.load(program.floats("x", tokens, columns))
    residual = program.load(program.floats("beside", tokens, rows)) if "residual" in about else None
    weight = PACKERS[name](weigh(rng, rows, columns, about["sparsity"]), panel=about.get("panel", 128))
    bias = bias_of(rng, rows) if number % 2 else None
    show(program, program.linear(x, weight, bias, residual, about.get("activation")))
    program.write(path)
    return Case(path)


@pytest.fixture(scope="module")
def linears(tmp_path_factory) -> dict[str, list[Case]]:
    folder = tmp_path_factory.mktemp("linears")
    return {
        name: [write_linear(folder / f"{name}-{number}.lxe", name, number) for number in range(len(SHAPES))]
        for name in PACKERS
    }


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("name", PACKERS)
def test_a_product_is_the_references(linears: dict[str, list[Case]], name: str, instructions: str) -> None:
    """A third of the numbers of columns for each shape: all of them over the shapes of a set, and over the packers."""
    check_products(linears[name], instructions, first=list(PACKERS).index(name) + SETS.index(instructions), step=3)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("name", PACKERS)
def test_a_product_is_the_references_at_every_number_of_columns(
    linears: dict[str, list[Case]], name: str, instructions: str
) -> None:
    check_products(linears[name], instructions, first=0, step=1)


def check_products(cases: Sequence[Case], instructions: str, *, first: int, step: int) -> None:
    """Compare one in `step` of COLUMNS for each case, beginning one later for each."""
    for number, case in enumerate(cases):
        rng = np.random.default_rng(number)
        for columns in COLUMNS[(first + number) % step :: step]:
            feeds = {
                "mask": np.ones(columns, np.int64),
                "x": rng.normal(size=(columns, SHAPES[number]["columns"])).astype(np.float32),
                "beside": rng.normal(size=(columns, SHAPES[number]["rows"])).astype(np.float32),
            }
            if "residual" not in SHAPES[number]:
                del feeds["beside"]
            compare(case, pick_columns(feeds, columns), instructions)


@pytest.mark.parametrize("instructions", SETS)
def test_columns_that_quantise_to_their_ends(tmp_path: Path, instructions: str) -> None:
    """All the same, only one sign, zeros, and one value far from all others."""
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 8), 10))
    rng = np.random.default_rng(0)
    show(program, program.linear(x, pack.quantised(weigh(rng, 6, 10, 0.2)), bias_of(rng, 6)))
    program.write(tmp_path / "model.lxe")
    given = rng.normal(size=(8, 10)).astype(np.float32)
    given[0], given[1], given[2] = 0, 3, -3
    given[3], given[4], given[5, 3], given[6] = abs(given[3]), -abs(given[4]), 1e4, given[6] * 1e-20
    feeds = pick_columns({"mask": np.ones(8, np.int64), "x": given}, 8)
    compare(Case(tmp_path / "model.lxe"), feeds, instructions)


ACTIVATIONS = ("gelu", "tanh", "relu", None)


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_values_of_all_sizes(tmp_path: Path, activation: str | None, instructions: str) -> None:
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 1), 400))
    program.scores(program.linear(x, pack.dense(np.eye(400, dtype=np.float32), "fp32"), activation=activation))
    program.write(tmp_path / "model.lxe")
    given = np.concatenate([np.linspace(-12, 12, 392), [0, -0.0, 1e-30, -1e-30, 100, -100, 3e4, -3e4]])
    feeds = {"mask": np.ones((1, 1), np.int64), "x": given.astype(np.float32).reshape(1, 1, 400)}
    case = Case(tmp_path / "model.lxe")
    expected, found = case.expect(feeds), answer(case, feeds, instructions)
    assert (np.abs(found - expected) <= 1e-6 * (1 + np.abs(given))).all()


class Drawn:
    """A program of operations drawn at random, over words and regions; all that is drawn comes from the seed."""

    def __init__(self, seed: int, packers: list[str]) -> None:
        self.rng = np.random.default_rng(seed)
        self.packers, self.program = packers, Program()
        self.heads = int(self.rng.choice([1, 2, 3]))
        self.width = self.heads * int(self.rng.integers(3, 12))
        self.words, self.regions = self.program.rows("words", MOST), self.program.rows("regions", MOST)
        self.values = [self.draw_words(), self.draw_regions()]

    def draw_words(self) -> Value:
        types = list(self.rng.permutation(list(pack.PRECISIONS)))
        tables = [pack.table(weigh(self.rng, MOST, self.width, 0.1), type) for type in types]
        value = self.program.embed(tables[0], self.program.ints("ids", self.words), self.words)
        self.program.embed(tables[1], POSITION, self.words, onto=value)
        return self.program.embed(tables[2], 1, self.words, onto=value)

    def draw_regions(self) -> Value:
        loaded = self.program.load(self.program.floats("features", self.regions, 19))
        return self.draw_linear(loaded)

    def draw_linear(self, x: Value, residual: Value | None = None, rows: int | None = None) -> Value:
        rows = rows or self.width
        name = self.packers[self.rng.integers(len(self.packers))]
        cut = {"panel": int(self.rng.choice([4, 16, 128, 256]))}
        if name.startswith(("sparse", "blocks")):
            cut["tile"] = int(self.rng.choice([5, 64, 256]))
        weight = PACKERS[name](weigh(self.rng, rows, x.rows, self.rng.random()), **cut)
        bias = None if self.rng.random() < 0.3 else bias_of(self.rng, rows)
        return self.program.linear(x, weight, bias, residual, ACTIVATIONS[self.rng.integers(4)])

    def draw_norm(self, x: Value, add: Value | None = None) -> Value:
        gain, bias = bias_of(self.rng, self.width), bias_of(self.rng, self.width)
        return self.program.norm(x, gain, bias, 1e-6, add)

    def draw_value(self, columns: Size | None = None) -> Value:
        found = [value for value in self.values if columns is None or value.columns == columns]
        return found[self.rng.integers(len(found))]

    def draw_attention(self) -> Value:
        """Queries of one value, keys and values of another, cut from one product."""
        other = self.draw_value()
        keys = self.draw_linear(other, rows=2 * self.width + 3)
        query = self.draw_linear(self.draw_value())
        return self.program.attend(
            query,
            keys.take(rows=(3, self.width)),
            keys.take(rows=(3 + self.width, self.width)),
            heads=self.heads,
            scale=(self.width / self.heads) ** -0.5,
        )

    def draw_slice(self) -> Value:
        """The words of both, or the regions behind them, through a norm, as a slice."""
        joined = self.program.join(self.values[0], self.values[1])
        if self.rng.random() < 0.5:
            return self.draw_norm(joined.take(columns=self.words), self.draw_value(self.words))
        behind = joined.take(start=self.words, columns=self.regions)
        return self.draw_norm(self.draw_linear(behind, joined.take(start=self.words, columns=self.regions)))

    def draw_one(self) -> Value:
        match self.rng.integers(5):
            case 0:
                x = self.draw_value()
                return self.draw_linear(x, self.draw_value(x.columns))
            case 1:
                return self.draw_slice()
            case 2:
                x = self.draw_value()
                return self.draw_norm(x, self.draw_value(x.columns) if self.rng.random() < 0.5 else None)
            case 3:
                return self.draw_attention()
            case _:
                x = self.draw_linear(self.draw_value(), rows=2 * self.width)
                return self.draw_linear(x.take(rows=(self.width // 2, self.width)))

    def write(self, path: Path, operations: int) -> Case:
        for _ in range(operations):
            self.values.append(self.draw_norm(self.draw_one()))
        show(self.program, self.program.join(self.draw_value(self.words), self.draw_norm(self.values[-1])))
        self.program.write(path)
        return Case(path)


def draw_questions(rng: np.random.Generator, batch: int, words: int, regions: int) -> Feeds:
    """Questions of different lengths, with gaps in the middle; the columns that are shown are there in each."""
    masks = {}
    for name, rows in (("words", words), ("regions", regions)):
        masks[name] = (rng.random((batch, rows)) < rng.random((batch, 1))).astype(np.int64)
        masks[name][:, rng.integers(rows)] = 1
        masks[name][0] = 1
    shown = np.minimum(1 + rng.integers(words + regions, size=batch), masks["words"].sum(1) + 1)
    return masks | {
        "pick": (np.arange(2 * MOST) < shown[:, None]).astype(np.int64),
        "ids": rng.integers(0, MOST, (batch, words)),
        "features": rng.normal(size=(batch, regions, 19)).astype(np.float32),
    }


@pytest.mark.parametrize("seed", range(12))
def test_any_program_of_floats_is_the_references(tmp_path: Path, seed: int) -> None:
    case = Drawn(seed, FLOATS).write(tmp_path / "model.lxe", operations=6)
    rng = np.random.default_rng(seed)
    for words, regions in rng.choice(COLUMNS, (3, 2)):
        feeds = draw_questions(rng, 5, int(words), int(regions))
        for instructions in SETS:
            compare(case, feeds, instructions)


@pytest.mark.parametrize("seed", range(6))
def test_any_program_is_near_the_references(tmp_path: Path, seed: int) -> None:
    """Of quantised activations, one that lies between two steps may go to either."""
    case = Drawn(seed, list(PACKERS)).write(tmp_path / "model.lxe", operations=4)
    rng = np.random.default_rng(seed)
    for words, regions in rng.choice(COLUMNS, (3, 2)):
        feeds = draw_questions(rng, 5, int(words), int(regions))
        for instructions in SETS:
            compare(case, feeds, instructions, within=0.02)


@pytest.mark.parametrize("instructions", SETS)
def test_a_question_of_a_batch_is_answered_as_if_alone(tmp_path: Path, instructions: str) -> None:
    """To the bit: also where the others before it were longer, and where its masked tokens are left out."""
    case = Drawn(3, list(PACKERS)).write(tmp_path / "model.lxe", operations=6)
    feeds = draw_questions(np.random.default_rng(3), 6, 20, 36)
    together = answer(case, feeds, instructions)
    with ModelFile(case.path).session(instructions=instructions) as session:
        for n in range(6):
            alone = {name: value[n : n + 1] for name, value in feeds.items()}
            assert session.run(None, alone)[0].tobytes() == together[n : n + 1].tobytes()
            assert session.run(None, alone | pad(alone))[0].tobytes() == together[n : n + 1].tobytes()


def pad(feeds: Feeds) -> Feeds:
    """The same question with masked tokens and regions behind it, of large values."""
    words, regions = feeds["ids"].shape[1], feeds["features"].shape[1]
    return {
        "words": np.pad(feeds["words"], ((0, 0), (0, MOST - words))),
        "regions": np.pad(feeds["regions"], ((0, 0), (0, MOST - regions))),
        "ids": np.pad(feeds["ids"], ((0, 0), (0, MOST - words)), constant_values=-7),
        "features": np.pad(feeds["features"], ((0, 0), (0, MOST - regions), (0, 0)), constant_values=1e30),
    }


def test_a_mask_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    case = Drawn(1, FLOATS).write(tmp_path / "model.lxe", operations=2)
    feeds = draw_questions(np.random.default_rng(1), 2, 17, 5)
    feeds["regions"][1] = 0
    with ModelFile(case.path).session() as session:
        complain(lambda: session.run(None, feeds), case.path, "regions", kind=MeasureError)
        first = {name: value[:1] for name, value in feeds.items()}
        assert np.isfinite(session.run(None, first)[0]).all()


def test_a_session_that_answered_before_answers_the_same(tmp_path: Path) -> None:
    case = Drawn(4, list(PACKERS)).write(tmp_path / "model.lxe", operations=6)
    rng = np.random.default_rng(4)
    long, short = draw_questions(rng, 3, 70, 70), draw_questions(rng, 3, 5, 1)
    with ModelFile(case.path).session(threads=2) as session:
        first = session.run(None, short)[0]
        session.run(None, long)
        for _ in range(50):
            assert session.run(None, short)[0].tobytes() == first.tobytes()
