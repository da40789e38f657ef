"""Writes that are whole or not there at all, locks between processes, and checks of where output goes.

Work on the way lies in a hidden folder `.lxcompress-XXXXXXXX` in the folder of its target, so that one rename finishes
it. The folder is locked by its process. A kill leaves it behind, and the next write to the same folder removes it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from lxcompress.errors import LxError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX, LOCK = ".lxcompress-", "lock"
COMMIT_WAIT_S = 60.0
"""The longest wait for another process that moves a finished folder to its name, which takes milliseconds."""
_RETRY_S = 0.02
_own: set[Path] = set()
"""The hidden folders that this process works in now."""
_WORDS = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows (ulimit -f, or its file system)",
    errno.EROFS: "its file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EEXIST: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "a name in its path is too long",
    errno.EIO: "its disk fails",
}
_ROOM = "make room, and give the same command"
_ELSEWHERE = "give a path that can be written to"
_REMEDIES = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EFBIG: "raise the limit, and give the same command"}
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""What is never said of reading, so that it is about writing however far down a library met it."""
_SAID = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
}


class WriteError(LxError):
    """A file or folder that cannot be written, or may not be written over."""


class BusyError(Exception):
    """Another process holds the lock."""


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a name in a hidden folder, then move the file to `path`: a reader sees all of it or none.

    A symbolic link at `path` is replaced. Bytes for a device or a pipe, such as /dev/stdout, go straight into it.
    Raises WriteError.
    """
    if _is_stream(path):
        _write_stream(path, write)
        return
    if path.is_dir():
        raise WriteError(f"{path}: is a folder, expected a file name; give another path")
    with scratch(path.parent, path) as folder, explain_write_errors(path, folder):
        part = folder / "part"
        part.touch()
        mode = part.stat().st_mode
        write(part)
        part.chmod(mode)  # safetensors leaves its files readable by their owner alone
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole. Raises WriteError."""
    write_whole(path, lambda part: _write_utf8(part, text))


@contextmanager
def scratch(parent: Path, target: Path | None = None) -> Iterator[Path]:
    """Make a hidden, locked folder in `parent` and remove it at the end; first remove those that kills left there.

    Raises WriteError, which names `target` (else `parent`).
    """
    with explain_write_errors(target or parent):
        parent.mkdir(parents=True, exist_ok=True)
        remove_stale(parent)
        folder, lock = _new_scratch(parent)
    _own.add(folder)
    try:
        yield folder
    finally:
        _own.discard(folder)
        with suppress(OSError):  # what remains is removed by the next write
            shutil.rmtree(folder)
        os.close(lock)


def remove_stale(parent: Path) -> None:
    """Remove what killed processes left in `parent`: hidden folders and lock files that no process holds."""
    with os.scandir(parent) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX) and not entry.is_symlink()]
    for each in found:
        is_folder = each.is_dir()
        # Whoever may not open or lock it cannot tell whether it is in use: it stays.
        with suppress(OSError, BusyError):
            lock = take_lock(each / LOCK if is_folder else each, is_needed=True)
            try:
                shutil.rmtree(each) if is_folder else each.unlink()
            finally:
                os.close(lock)


def remove_own() -> None:
    """Remove what this process was writing, which is about to end."""
    for folder in list(_own):
        shutil.rmtree(folder, ignore_errors=True)


def is_vacant(folder: Path) -> bool:
    """Whether nothing is in `folder`, hidden work on the way apart."""
    return all(each.name.startswith(PREFIX) for each in folder.iterdir())


