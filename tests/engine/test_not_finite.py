"""NaN and infinity are refused in one sentence, wherever they come from and on every instruction set.

Kernels would hide them: the least and the most of a number and NaN, a weight that is left out, a byte that NaN is
rounded to. So the laws are asked of inputs, of values that overflow between two operations, and of weights in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import InferenceSession, ModelFile, pack
from lxcompress.engine.program import Program, Value
from lxcompress.engine.records import BF16, F32, I8
from lxcompress.errors import MeasureError
from tests.complain import complain
from tests.engine.reference import Reference
from tests.engine.test_hostile import File
from tests.engine.test_parity import ACTIVATIONS, FLOATS, PACKERS, SETS, Drawn, Feeds, draw_questions
from tests.engine.test_session import make_feeds, write_model

BROKEN = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "too large for float32": 1e39}
WIDTH, COLUMNS = 12, 5
INSIDE = "a value inside of the model is NaN or overflows"


def refused(session: InferenceSession, feeds: Feeds, *named: object) -> None:
    complain(lambda: session.run(None, feeds), session.path, "the engine cannot answer", *named, kind=MeasureError)


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_a_broken_input_is_refused_by_its_name_wherever_it_stands(
    tmp_path: Path, value: float, instructions: str
) -> None:
    """Also in a row that is masked: other runtimes give NaN there. The next answer is as it was, to the bit."""
    with ModelFile(write_model(tmp_path / "model.lxe")).session(threads=2, instructions=instructions) as session:
        feeds = make_feeds(3)
        feeds["visual_attention_mask"][:, -1] = 0
        (expected,) = session.run(None, feeds)
        shape = feeds["visual_feats"].shape
        for place in ((0, 0, 0), (1, 2, 7), tuple(size - 1 for size in shape)):
            features = feeds["visual_feats"].astype(np.float64)
            features[place] = value
            where = f"visual_feats holds NaN or infinity in row {place[1]} of question {place[0]}"
            refused(session, {**feeds, "visual_feats": features}, where, "check the detector")
            assert session.run(None, feeds)[0].tobytes() == expected.tobytes()


def _follow_nothing(_program: Program, value: Value) -> Value:
    return value


def _follow_pruned(program: Program, value: Value) -> Value:
    """A product that leaves out the weights of all channels but the first."""
    weight = np.zeros((8, value.rows), np.float32)
    weight[:, 0] = 1
    return program.linear(value, pack.sparse(weight, "fp32"))


def _follow_norm(program: Program, value: Value) -> Value:
    return program.norm(value, np.ones(value.rows, np.float32), np.zeros(value.rows, np.float32), 1e-6)


def _follow_attention(program: Program, value: Value) -> Value:
    return program.attend(value, value, value, heads=2, scale=1.0)


def _follow_bytes(program: Program, value: Value) -> Value:
    return program.linear(value, pack.quantised(np.eye(value.rows, dtype=np.float32)))


FOLLOWED: dict[str, Callable[[Program, Value], Value]] = {
    "nothing": _follow_nothing,
    "a pruned product": _follow_pruned,
    "a norm": _follow_norm,
    "attention": _follow_attention,
    "a product of bytes": _follow_bytes,
}


@pytest.mark.parametrize("follow", FOLLOWED.values(), ids=FOLLOWED)
@pytest.mark.parametrize("name", PACKERS)
def test_a_value_that_overflows_between_two_operations_is_refused(
    tmp_path: Path, name: str, follow: Callable[[Program, Value], Value]
) -> None:
    """Rows of the weight overflow to infinity, to minus infinity and to NaN, under every activation."""
    weight = np.zeros((8, WIDTH), np.float32)
    weight[1:4, :4] = 1e30
    weight[2] *= -1
    weight[3, 2:4] *= -1
    for row in (1, 2, 3):
        for activation in ACTIVATIONS:
            one = np.zeros_like(weight)
            one[row] = weight[row]
            program = Program()
            x = program.load(program.floats("x", program.rows("mask", COLUMNS), WIDTH))
            out = follow(program, program.linear(x, PACKERS[name](one), activation=activation))
            program.scores(out.take(columns=program.constant(1)))
            path = tmp_path / f"{row}-{activation}.lxe"
            program.write(path)
            feeds = {"mask": np.ones((1, COLUMNS), np.int64), "x": np.full((1, COLUMNS, WIDTH), 1e-29, np.float32)}
            for instructions in SETS:
                with ModelFile(path).session(instructions=instructions) as session:
                    (expected,) = session.run(None, feeds)
                    # The scale of int8 comes after the sum, which is 0 in row 3, and stays so.
                    if row != 3 or name.endswith(("fp32", "bf16")):
                        refused(session, {**feeds, "x": np.full_like(feeds["x"], 1e12)}, INSIDE)
                    assert session.run(None, feeds)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("instructions", SETS)
def test_features_whose_squares_overflow_are_refused(tmp_path: Path, instructions: str) -> None:
    """A norm would make zeros of them."""
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", COLUMNS), WIDTH))
    program.scores(_follow_norm(program, x).take(columns=program.constant(1)))
    program.write(tmp_path / "model.lxe")
    draw = np.random.default_rng(0).normal(size=(1, COLUMNS, WIDTH)).astype(np.float32)
    feeds = {"mask": np.ones((1, COLUMNS), np.int64), "x": draw}
    with ModelFile(tmp_path / "model.lxe").session(instructions=instructions) as session:
        (expected,) = session.run(None, feeds)
        np.testing.assert_allclose(session.run(None, {**feeds, "x": draw * 1e15})[0], expected, atol=1e-5)
        for large in (1e25, 1e38):
            refused(session, {**feeds, "x": draw * np.float32(large)}, INSIDE)


def poison(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one number of one weight, or one scale, as NaN or infinity."""
    file = File(content)
    record = file.weights[rng.integers(len(file.weights))]
    is_bytes = record["type"] == I8
    many = int(record["rows"]) if is_bytes else int(record["entries"]) * 4 or int(record["rows"] * record["columns"])
    kind = {F32: "<f4", BF16: "<u2", I8: "<f4"}[int(record["type"])]
    at = file.data + int(record["scales" if is_bytes else "values"])
    values = np.frombuffer(file.bytes, kind, many, at)
    broken = np.float32(rng.choice([np.nan, np.inf, -np.inf]))
    values[rng.integers(many)] = broken.view(np.uint32) >> 16 if kind == "<u2" else broken
    return file.seal()


