"""The engine on another kind of machine: models and questions, what this machine answers, what that one does."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import InferenceSession
from lxcompress.engine.program import Program
from tests.engine.test_parity import (
    FLOATS,
    PACKERS,
    SHAPES,
    Case,
    Drawn,
    Feeds,
    draw_questions,
    pick_columns,
    show,
    weigh,
    write_linear,
)

HERE = Path(__file__).parent
FLOAT_SEEDS, SEEDS = range(4), range(3)


@dataclass(frozen=True)
class Answer:
    """Scores [B, A], the instruction sets that were there, and the seconds of the fastest run."""

    scores: np.ndarray
    sets: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Machine:
    """A command that answers as other/answer.c does."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def answer(self, model: Path, feeds: Feeds, *words: object) -> Answer:
        """`words` follow the files. Raises subprocess.CalledProcessError, whose stderr is the engine's sentence."""
        questions, answers = model.with_suffix(".questions"), model.with_suffix(".answers")
        write_questions(questions, model, feeds)
        command = [*self.command, str(model), str(questions), str(answers), *map(str, words)]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        sets, seconds = done.stdout.splitlines()
        scores = np.fromfile(answers, np.float32).reshape(len(next(iter(feeds.values()))), -1)
        return Answer(scores, tuple(sets.split()), float(seconds))


def need(*commands: str) -> None:
    """Skips a test that needs what is not here, and names it."""
    for command in commands:
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed; docs/engine-elsewhere.md says what has it")


def write_questions(path: Path, model: Path, feeds: Feeds) -> None:
    """As other/answer.c reads them."""
    with InferenceSession(model) as session, path.open("wb") as file:
        inputs = session.get_inputs()
        file.write(struct.pack("<q", len(feeds[inputs[0].name])))
        for each in inputs:
            array = np.ascontiguousarray(feeds[each.name], np.float32 if "float" in each.type else np.int64)
            file.write(struct.pack("<qq", array.shape[1], array.shape[2] if array.ndim == 3 else 1))
            file.write(array.tobytes())


def answer_here(model: Path, feeds: Feeds, instructions: str | None = None) -> np.ndarray:
    with InferenceSession(model, instructions=instructions) as session:
        return session.run(None, feeds)[0]


def write_product(folder: Path, name: str) -> tuple[Case, Feeds]:
    """A product of a kind, of which all of 20 columns are shown, with an activation."""
    number = 2
    case, rng, columns = write_linear(folder / "product.lxe", name, number), np.random.default_rng(number), 20
    given = {"mask": np.ones(columns, np.int64), "x": rng.normal(size=(columns, SHAPES[number]["columns"]))}
    return case, pick_columns(given, columns)


def write_drawn(folder: Path, seed: int, packers: list[str]) -> tuple[Case, Feeds]:
    """A program drawn at random, and questions of different lengths."""
    case = Drawn(seed, packers).write(folder / "drawn.lxe", operations=5)
    return case, draw_questions(np.random.default_rng(seed), 5, 20, 36)


def write_layer(path: Path, name: str, *, rows: int = 3072, columns: int = 768) -> Feeds:
    """A layer of full size, sparse to a half or in blocks to 70 %; four of 20 columns are shown, a lane each."""
    rng = np.random.default_rng(5)
    weight = weigh(rng, rows, columns, 0.5 if name.startswith("sparse") else 0.0)
    if name == "blocks":
        weight.reshape(rows, -1, 4)[rng.random((rows, columns // 4)) < 0.7] = 0
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", 20), columns))
    show(program, program.linear(x, PACKERS[name](weight), rng.normal(size=rows).astype(np.float32)))
    program.write(path)
    given = {"mask": np.ones(20, np.int64), "x": rng.normal(size=(20, columns)).astype(np.float32)}
    return pick_columns(given, 20, (0, 5, 14, 19))


def is_near(found: np.ndarray, expected: np.ndarray, within: float) -> bool:
    return bool(np.abs(found - expected).max() <= within * max(1.0, np.abs(expected).max()))


DRAWN = [(seed, FLOATS, 1e-5) for seed in FLOAT_SEEDS] + [(seed, list(PACKERS), 0.02) for seed in SEEDS]
"""Seeds, kinds of products, how near answers are: a quantised activation between two steps may go to either."""
LAYERS = (
    "dense fp32",
    "sparse fp32",
    "sparse fp32 of 4 rows",
    "blocks",
    "blocks of 2 rows",
    "blocks of 4 rows",
    "quantised",
)