@contextmanager
def finished_folder(out: Path, last: str, *, before: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Give a hidden folder to fill, and move it to `out` at the end of the block; after an error `out` is as it was.

    In an `out` that has files, those of the same name are replaced, and `last`, the file that says that the rest is
    there, is removed first and written last. Processes do this one after the other, and call `before` first: what it
    raises leaves `out` as it is. Raises WriteError.
    """
    if out.is_symlink() and not out.exists():
        out = Path(os.path.realpath(out))
    with scratch(_workshop(out), out) as folder:
        made = folder / (out.name or "folder")
        made.mkdir()
        with explain_write_errors(out, folder), _renamed(made, out):
            yield made
        parent = out.parent if os.access(out.parent, os.W_OK) else out
        with explain_write_errors(out), exclusive(parent / f"{PREFIX}{LOCK}", wait_s=COMMIT_WAIT_S):
            before()
            if out.exists():
                remove_stale(out)
            if out.exists() and (folder.parent == out or any(out.iterdir())):
                _move_into(made, out, last)
            else:
                os.rename(made, out)


@contextmanager
def exclusive(lock: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `lock`, which ends with the process and is removed at the end. Raises BusyError."""
    if fcntl is None:
        from filelock import FileLock, Timeout

        try:
            with FileLock(lock, timeout=wait_s):
                yield
        except Timeout:
            raise BusyError(lock) from None
        return
    end = time.monotonic() + wait_s
    while True:
        try:
            held = take_lock(lock)
            break
        except BusyError:
            if time.monotonic() >= end:
                raise
            time.sleep(_RETRY_S)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held: whoever opened it by now sees that it is no longer this file
        os.close(held)


def check_out(
    out: Path, reads: Iterable[Path | str | None], *, kind: Literal["file", "folder", "run"], option: str = "--out"
) -> None:
    """Raise WriteError, before any work, if output of `kind` cannot go to `out`, or would harm one of `reads`.

    What is read may not be `out` itself (by any link), lie in a folder `out`, or be a folder that holds `out`. A run
    folder may hold what is read.
    """
    with explain_write_errors(out):
        found = _stat(out)
        if found is None and out.is_symlink():
            os.stat(out.parent)
        above = next(path for path in (out, *out.absolute().parents) if _stat(path) is not None)
    if kind == "file" and found and stat.S_ISDIR(found.st_mode):
        raise WriteError(f"{option} {out}: is a folder; give a file name, such as {out / 'NAME'}")
    if kind != "file" and found and not stat.S_ISDIR(found.st_mode):
        raise WriteError(f"{option} {out}: is a file; give a folder")
    if not found and not above.is_dir():
        raise WriteError(f"{option} {out}: {above} is a file, not a folder; give another path")
    _check_reads(out, reads, kind=kind, option=option)
    if not (found and _is_stream(out)):
        folder = above if above.is_dir() else above.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WriteError(f"{option} {out}: nothing can be written to {folder}; give a folder that you may write to")


def find_storage_problem(error: BaseException) -> int | None:
    """Return the number of the system's error if a disk that takes no more is behind `error`.

    Libraries wrap it in errors of their own, and some give its words alone.
    """
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if isinstance(at, OSError) and at.errno in _STORAGE:
            return at.errno
        if not isinstance(at, OSError):
            text = str(at)
            number = re.search(r"os error (\d+)|\[Errno (\d+)\]", text)
            if number and int(number[1] or number[2]) in _STORAGE:
                return int(number[1] or number[2])
            said = next((number for words, number in _SAID.items() if words.lower() in text.lower()), None)
            if said is not None:
                return said
        at = at.__cause__ or at.__context__
    return None


def cannot_write(path: Path | str, number: int, words: str = "") -> WriteError:
    """Return the error that names the file which the system's error `number` kept from being written."""
    reason = _WORDS.get(number) or words or os.strerror(number)
    return WriteError(f"{path}: cannot be written ({reason}); {_REMEDIES.get(number, _ELSEWHERE)}")


def explain_os_error(error: Exception, number: int | None) -> LxError:
    """Return the sentence for an error of the system, `number`, that reached the command: what it is about, and why."""
    path = getattr(error, "filename", None)
    where = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else "a file"
    if number in _STORAGE:
        return cannot_write(where, number)
    reason = _WORDS.get(number or 0) or getattr(error, "strerror", None) or str(error)
    return LxError(f"{where}: {reason}; check the path, its permissions and the free space")


@contextmanager
def explain_write_errors(path: Path, folder: Path | None = None) -> Iterator[None]:
    """Turn what the disk refuses inside the block into a WriteError that names `path`.

    An error of the system that names a file outside `folder`, if that is given, is not about writing, and is passed on.
    """
    try:
        yield
    except LxError:
        raise
    except OSError as problem:
        is_other = folder and problem.filename and not Path(os.fsdecode(problem.filename)).is_relative_to(folder)
        if problem.errno is None or (is_other and problem.filename != str(path)):
            raise
        raise cannot_write(path, problem.errno, problem.strerror or os.strerror(problem.errno)) from problem
    except Exception as problem:  # of a library that writes: safetensors, onnx and torch wrap what the system says
        number = find_storage_problem(problem)
        if number is None:
            raise
        raise cannot_write(path, number) from problem


@contextmanager
def _renamed(made: Path, out: Path) -> Iterator[None]:
    """Name `out` in errors, in place of the hidden folder `made`."""
    try:
        yield
    except LxError as error:
        if str(made) not in str(error):
            raise
        raise type(error)(str(error).replace(str(made), str(out))) from error


def _check_reads(out: Path, reads: Iterable[Path | str | None], *, kind: str, option: str) -> None:
    real = Path(os.path.realpath(out))
    for each in reads:
        if each is None or _stat(Path(each)) is None:
            continue
        read = Path(each)
        if _stat(out) is not None and os.path.samefile(out, read):
            raise WriteError(f"{option} {out}: is {read}, which this command reads; give another path")
        other = Path(os.path.realpath(read))
        if read.is_dir() and real.is_relative_to(other):
            raise WriteError(f"{option} {out}: lies in {read}, which this command reads; give a path outside it")
        if kind == "folder" and other.is_relative_to(real):
            raise WriteError(f"{option} {out}: holds {read}, which this command reads; give another folder")


def _stat(path: Path) -> os.stat_result | None:
    """What the system says of `path`, its links followed; None if nothing is there."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None


def _is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe or a socket, which must not be replaced by a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # said by whatever is done with it next
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_stream(path: Path, write: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        with explain_write_errors(part, Path(folder)):
            write(part)
        with explain_write_errors(path), part.open("rb") as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)


def _new_scratch(parent: Path) -> tuple[Path, int]:
    """A hidden folder and the descriptor of its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            return folder, take_lock(folder / LOCK)
        except (BusyError, FileNotFoundError):  # another process took it for a stale one before it was locked
            continue


def take_lock(path: Path, *, is_needed: bool = False) -> int:
    """A descriptor of the locked file `path`. Raises BusyError if another process holds it; with `is_needed`, also if
    its file system has no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o666)
        try:
            if not _flock(descriptor, is_needed=is_needed):
                raise BusyError(path)
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed it: the name is free, or another file's


def _flock(descriptor: int, *, is_needed: bool) -> bool:
    """Lock an open file, and return whether that was done; without `is_needed`, having no locks is as good."""
    if fcntl is None:
        return not is_needed
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return not is_needed
    return True


def _workshop(out: Path) -> Path:
    """Where the hidden folder lies: beside `out`, or in it where it has files or cannot be replaced."""
    if not out.exists():
        return out.parent
    is_fixed = os.path.ismount(out) or os.path.samefile(out, os.curdir) or not os.access(out.parent, os.W_OK)
    return out if is_fixed or not is_vacant(out) else out.parent


def _move_into(made: Path, out: Path, last: str) -> None:
    """Move all that is in `made` into the folder `out`, the file `last` last."""
    (out / last).unlink(missing_ok=True)
    for each in sorted(made.iterdir(), key=lambda path: path.name == last):
        target = out / each.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(each, target)


def _write_utf8(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
