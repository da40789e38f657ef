"""The engine on other systems: built with cross compilers, called from C, run by QEMU, Wine or another loader."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lxcompress.engine.build import find_compiler
from lxcompress.engine.library import LIBRARY
from tests.engine.fuzz.make_seeds import write_seeds
from tests.engine.other.elsewhere import (
    DRAWN,
    HERE,
    LAYERS,
    answer_here,
    is_near,
    write_drawn,
    write_layer,
    write_product,
)
from tests.engine.other.systems import ARM_SETS, SYSTEMS, BuiltSystem, build_program, build_system
from tests.engine.test_hostile import change_bytes, change_words, cut, damage
from tests.engine.test_parity import PACKERS
from tests.engine.test_sanitizers import Case, check, make_case

pytestmark = pytest.mark.native


@pytest.fixture(scope="module", params=SYSTEMS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltSystem]:
    with build_system(SYSTEMS[request.param], tmp_path_factory.mktemp("system")) as found:
        yield found


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_seeds(tmp_path_factory.mktemp("seeds"))


def runs(built: BuiltSystem) -> list[tuple[str, int]]:
    """The best and the plainest instruction set, with one thread and with two."""
    return [(name, threads) for name in (built.system.sets[0], "base") for threads in (1, 2)]


@pytest.mark.parametrize("name", PACKERS)
def test_a_product_is_this_machines_and_the_references(built: BuiltSystem, tmp_path: Path, name: str) -> None:
    case, feeds = write_product(tmp_path, name)
    here = answer_here(case.path, feeds)
    answers = {run: built.machine.answer(case.path, feeds, run[1], 1, run[0]) for run in runs(built)}
    assert {answer.sets for answer in answers.values()} == {built.system.sets}
    for (set_name, threads), answer in answers.items():
        assert answer.scores.tobytes() == answers[set_name, 1].scores.tobytes(), threads
        assert is_near(answer.scores, here, 1e-5)
        assert is_near(answer.scores, case.expect(feeds), 1e-5)
    if built.system.sets == ARM_SETS:  # both sets compute the same
        assert len({answer.scores.tobytes() for answer in answers.values()}) == 1


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_not_finite_is_refused(built: BuiltSystem, tmp_path: Path, name: str) -> None:
    case, feeds = write_product(tmp_path, name)
    broken, large = ({**feeds, "x": feeds["x"].copy()} for _ in range(2))
    broken["x"][1, 2, 3] = np.nan
    large["x"][:] = 3e38
    for set_name, threads in runs(built):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            built.machine.answer(case.path, broken, threads, 1, set_name)
        assert "x holds NaN or infinity in row 2 of question 1" in caught.value.stderr
        with pytest.raises(subprocess.CalledProcessError) as caught:
            built.machine.answer(case.path, large, threads, 1, set_name)
        assert "a value inside of the model is NaN or overflows" in caught.value.stderr


@pytest.mark.parametrize(("seed", "packers", "within"), DRAWN)
def test_any_program_is_near_this_machines(
    built: BuiltSystem, tmp_path: Path, seed: int, packers: list[str], within: float
) -> None:
    case, feeds = write_drawn(tmp_path, seed, packers)
    here = answer_here(case.path, feeds)
    for set_name in (built.system.sets[0], "base"):
        one, two = (built.machine.answer(case.path, feeds, threads, 1, set_name).scores for threads in (1, 2))
        assert one.tobytes() == two.tobytes()
        assert is_near(one.reshape(here.shape), here, within)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_full_size_is_this_machines(built: BuiltSystem, tmp_path: Path, name: str) -> None:
    """Of whole numbers, the sums are the same to the bit."""
    model = tmp_path / "layer.lxe"
    feeds = write_layer(model, name)
    here, is_whole = answer_here(model, feeds), name.startswith(("blocks", "quantised"))
    for set_name, threads in (("base", 1), (built.system.sets[0], 2)):
        assert is_near(built.machine.answer(model, feeds, threads, 1, set_name).scores, here, 0 if is_whole else 2e-6)


def test_a_processor_without_dot_products_is_not_given_them(built: BuiltSystem, tmp_path: Path) -> None:
    if built.system.sets != ARM_SETS:
        pytest.skip("only QEMU plays another processor")
    case, feeds = write_product(tmp_path, "blocks")
    runner = tuple("cortex-a72" if word == "max" else word for word in built.system.runner)
    old = replace(built, system=replace(built.system, runner=runner)).machine.answer(case.path, feeds, 1, 1)
    assert old.sets == ("base",)
    new = built.machine.answer(case.path, feeds, 1, 1, "dotprod")
    assert old.scores.tobytes() == new.scores.tobytes()


# -- files that are not what they should be ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """other/hostile.c with the engine of this machine."""
    program = tmp_path_factory.mktemp("here") / "hostile"
    links = [f"-Wl,-rpath,{LIBRARY.parent}"]
    build_program(find_compiler() or [], HERE / "hostile.c", LIBRARY, program, links=links)
    return program


def read_lines(done: subprocess.CompletedProcess[bytes], paths: list[Path]) -> dict[str, str]:
    """What was said of each file. The process has to live through all."""
    told = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    left = [path.name for path in paths if str(path) not in told]
    assert (done.returncode, left[:1], done.stderr) == (0, [], b"")
    return {Path(path).name: said for path, said in told.items()}


def write_list(folder: Path, files: Iterable[tuple[str, bytes]]) -> tuple[Path, list[Path]]:
    """The files, and a file of their paths for other/hostile.c."""
    folder.mkdir()
    paths = []
    for name, content in files:
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    listed = folder.with_suffix(".list")
    listed.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return listed, paths


def test_a_hostile_file_is_answered_or_refused_as_here(
    built: BuiltSystem, hostile_here: Path, seeds: list[Path], tmp_path: Path
) -> None:
    whole = {path.stem: path.read_bytes() for path in seeds}
    groups = {
        "whole": whole.items(),
        "bytes": change_bytes(whole["joined"]),
        "words": change_words(whole["joined"]),
        "words-of-blocks": change_words(whole["blocks"]),
        "damaged": damage(whole),
        "cut": cut(whole["sparse-int8"]),
    }
    count = 0
    for group, files in groups.items():
        listed, paths = write_list(tmp_path / group, files)
        there = read_lines(built.run("hostile", listed), paths)
        here = read_lines(subprocess.run([hostile_here, listed], capture_output=True, check=True), paths)
        assert there == here
        count += len(paths)
    assert count > 3000


def test_a_path_is_found_whatever_its_letters_and_what_is_no_file_is_refused(
    built: BuiltSystem, seeds: list[Path], tmp_path: Path
) -> None:
    listed, paths = write_list(tmp_path / "letters", [("mödel 図.lxe", seeds[0].read_bytes()), ("empty", b"")])
    (tmp_path / "folder").mkdir()
    others = [tmp_path / "none", tmp_path / "folder"]
    with listed.open("a", encoding="utf-8") as file:
        file.writelines(f"{path}\n" for path in others)
    told = read_lines(built.run("hostile", listed), [*paths, *others])
    assert told["mödel 図.lxe"] == ""
    assert told["empty"] == "is empty, or cannot be mapped into memory"
    assert told["none"].startswith("cannot be opened (")
    assert told["folder"].startswith(("cannot be opened (", "is empty, or cannot be mapped"))


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    wanted = ("layers", "layers-quantised", "joined")
    return [make_case(path) for path in write_seeds(tmp_path_factory.mktemp("cases")) if path.stem in wanted]


@pytest.mark.parametrize(("threads", "sessions"), [(1, 3), (2, 2), (3, 1), (4, 2)])
def test_threads_and_sessions_all_answer_the_same(
    built: BuiltSystem, cases: list[Case], threads: int, sessions: int
) -> None:
    """A session that answers otherwise than before, or than another session, is an error of drive.c."""
    assert len(cases) == 3
    for case in cases:
        for words in ((threads, sessions, 5), (threads, sessions, 1, "base", "see")):
            done = built.run("drive", case.path, case.questions, *words)
            assert (done.returncode, done.stderr.decode()) == (0, "")
            check(case, np.frombuffer(done.stdout, np.float32))
