"""Laws of writing: whole or not there, nothing left by a kill, one of many writers, and no output onto an input."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lxcompress.errors import LxError
from lxcompress.writing import (
    PREFIX,
    BusyError,
    WriteError,
    check_out,
    exclusive,
    explain_write_errors,
    find_storage_problem,
    finished_folder,
    remove_stale,
    scratch,
    take_lock,
    write_text,
    write_whole,
)

ROOT = Path(__file__).parents[1]
RACE = """
import sys
from pathlib import Path
from lxcompress.writing import finished_folder, write_text
out, name, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(40):
    text = f"{name} {turn}\\n" * 500
    if kind == "file":
        write_text(out / "file", text)
    else:
        with finished_folder(out / "folder", "last") as folder:
            for part in ("a", "b", "last"):
                write_text(folder / part, text)
"""
HANG = """
import sys, time
from pathlib import Path
from lxcompress.writing import finished_folder, write_whole
def write(part):
    part.write_bytes(b"half")
    print("mid-write", flush=True)
    time.sleep(60)
if sys.argv[2] == "file":
    write_whole(Path(sys.argv[1]) / "file", write)
else:
    with finished_folder(Path(sys.argv[1]) / "folder", "last") as folder:
        write(folder / "a")
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_many_writers_one_wins_whole_and_no_part_is_left(kind, tmp_path) -> None:
    racers = [start(RACE, tmp_path, name, kind) for name in "xyz"]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=120)
        assert racer.returncode == 0
    wanted = ["file"] if kind == "file" else ["folder", "folder/a", "folder/b", "folder/last"]
    assert names(tmp_path) == wanted
    texts = {(tmp_path / name).read_text("utf-8") for name in wanted if (tmp_path / name).is_file()}
    assert len(texts) == 1
    lines = texts.pop().splitlines()
    assert lines == [lines[0]] * 500
    assert lines[0].endswith(" 39")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_kill_leaves_is_hidden_and_the_next_write_removes_it(kind, tmp_path) -> None:
    with start(HANG, tmp_path, kind) as hung:
        assert hung.stdout.readline() == "mid-write\n"
        assert list(tmp_path.glob("*")) == [path for path in tmp_path.iterdir() if path.name.startswith(PREFIX)]
        write_text(tmp_path / "other", "its work on the way stays while it is at work")
        assert len(names(tmp_path)) > 1
        hung.kill()
    write_text(tmp_path / "other", "and goes when it is dead")
    assert names(tmp_path) == ["other"]


def test_a_folder_without_its_lock_is_removed_and_other_files_stay(tmp_path) -> None:
    (tmp_path / f"{PREFIX}abc").mkdir()
    (tmp_path / f"{PREFIX}lock").touch()
    (tmp_path / ".hidden").mkdir()
    remove_stale(tmp_path)
    assert names(tmp_path) == [".hidden"]


def fail_midway(out: Path) -> None:
    with finished_folder(out, "last") as folder:
        (folder / "last").write_text("new", encoding="utf-8")
        raise ZeroDivisionError


