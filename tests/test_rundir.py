"""Laws of the run folder: a file is whole or as it was, one study at a time, and what is finished is what is read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from lxcompress.errors import LxError, RunError
from lxcompress.machine import describe_machine
from lxcompress.recipe import Recipe, dump_recipe
from lxcompress.records import RECORD_VERSION, Dense, Floors, Machine, Record, Result, Score, Sparsity, read_record
from lxcompress.rundir import (
    RunDir,
    is_busy,
    locked,
    open_run,
    read_run,
    sha256,
    write_record,
    write_text,
    write_whole,
)

ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from pathlib import Path
from lxcompress.rundir import RunDir, locked
with locked(RunDir(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""
RECIPE = Recipe.model_validate({"name": "small", "seeds": [0, 1], "data": {"kind": "scenes"}})
SCORE = Score(accuracy=0.5, by_type={"yes/no": 0.5}, questions=4)


class CutOffError(Exception):
    """Raised by a writer midway."""


@pytest.fixture(scope="module")
def machine() -> Machine:
    return describe_machine()


@pytest.fixture
def run(tmp_path, machine) -> RunDir:
    """A run folder as a study leaves it before its first run."""
    run = RunDir(tmp_path / "run")
    write_text(run.recipe, dump_recipe(RECIPE))
    write_record(run.machine, machine)
    return run


def holder(run: RunDir) -> subprocess.Popen[str]:
    """Another process that means to hold the run folder until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def dense_of(seed: int, machine: Machine) -> Dense:
    return Dense(
        seed=seed,
        start=SCORE,
        trained=SCORE,
        epochs=[],
        steps=1,
        duration_s=1.0,
        device="cpu",
        precision="fp32",
        machine=machine,
    )


def result_of(run: RunDir, place: int, machine: Machine) -> Result:
    cell = RECIPE.cells()[place]
    return Result(
        cell=cell.id,
        criterion=cell.method.criterion,
        granularity=cell.method.granularity,
        scope="layer",
        target=cell.sparsity,
        seed=cell.seed,
        sparsity=Sparsity(prunable=4, kept=2, achieved=0.5, of_live=0.25, of_all=0.2, live=8, all=10),
        pruned=SCORE,
        rewound=SCORE,
        retrained=SCORE,
        epochs=[],
        steps=1,
        duration_s=1.0,
        device="cpu",
        precision="fp32",
        machine=machine,
    )


def sentence(call) -> str:
    """The one sentence that `call` ends with."""
    with pytest.raises(LxError) as caught:
        call()
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


@pytest.mark.parametrize("old", [None, b"the old file, longer than what comes"])
def test_a_writer_that_fails_midway_leaves_what_was_there(old, tmp_path) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def write(part: Path) -> None:
        part.write_bytes(b"half of the n")
        raise CutOffError

    with pytest.raises(CutOffError):
        write_whole(path, write)
    assert (path.read_bytes() if path.exists() else None) == old


