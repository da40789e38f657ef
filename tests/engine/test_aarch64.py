"""The engine on a 64-bit ARM, which QEMU plays: as build.py makes it with a cross compiler, called from a C program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine import build
from tests.engine.other.elsewhere import (
    DRAWN,
    HERE,
    LAYERS,
    Machine,
    answer_here,
    is_near,
    need,
    write_drawn,
    write_layer,
    write_product,
)
from tests.engine.test_parity import PACKERS

pytestmark = pytest.mark.native
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
SYSTEM = Path("/usr/aarch64-linux-gnu")
SETS = ("dotprod", "base")
RUNS = [(threads, name) for name in SETS for threads in (1, 2)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """other/answer.c beside the engine's library, both for ARM."""
    need(COMPILER, EMULATOR)
    if not (SYSTEM / "include" / "stdlib.h").is_file():
        pytest.skip(f"{COMPILER} has no C library; docs/engine-elsewhere.md says what has it")
    folder = tmp_path_factory.mktemp("aarch64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", COMPILER)
        built = build.build(folder / "libengine.so")
    assert (built.sets, built.left_out, built.warnings) == (SETS, (), "")
    program = folder / "answer"
    options = ["-O1", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", str(build.SOURCE), "-Wl,-rpath,$ORIGIN"]
    files = [str(HERE / "answer.c"), str(built.path), "-o", str(program)]
    subprocess.run([COMPILER, *options, *files], check=True)
    return program


def emulate(program: Path, processor: str = "max") -> Machine:
    return Machine((EMULATOR, "-cpu", processor, "-L", str(SYSTEM), str(program)))


@pytest.fixture(scope="module")
def machine(program: Path) -> Machine:
    return emulate(program)


@pytest.mark.parametrize("name", PACKERS)
def test_a_product_is_this_machines_and_the_references(machine: Machine, tmp_path: Path, name: str) -> None:
    case, feeds = write_product(tmp_path, name)
    here = answer_here(case.path, feeds)
    answers = [machine.answer(case.path, feeds, threads, 1, sets) for threads, sets in RUNS]
    assert {answer.sets for answer in answers} == {SETS}
    assert (
        len({answer.scores.tobytes() for answer in answers}) == 1
    )  # whatever the threads, and with dotprod or without
    assert is_near(answers[0].scores, here, 1e-5)
    assert is_near(answers[0].scores, case.expect(feeds), 1e-5)


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_not_finite_is_refused(machine: Machine, tmp_path: Path, name: str) -> None:
    case, feeds = write_product(tmp_path, name)
    broken, large = ({**feeds, "x": feeds["x"].copy()} for _ in range(2))
    broken["x"][1, 2, 3] = np.nan
    large["x"][:] = 3e38
    for threads, sets in RUNS:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            machine.answer(case.path, broken, threads, 1, sets)
        assert "x holds NaN or infinity in row 2 of question 1" in caught.value.stderr
        with pytest.raises(subprocess.CalledProcessError) as caught:
            machine.answer(case.path, large, threads, 1, sets)
        assert "a value inside of the model is NaN or overflows" in caught.value.stderr


@pytest.mark.parametrize(("seed", "packers", "within"), DRAWN)
def test_any_program_is_near_this_machines(
    machine: Machine, tmp_path: Path, seed: int, packers: list[str], within: float
) -> None:
    case, feeds = write_drawn(tmp_path, seed, packers)
    here = answer_here(case.path, feeds)
    scores = {machine.answer(case.path, feeds, threads, 1, sets).scores.tobytes() for threads, sets in RUNS}
    assert len(scores) == 1
    assert is_near(np.frombuffer(scores.pop(), np.float32).reshape(here.shape), here, within)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_full_size_is_this_machines(machine: Machine, tmp_path: Path, name: str) -> None:
    """Of whole numbers, the sums are the same to the bit."""
    model = tmp_path / "layer.lxe"
    feeds = write_layer(model, name)
    one, other = (
        machine.answer(model, feeds, threads, 1, sets).scores for threads, sets in ((1, "base"), (2, "dotprod"))
    )
    assert one.tobytes() == other.tobytes()
    here = answer_here(model, feeds)
    assert is_near(one, here, 0 if name.startswith(("blocks", "quantised")) else 2e-6)


def test_a_processor_without_dot_products_is_not_given_them(program: Path, tmp_path: Path) -> None:
    case, feeds = write_product(tmp_path, "blocks")
    old = emulate(program, "cortex-a72").answer(case.path, feeds, 1, 1)
    assert old.sets == ("base",)
    new = emulate(program).answer(case.path, feeds, 1, 1, "dotprod")
    assert old.scores.tobytes() == new.scores.tobytes()


def test_a_file_that_is_damaged_is_one_sentence(machine: Machine, tmp_path: Path) -> None:
    case, feeds = write_product(tmp_path, "sparse fp32")
    machine.answer(case.path, feeds, 1, 1)
    whole = bytearray(case.path.read_bytes())
    whole[-1] ^= 1
    damaged = tmp_path / "damaged.lxe"
    damaged.write_bytes(whole)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        machine.answer(damaged, feeds, 1, 1)
    assert caught.value.stderr == "its weights are damaged\n"
