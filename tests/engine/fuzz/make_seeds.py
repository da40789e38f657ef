"""Makes the files that fuzzing starts from, a small model for each thing that a file can have.

`python -m tests.engine.fuzz.make_seeds` writes them into seeds/ beside this file; the same files each time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lxcompress.engine import pack
from lxcompress.engine.pack import PackedWeight
from lxcompress.engine.program import POSITION, Program, Value, Window

SEEDS = Path(__file__).with_name("seeds")
MOST = 20
PACKERS: dict[str, Callable[[np.ndarray], PackedWeight]] = {
    **{f"dense-{type}": lambda weight, type=type: pack.dense(weight, type, panel=4) for type in pack.PRECISIONS},
    **{
        f"sparse-{type}": lambda weight, type=type: pack.sparse(weight, type, panel=8, tile=3)
        for type in pack.PRECISIONS
    },
    "quantised": lambda weight: pack.quantised(weight, panel=8),
    "blocks": lambda weight: pack.blocks(weight, panel=4, tile=2),
    "sparse-fp32-2-rows": lambda weight: pack.sparse(weight, "fp32", panel=8, tile=3, shared=2),
    "sparse-bf16-4-rows": lambda weight: pack.sparse(weight, "bf16", panel=8, tile=3, shared=4),
    "blocks-2-rows": lambda weight: pack.blocks(weight, panel=4, tile=2, shared=2),
    "blocks-4-rows": lambda weight: pack.blocks(weight, panel=8, tile=2, shared=4),
}


def weigh(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A matrix, half of it zeros."""
    random = np.random.default_rng([rows, columns, seed])
    weight = random.standard_normal((rows, columns), dtype=np.float32)
    return weight * (random.random((rows, columns)) < 0.5)


def vector(rows: int) -> np.ndarray:
    """As many numbers, none of them zero."""
    return np.linspace(0.5, 1.5, rows, dtype=np.float32)


def write_product(path: Path, weight: PackedWeight, activation: str | None) -> None:
    """One product, with a bias and a residual, of a load."""
    program = Program()
    tokens = program.rows("mask", MOST)
    x = program.load(program.floats("x", tokens, weight.columns))
    beside = program.load(program.floats("beside", tokens, weight.rows))
    program.scores(program.linear(x, weight, vector(weight.rows), beside, activation))
    program.write(path)


def write_embeddings(path: Path) -> None:
    """Tables of all types, by number, by place and of one row, and a norm."""
    program = Program()
    tokens = program.rows("mask", MOST)
    x = program.embed(pack.table(weigh(9, 5), "fp32"), program.ints("ids", tokens), tokens)
    program.embed(pack.table(weigh(MOST, 5), "bf16"), POSITION, tokens, onto=x)
    program.embed(pack.table(weigh(3, 5), "int8"), 2, tokens, onto=x)
    program.scores(program.norm(x, vector(5), vector(5), 1e-6))
    program.write(path)


def write_attention(path: Path, heads: int, size: int) -> None:
    """Queries, keys and values, slices of one product."""
    width = heads * size
    program = Program()
    x = program.load(program.floats("x", program.rows("mask", MOST), 6))
    all_ = program.linear(x, pack.dense(weigh(3 * width, 6), "fp32", panel=8))
    q, k, v = (all_.take(rows=(n * width, width)) for n in range(3))
    program.scores(program.attend(q, k, v, heads=heads, scale=size**-0.5))
    program.write(path)


def write_joined(path: Path) -> None:
    """Words and regions, joined, and each of them and the last word cut from the whole again."""
    program = Program()
    words, regions, one = program.rows("words", MOST), program.rows("regions", 17), program.constant(1)
    both = program.join(*(program.load(program.floats(name, size, 4)) for name, size in (("a", words), ("b", regions))))
    front, back = both.take(columns=words), both.take(start=words, columns=regions)
    mixed = program.attend(front, back, back, heads=2, scale=0.5)
    last = mixed.take(start=program.sum(words, add=-1), columns=one)
    behind = both.take(start=program.sum(words, regions, add=-1), columns=one)
    program.scores(program.norm(last, vector(4), vector(4), 1e-6, add=program.norm(behind, vector(4), vector(4), 0.1)))
    program.write(path)


def write_layers(path: Path, kinds: list[str]) -> None:
    """A small transformer, its products of different kinds, the last one of the first word alone."""
    program = Program()
    words = program.rows("mask", MOST)
    x: Value = program.embed(pack.table(weigh(9, 8), "fp32"), program.ints("ids", words), words)
    for n, kind in enumerate(kinds):
        heads = program.linear(x, PACKERS[kind](weigh(24, 8, n)), vector(24))
        q, k, v = (heads.take(rows=(8 * part, 8)) for part in range(3))
        mixed = program.attend(q, k, v, heads=2, scale=0.5)
        x = program.norm(program.linear(mixed, PACKERS[kind](weigh(8, 8, n)), residual=x), vector(8), vector(8), 1e-12)
    first = x.take(columns=program.constant(1))
    program.scores(program.linear(first, pack.sparse(weigh(6, 8), "fp32"), vector(6), activation="tanh"))
    program.write(path)


def write_picture(path: Path) -> None:
    """A picture of one colour: a filter, a convolution in blocks of columns, and the means of a grid."""
    program = Program()
    picture = program.planes(program.floats("picture", program.rows("planes", 1), width=400))
    filtered = program.filter(picture, weigh(3, 3)[None], Window(3, 1, 20, 20, 1), vector(1), "relu6")
    seen = program.patches(filtered, Window(2, 1, 20, 20, 0))
    product = program.linear(seen, pack.sparse(weigh(6, 4), "fp32", panel=4, tile=3), vector(6), activation="relu6")
    program.scores(program.pool(product, 20, 3), all_columns=True)
    program.write(path)


def write_patches(path: Path) -> None:
    """One region that holds two pictures: four patches with their positions, and an activation after a norm."""
    program = Program()
    picture = program.planes(program.floats("picture", program.rows("planes", 1), width=2 * 256), pixels=256)
    patches = program.patches(picture, Window(kernel=8, stride=8, width=16, out_width=2, padding=0))
    positions = program.embed(pack.table(weigh(4, 4), "fp32"), POSITION, program.constant(4))
    state = program.linear(patches, pack.dense(weigh(4, 128), "fp32"), residual=positions)
    program.scores(program.norm(state, vector(4), vector(4), 1e-6, activation="gelu"))
    program.write(path)


def write_seeds(folder: Path) -> list[Path]:
    """All of them, written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, (name, packer) in enumerate(PACKERS.items()):
        write_product(folder / f"{name}.lxe", packer(weigh(10, 7)), ("gelu", "tanh", "relu", None)[n % 4])
    write_embeddings(folder / "embeddings.lxe")
    write_attention(folder / "attention.lxe", heads=2, size=3)
    write_attention(folder / "attention-wide.lxe", heads=1, size=5)
    write_joined(folder / "joined.lxe")
    write_layers(folder / "layers.lxe", ["blocks", "sparse-int8"])
    write_layers(folder / "layers-quantised.lxe", ["quantised", "dense-bf16"])
    write_picture(folder / "picture.lxe")
    write_patches(folder / "patches.lxe")
    return sorted(folder.glob("*.lxe"))


if __name__ == "__main__":
    for path in write_seeds(SEEDS):
        print(path.name, path.stat().st_size)