def test_an_error_leaves_the_folder_as_it_was(tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        fail_midway(out)
    assert names(tmp_path) == []
    write_text(out / "last", "old")
    write_text(out / "mine", "kept")
    with pytest.raises(ZeroDivisionError):
        fail_midway(out)
    assert (out / "last").read_text("utf-8") == "old"
    with finished_folder(out, "last") as folder:
        (folder / "last").write_text("new", encoding="utf-8")
    assert names(out) == ["last", "mine"]
    assert (out / "last").read_text("utf-8") == "new"


def test_a_refusal_at_the_end_leaves_the_folder_as_it_was(tmp_path) -> None:
    def refuse() -> None:
        raise WriteError("no")

    with pytest.raises(WriteError), finished_folder(tmp_path / "out", "last", before=refuse) as folder:
        (folder / "last").touch()
    assert names(tmp_path) == []


def test_a_lock_has_one_holder_and_leaves_no_file(tmp_path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock):
        started = time.monotonic()
        with pytest.raises(BusyError), exclusive(lock, wait_s=0.1):
            pass
        assert time.monotonic() - started >= 0.1
    assert names(tmp_path) == []
    with exclusive(lock):
        assert lock.exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos; No space left on device"),
        ValueError("[Errno 28] No space left on device: 'x'"),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_full_disk_is_found_however_a_library_wraps_it(error, depth, tmp_path) -> None:
    for _ in range(depth):
        outer = RuntimeError("report this line")
        outer.__cause__ = error
        error = outer
    assert find_storage_problem(error) == errno.ENOSPC
    said = r"file: cannot be written \(its disk is full\); free some space"
    with pytest.raises(WriteError, match=said), explain_write_errors(tmp_path / "file"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x"), ZeroDivisionError()])
def test_what_is_no_matter_of_the_disk_stays_what_it_is(error, tmp_path) -> None:
    with pytest.raises(type(error)), explain_write_errors(tmp_path):
        raise error


def test_a_file_that_is_missing_elsewhere_is_not_said_of_the_one_that_is_written(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "file", lambda part: (tmp_path / "absent").read_bytes())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_is_written_to_and_never_replaced(tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/full")
    with pytest.raises(WriteError, match="its disk is full"):
        write_text(link, "text")
    assert link.is_symlink()
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True) as reader:
        write_text(tmp_path / "pipe", "text")
        assert reader.communicate(timeout=30)[0] == "text"


LIMITED = """
import resource, sys
from pathlib import Path
from lxcompress.writing import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_text(Path(sys.argv[1]), "x" * 5000)
"""


def test_a_limit_on_sizes_names_the_file_and_leaves_the_old_one(tmp_path) -> None:
    write_text(tmp_path / "file", "old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "file")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert f"WriteError: {tmp_path / 'file'}: cannot be written (the file would be larger" in done.stderr
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text("utf-8") == "old"


@pytest.fixture
def tree(tmp_path) -> Path:
    """model/ (a folder with a file), input, and links of every kind to both."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("w", encoding="utf-8")
    (tmp_path / "input").write_text("i", encoding="utf-8")
    (tmp_path / "hard").hardlink_to(tmp_path / "input")
    (tmp_path / "soft").symlink_to("input")
    (tmp_path / "softmodel").symlink_to("model")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    return tmp_path


FILE_REFUSALS = {
    "input": "which this command reads",
    "hard": "which this command reads",
    "soft": "which this command reads",
    "model/../input": "which this command reads",
    "model": "is a folder",
    "empty": "is a folder",
    "model/new": "is inside",
    "softmodel/new": "is inside",
    "softmodel/weights": "is inside",
    "model/deep/new": "is inside",
    "input/new": "is a file, not a folder",
    "loop": "loop",
    "loop/new": "loop",
    "x" * 300: "too long",
}
FOLDER_REFUSALS = {
    "input": "is a file",
    "soft": "is a file",
    "model": "which this command reads",
    "softmodel": "which this command reads",
    "model/new": "is inside",
    ".": "contains",
    "input/new": "is a file, not a folder",
    "loop": "loop",
    "loop/new": "loop",
    "x" * 300: "too long",
}


@pytest.mark.parametrize(
    ("kind", "out", "words"),
    [
        *(("file", out, words) for out, words in FILE_REFUSALS.items()),
        *(("folder", out, words) for out, words in FOLDER_REFUSALS.items()),
    ],
)
def test_no_output_goes_onto_an_input(kind, out, words, tree) -> None:
    before = names(tree)
    with pytest.raises(LxError, match=words) as caught:
        check_out(tree / out, [tree / "model", tree / "input", None, "hub/name", tree / "absent"], kind=kind)
    assert len(str(caught.value)) < 500
    assert names(tree) == before


@pytest.mark.parametrize("out", ["new", "deep/new", "empty/new"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_any_other_place_will_do(out, kind, tree) -> None:
    check_out(tree / out, [tree / "model", tree / "input"], kind=kind)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused_before_any_work(tree) -> None:
    (tree / "empty").chmod(0o500)
    for kind in ("file", "folder"):
        with pytest.raises(WriteError, match="nothing can be written"):
            check_out(tree / "empty/new", [], kind=kind)


def test_an_interrupt_removes_what_was_on_the_way(tmp_path) -> None:
    with start(HANG, tmp_path, "folder") as hung:
        assert hung.stdout.readline() == "mid-write\n"
        hung.send_signal(signal.SIGINT)
        hung.wait(timeout=30)
    assert names(tmp_path) == []


def test_work_on_the_way_is_on_the_disk_of_its_target(tmp_path) -> None:
    with scratch(tmp_path) as folder:
        assert folder.parent == tmp_path
    assert names(tmp_path) == []


def test_errors_name_the_folder_and_not_the_hidden_one(tmp_path) -> None:
    with pytest.raises(WriteError, match=f"^{tmp_path / 'out' / 'file'}: cannot be written") as caught:
        write_into_hidden(tmp_path / "out")
    assert PREFIX not in str(caught.value)


def write_into_hidden(out: Path) -> None:
    with finished_folder(out, "last") as folder, explain_write_errors(folder / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_another_process_removes_is_never_locked_as_a_file(tmp_path, monkeypatch) -> None:
    """Such a lock would be a new file of the folder's name, in the way of the process that made the folder."""
    stale = tmp_path / f"{PREFIX}abc"
    stale.mkdir()
    locked = []

    def remove_first(path: Path, **_: bool) -> bool:
        stale.rmdir()
        return False

    def record(path: Path, **options: bool) -> int:
        locked.append(path)
        return take_lock(path, **options)

    monkeypatch.setattr(Path, "is_dir", remove_first)
    monkeypatch.setattr("lxcompress.writing.take_lock", record)
    remove_stale(tmp_path)
    assert locked == [stale / "lock"]
