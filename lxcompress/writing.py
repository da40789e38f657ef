"""Write files and folders completely or not at all, lock them between processes, and check output paths.

Unfinished work is in a hidden folder `.lxcompress-XXXXXXXX` in the folder of its target, so that one rename finishes
it. The process locks that folder. If the process is killed, the next write to the same target folder removes it.
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
"""The longest wait for another process that renames a finished folder, which takes milliseconds."""
_RETRY_S = 0.02
_own: set[Path] = set()
"""The hidden folders that this process is using."""
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
    errno.EIO: "its disk has an error",
}
_ROOM = "free some space, and run the same command"
_ELSEWHERE = "give a path that can be written to"
_REMEDIES = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EFBIG: "raise the limit, and run the same command"}
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors that only writing can cause, however deep in a library they occur."""
_SAID = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
}


class WriteError(LxError):
    """A file or folder that cannot be written, or must not be overwritten."""


class BusyError(Exception):
    """Another process holds the lock."""


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a path in a hidden folder, then move that file to `path`: a reader sees all of it or nothing.

    A symbolic link at `path` is replaced. A device or a pipe, such as /dev/stdout, is written directly.
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
        part.chmod(mode)  # safetensors makes its files readable only by their owner
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, completely or not at all. Raises WriteError."""
    write_whole(path, lambda part: _write_utf8(part, text))


@contextmanager
def scratch(parent: Path, target: Path | None = None) -> Iterator[Path]:
    """Make a hidden, locked folder in `parent` and remove it at the end; first remove those of killed processes.

    Raises WriteError, which names `target`, or `parent` without one.
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
        with suppress(OSError):  # the next write removes what remains
            shutil.rmtree(folder)
        os.close(lock)