def test_the_old_file_is_there_whole_until_the_new_one_is(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def write(part: Path) -> None:
        with part.open("wb") as file:
            for piece in (b"n", b"e", b"w"):
                file.write(piece)
                file.flush()
                seen.append(path.read_bytes())

    write_whole(path, write)
    assert seen == [b"old"] * 3
    assert path.read_bytes() == b"new"


def test_what_an_interrupted_writer_left_does_no_harm(tmp_path) -> None:
    path = tmp_path / "deep" / "folder" / "file"
    with pytest.raises(CutOffError):
        write_whole(path, lambda part: (part.write_bytes(b"half of a longer file"), _interrupt()))
    write_text(path, "né\nw")
    assert path.read_bytes() == "né\nw".encode()
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def _interrupt() -> None:
    raise CutOffError


def test_files_may_be_read_by_whoever_may_read_their_neighbours(tmp_path) -> None:
    def write(part: Path) -> None:
        part.write_bytes(b"new")
        part.chmod(0o600)

    write_whole(tmp_path / "private", write)
    (tmp_path / "usual").touch()
    assert (tmp_path / "private").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_checksum_is_that_of_the_whole_file(size, tmp_path) -> None:
    data = bytes(number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(data)
    assert sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_folder_has_one_holder_at_a_time_and_a_killed_one_lets_go(run) -> None:
    assert not is_busy(run)
    with holder(run) as other:
        assert other.stdout.readline() == "held\n"
        assert is_busy(run)
        said = sentence(lambda: locked(run).__enter__())
        assert str(run.root) in said
        assert "another study" in said
        assert "--out" in said
        other.kill()
    assert not is_busy(run)
    with locked(run):
        assert is_busy(run)


def test_a_second_process_is_refused_and_free_to_start_afterwards(run) -> None:
    with locked(run):
        out, error = holder(run).communicate(timeout=60)
        assert out == ""
        assert "RunError" in error
        assert "another study" in error
    out, error = holder(run).communicate(timeout=60)
    assert (out, error) == ("held\n", "")


def test_the_lock_ends_with_what_failed_under_it(run) -> None:
    with pytest.raises(CutOffError), locked(run):
        raise CutOffError
    assert not is_busy(run)


def test_a_run_with_nothing_finished_reads_as_such(run, machine) -> None:
    read = read_run(run.root)
    assert (read.recipe, read.machine, read.floors) == (RECIPE, machine, None)
    assert (read.dense, read.results, read.benches) == ({}, {}, [])


def test_what_is_finished_is_read_and_nothing_else(run, machine) -> None:
    floors = Floors(majority=SCORE, majority_per_type=SCORE, question_only=SCORE)
    dense, result = dense_of(1, machine), result_of(run, 3, machine)
    cell = RECIPE.cells()[3]
    write_record(run.floors, floors)
    write_record(run.dense_result(1), dense)
    write_record(run.result(cell), result)
    run.ticket(RECIPE.cells()[4]).mkdir(parents=True)
    run.result(RECIPE.cells()[4]).with_name("result.json.part").write_text("{", encoding="utf-8")
    read = read_run(run.root)
    assert read.floors == floors
    assert read.dense == {1: dense}
    assert read.results == {cell.id: result}


def test_no_two_cells_and_no_two_seeds_share_a_file(run) -> None:
    files = [run.result(cell) for cell in RECIPE.cells()]
    files += [path(seed) for seed in RECIPE.seeds for path in (run.start, run.dense_result)]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"majority": 3}', b'{"surprise": 1}'])
def test_a_damaged_record_gives_one_sentence_with_its_file(damage, run) -> None:
    run.floors.write_bytes(damage)
    said = sentence(lambda: read_run(run.root))
    assert said.startswith(str(run.floors))
    assert "make" in said


def test_a_record_of_a_newer_version_asks_for_an_upgrade(run, machine) -> None:
    newer = dense_of(0, machine).model_copy(update={"version": RECORD_VERSION + 1})
    write_record(run.dense_result(0), newer)
    said = sentence(lambda: read_run(run.root))
    assert "version" in said
    assert "upgrade lxcompress" in said


def test_a_missing_record_gives_one_sentence(run) -> None:
    run.machine.unlink()
    assert "machine.json: cannot be read (no such file)" in sentence(lambda: read_run(run.root))


@pytest.mark.parametrize("kind", [Dense, Floors, Machine])
def test_a_missing_record_of_any_kind_is_an_error_of_its_reader(kind: type[Record], tmp_path) -> None:
    with pytest.raises(RunError, match="no such file"):
        read_record(tmp_path / "absent.json", kind)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("a file")])
def test_what_is_no_run_folder_is_refused_with_the_command_that_makes_one(make, tmp_path) -> None:
    path = tmp_path / "place"
    make(path)
    for call in (open_run, read_run):
        said = sentence(lambda call=call: call(path))
        assert "is not a run folder" in said
        assert f"lxcompress study RECIPE --out {path}" in said
    assert not (tmp_path / "place" / ".lock").exists()
