"""Claims: files in a folder on a network, each created once, which say which process made them.

Two operations are needed, which all network file systems have: creating a file that must not exist, and reading a file.
`leases.py` says what claims mean, and for how long.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from lxcompress.errors import LxError

HELD, FREE = "held", "free"
LARGEST_CLAIM = 4096
"""The bytes that are read of a claim; claims are a few hundred bytes long."""
TRIES = 50
"""How often a claim is read again while the file system says that it changed on the server."""
WITHOUT_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""The errors of a link on file systems that have none."""


class LeaseLostError(LxError):
    """A lease that another process has taken over, or may take over, because this process was silent for too long."""


@dataclass(frozen=True)
class Holder:
    """The process that made a claim. `token` is unique; `system` tells machines and containers apart."""

    token: str
    host: str
    system: str
    pid: int
    started: str
    begun: float
    """the holder's clock when it made the claim, for display only"""

    @property
    def is_dead(self) -> bool:
        """Return whether the process certainly ended: it was on this system, and is not there any more."""
        return self.system == this_system() and _process_start(self.pid) != self.started


@dataclass(frozen=True)
class Claim:
    """A claim as it was read: its text, and what the text says. `holder` is None while the text is incomplete."""

    number: int
    text: str
    holder: Holder | None
    is_free: bool


class SharedFiles:
    """The operations on the files of claims; all of them work on every network file system."""

    def create(self, path: Path, text: str) -> int | None:
        """Create `path` with `text`, unless it exists; return its descriptor, or None if another process made it.

        The text is written to a file of another name first. A link gives it its name, so nobody reads half of it.
        """
        part = path.with_name(f".new-{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self.write(descriptor, text, 0)
            is_made = self._link(part, path, text)
        except NotImplementedError:
            os.close(descriptor)
            return self._create_in_place(path, text)
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        if not is_made:
            os.close(descriptor)
            return None
        return descriptor

    def link(self, part: Path, path: Path) -> None:
        """Give the file `part` the second name `path`. Raises FileExistsError if `path` exists."""
        os.link(part, path)

    def write(self, descriptor: int, text: str, offset: int) -> None:
        """Write `text` into an open file at `offset`, and wait until the server has it."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        os.write(descriptor, text.encode("ascii"))
        os.fsync(descriptor)

    def read(self, path: Path) -> str | None:
        """Return the text of a file; None if it does not exist. Opening the file asks the server for its newest state.

        Raises OSError.
        """
        for _ in range(TRIES):
            try:
                with path.open("rb") as file:
                    return file.read(LARGEST_CLAIM).decode("ascii", "replace")
            except FileNotFoundError:
                return None
            except PermissionError:  # Windows, while the file is being removed
                time.sleep(0.01)
            except OSError as error:
                if error.errno != getattr(errno, "ESTALE", None):
                    raise
        raise LeaseLostError(f"{path}: cannot be read; check the permissions of the folder")

    def _link(self, part: Path, path: Path, text: str) -> bool:
        """Return whether `part` got the name `path`. Raises NotImplementedError if the file system has no links."""
        try:
            self.link(part, path)
        except FileExistsError:
            # The server may have made the link and its reply may be lost: the client then asks again, and is told
            # that the file exists. The text is unique, so it says whose file it is.
            return self.read(path) == text
        except OSError as error:
            if error.errno in WITHOUT_LINKS:
                raise NotImplementedError from error
            raise
        return True

    def _create_in_place(self, path: Path, text: str) -> int | None:
        """Create a file that must not exist, then write it, for file systems without links."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            return None
        self.write(descriptor, text, 0)
        return descriptor


def write_head() -> str:
    """Return the first line of a new claim, which says who made it."""
    return write_holder(describe_this_process()) + "\n"


def write_tail(state: str, beats: int) -> str:
    """Return the second line of a claim, which always has the same length."""
    return f"{state} {beats:012d}\n"


def read_claim(number: int, text: str) -> Claim:
    """Return what the text of a claim says. A text that is incomplete counts as held, by an unknown process."""
    head, _, tail = text.partition("\n")
    holder, is_free = read_holder(head), tail.startswith(f"{FREE} ") and tail.endswith("\n")
    return Claim(number, text, holder, is_free and holder is not None)


def describe_this_process() -> Holder:
    """Return this process as the holder of what it claims now."""
    pid, token = os.getpid(), secrets.token_hex(16)
    return Holder(token, socket.gethostname(), this_system(), pid, _process_start(pid), round(time.time(), 3))


def write_holder(holder: Holder) -> str:
    """Return the holder as one line of JSON, without an end of line."""
    return json.dumps(asdict(holder))


def read_holder(text: str) -> Holder | None:
    """Return the holder that a text of `write_holder` describes; None if the text is incomplete."""
    try:
        tree = json.loads(text)
        return Holder(**{field.name: tree[field.name] for field in fields(Holder)})
    except (ValueError, TypeError, KeyError):
        return None


@cache
def this_system() -> str:
    """Return a text that is the same for two processes only if they see each other's process numbers."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _process_start(pid: int) -> str:
    """Return a text that tells a process from an earlier one with the same number; empty if there is no process."""
    try:
        # The text after the name, which may have spaces and brackets: the state is the first word, the start in clock
        # ticks since the system began is the 20th.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if words[0] in "ZX" else words[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        pass
    import psutil

    return "known only to the system" if psutil.pid_exists(pid) else ""