def remove_stale(parent: Path) -> None:
    """Remove the hidden folders and lock files of killed processes from `parent`: those that no process holds."""
    # Whether an entry is a folder is read once, here: another process may remove it at any moment, and a lock at the
    # path of a removed folder would be a new file of that name.
    with os.scandir(parent) as entries:
        named = [entry for entry in entries if entry.name.startswith(PREFIX) and not entry.is_symlink()]
        found = [(Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in named]
    for path, is_folder in found:
        # A folder that this user cannot open or lock may be in use, and stays.
        with suppress(OSError, BusyError):
            lock = take_lock(path / LOCK if is_folder else path, is_needed=True)
            try:
                shutil.rmtree(path) if is_folder else path.unlink()
            finally:
                os.close(lock)


def remove_own() -> None:
    """Remove the unfinished work of this process, which is about to exit."""
    for folder in list(_own):
        shutil.rmtree(folder, ignore_errors=True)


def is_vacant(folder: Path) -> bool:
    """Return whether `folder` is empty, apart from hidden folders of unfinished work."""
    return all(entry.name.startswith(PREFIX) for entry in folder.iterdir())


@contextmanager
def finished_folder(out: Path, last: str, *, before: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield a hidden folder to fill, and move it to `out` at the end of the block; after an error `out` is unchanged.

    If `out` has files, those of the same name are replaced. The file `last`, whose presence means that the folder is
    complete, is removed first and written last. Processes do this one at a time, and call `before` first; an error of
    `before` leaves `out` unchanged. Raises WriteError.
    """
    if out.is_symlink() and not out.exists():
        out = Path(os.path.realpath(out))
    with scratch(_scratch_parent(out), out) as folder:
        made = folder / (out.name or "folder")
        made.mkdir()
        with explain_write_errors(out, folder), _name_in_errors(made, out):
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
    """Hold the lock file `lock`, which is removed at the end of the block. Raises BusyError.

    A lock ends with its process, also if that is killed.
    """
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
        lock.unlink(missing_ok=True)  # while it is held, so that a process that has opened it sees that it was removed
        os.close(held)


def check_out(
    out: Path, reads: Iterable[Path | str | None], *, kind: Literal["file", "folder", "run"], option: str = "--out"
) -> None:
    """Raise WriteError, before any work, if output of `kind` cannot go to `out`, or would overwrite one of `reads`.

    An input must not be `out` itself (through any link), be inside a folder `out`, or be a folder that contains `out`.
    A run folder may contain inputs.
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
            raise WriteError(f"{option} {out}: {folder} is not writable; give a folder that you can write to")


def find_storage_problem(error: BaseException) -> int | None:
    """Return the number of the system's error if the cause of `error` is a full or read-only disk; else None.

    Libraries wrap it in errors of their own, and some keep only its text.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in _STORAGE:
            return cause.errno
        if not isinstance(cause, OSError):
            text = str(cause)
            number = re.search(r"os error (\d+)|\[Errno (\d+)\]", text)
            if number and int(number[1] or number[2]) in _STORAGE:
                return int(number[1] or number[2])
            said = next((number for words, number in _SAID.items() if words.lower() in text.lower()), None)
            if said is not None:
                return said
        cause = cause.__cause__ or cause.__context__
    return None


def cannot_write(path: Path | str, number: int, words: str = "") -> WriteError:
    """Return the error for a file that could not be written because of the system's error `number`."""
    reason = _WORDS.get(number) or words or os.strerror(number)
    return WriteError(f"{path}: cannot be written ({reason}); {_REMEDIES.get(number, _ELSEWHERE)}")


def explain_os_error(error: Exception, number: int | None) -> LxError:
    """Return the error for a system error `number` that reached the command: the file, and the reason."""
    path = getattr(error, "filename", None)
    where = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else "a file"
    if number in _STORAGE:
        return cannot_write(where, number)
    reason = _WORDS.get(number or 0) or getattr(error, "strerror", None) or str(error)
    return LxError(f"{where}: {reason}; check the path, its permissions and the free space")


@contextmanager
def explain_write_errors(path: Path, folder: Path | None = None) -> Iterator[None]:
    """Turn an error of the disk inside the block into a WriteError that names `path`.

    With `folder`, a system error about a file outside of it is not about writing, and is passed on.
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
    except Exception as problem:  # safetensors, onnx and torch wrap the system's error
        number = find_storage_problem(problem)
        if number is None:
            raise
        raise cannot_write(path, number) from problem


@contextmanager
def _name_in_errors(made: Path, out: Path) -> Iterator[None]:
    """Name `out` in errors instead of the hidden folder `made`."""
    try:
        yield
    except LxError as error:
        if str(made) not in str(error):
            raise
        raise type(error)(str(error).replace(str(made), str(out))) from error


def _check_reads(out: Path, reads: Iterable[Path | str | None], *, kind: str, option: str) -> None:
    real = Path(os.path.realpath(out))
    for given in reads:
        if given is None or _stat(Path(given)) is None:
            continue
        read = Path(given)
        if _stat(out) is not None and os.path.samefile(out, read):
            raise WriteError(f"{option} {out}: is {read}, which this command reads; give another path")
        other = Path(os.path.realpath(read))
        if read.is_dir() and real.is_relative_to(other):
            raise WriteError(f"{option} {out}: is inside {read}, which this command reads; give a path outside it")
        if kind == "folder" and other.is_relative_to(real):
            raise WriteError(f"{option} {out}: contains {read}, which this command reads; give another folder")


def _stat(path: Path) -> os.stat_result | None:
    """Return the status of `path`, following links; None if it does not exist."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None


def _is_stream(path: Path) -> bool:
    """Return whether `path` is a device, a pipe or a socket, which must not be replaced by a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # the next operation reports it
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
    """Make a hidden folder, and return it with the descriptor of its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            return folder, take_lock(folder / LOCK)
        except (BusyError, FileNotFoundError):  # another process removed it as stale before it was locked
            continue


def take_lock(path: Path, *, is_needed: bool = False) -> int:
    """Lock the file `path` and return its descriptor.

    Raises BusyError if another process holds it; with `is_needed`, also if the file system has no locks.
    """
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
        os.close(descriptor)  # its last holder removed it, so lock the new file of that name


def _flock(descriptor: int, *, is_needed: bool) -> bool:
    """Lock an open file, and return whether that worked. Without `is_needed`, a system without locks is fine."""
    if fcntl is None:
        return not is_needed
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return not is_needed
    return True


def _scratch_parent(out: Path) -> Path:
    """Return the parent of the hidden folder: that of `out`, or `out` itself if it has files or cannot be replaced."""
    if not out.exists():
        return out.parent
    is_fixed = os.path.ismount(out) or os.path.samefile(out, os.curdir) or not os.access(out.parent, os.W_OK)
    return out if is_fixed or not is_vacant(out) else out.parent


def _move_into(made: Path, out: Path, last: str) -> None:
    """Move everything in `made` into the folder `out`, the file `last` at the end."""
    (out / last).unlink(missing_ok=True)
    for entry in sorted(made.iterdir(), key=lambda path: path.name == last):
        target = out / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(entry, target)


def _write_utf8(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