@pytest.mark.parametrize("seed", range(40))
def test_a_weight_that_is_no_number_is_refused_or_of_no_use(tmp_path: Path, seed: int) -> None:
    """No instruction set answers where the reference gives NaN or infinity; an answer is the reference's."""
    packers = FLOATS if seed % 2 else list(PACKERS)
    case, rng = Drawn(seed % 8, packers).write(tmp_path / "whole.lxe", operations=4), np.random.default_rng(seed)
    path = tmp_path / "model.lxe"
    path.write_bytes(poison(case.path.read_bytes(), rng))
    feeds = draw_questions(rng, 2, 17, 9)
    for question in ({name: value[n : n + 1] for name, value in feeds.items()} for n in range(2)):
        with np.errstate(all="ignore"):
            expected = Reference(path).run(question) if packers is FLOATS else None
        for instructions in SETS:
            with ModelFile(path).session(instructions=instructions) as session:
                found = _answer_or_sentence(session, question)
                if isinstance(found, str):
                    assert INSIDE in found
                    continue
                assert np.isfinite(found).all()
                if expected is not None:
                    assert np.isfinite(expected).all()
                    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


def _answer_or_sentence(session: InferenceSession, question: Feeds) -> np.ndarray | str:
    try:
        return session.run(None, question)[0]
    except MeasureError as error:
        return str(error)
