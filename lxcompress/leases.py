"""Leases: claims that processes of several machines make on names, in a folder that they share over a network.

File locks do not work between machines on every network file system. A lease needs two operations only: creating a
file that must not exist, and reading a file.

The claims on a name are numbered: NAME.1, NAME.2 and so on. The claim with the highest number counts. A process takes
a name by creating the next number, which only one process can do. No claim is ever renamed or replaced, so a process
that acts on an old look at the folder cannot remove a newer claim.

The holder changes its claim every few seconds (a heartbeat). If another process sees no change for `stale_s` seconds of
its own clock, it may take the next number. Clocks of different machines are never compared. A holder whose heartbeats
fail gives its lease up before another process may take it over.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lxcompress.claims import (
    FREE,
    HELD,
    Claim,
    Holder,
    LeaseLostError,
    SharedFiles,
    read_claim,
    write_head,
    write_tail,
)

PRESENT = "worker-"
"""The lease whose name begins so shows that a process is there, also between two runs."""


@dataclass(frozen=True)
class LeaseTimes:
    """The seconds between heartbeats, and how long a claim counts without one.

    `kept_s` is for the holder, and `stale_s` for others. The difference allows for clocks that run at different speeds.
    """

    beat_s: float = 10.0
    kept_s: float = 60.0
    stale_s: float = 90.0
    poll_s: float = 0.5


@dataclass
class Lease:
    """A name that this process holds. `known_s` is the clock before the last heartbeat that reached the server."""

    name: str
    number: int
    descriptor: int
    offset: int
    known_s: float
    beats: int = 0
    is_lost: bool = False


@dataclass
class _Watch:
    """A claim of another process: its last text, since when it has not changed, and when it was last read."""

    number: int
    text: str
    since_s: float
    read_s: float


class Leases:
    """The leases of this process in one folder. As a context manager it sends their heartbeats from a thread."""

    def __init__(
        self,
        folder: Path,
        *,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
        files: SharedFiles | None = None,
    ) -> None:
        self.folder = folder
        self.times = times or LeaseTimes()
        self.clock = clock
        self.files = files or SharedFiles()
        self._held: dict[str, Lease] = {}
        self._numbers: dict[str, int] = {}
        self._watched: dict[str, _Watch] = {}
        self._guard = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Leases:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stop.clear()
        self._thread = threading.Thread(target=self._send_beats, name="lxcompress-leases", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(self.times.poll_s)
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Try to take `name`, and return whether this process has it now; another process may hold it."""
        with self._guard:
            if name in self._held:
                return False
            claim = self._last(name)
            if claim is not None and not claim.is_free and not self._is_stale(name, claim):
                return False
            number = claim.number + 1 if claim else 1
            known_s = self.clock()
            head, tail = write_head(), write_tail(HELD, 0)
            descriptor = self.files.create(self._path(name, number), head + tail)
            if descriptor is None:
                return False
            self._watched.pop(name, None)
            self._numbers[name] = number
            self._held[name] = Lease(name, number, descriptor, len(head), known_s)
            return True

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold `name` until the block ends; wait while another process holds it."""
        while not self.take(name):
            time.sleep(self.times.poll_s)
        try:
            yield
        finally:
            self.release(name)

    def holds(self, name: str) -> bool:
        """Return whether this process still has `name`: its last heartbeat is recent, and nobody took it over."""
        lease = self._held.get(name)
        return lease is not None and not lease.is_lost and self.clock() - lease.known_s <= self.times.kept_s

    def check(self) -> None:
        """Raise LeaseLostError if this process has lost a lease that it took."""
        for name in list(self._held):
            if not self.holds(name):
                raise LeaseLostError(
                    f"{self.folder / name}: another process may have taken this run over, because this one could not "
                    f"write to the folder for {self.times.kept_s:.0f} s; check the network and start it again"
                )

    def beat(self) -> None:
        """Send a heartbeat for every lease of this process; note those that another process has taken over."""
        for lease in list(self._held.values()):
            known_s = self.clock()
            with self._guard:
                if self._held.get(lease.name) is not lease or lease.is_lost:
                    continue
                lease.beats += 1
                try:
                    self.files.write(lease.descriptor, write_tail(HELD, lease.beats), lease.offset)
                    lease.is_lost = self.files.read(self._path(lease.name, lease.number + 1)) is not None
                except OSError:  # the server is not there; `holds` says for how long that is harmless
                    continue
                if not lease.is_lost:
                    lease.known_s = known_s

    def release(self, name: str, *, forget: bool = False) -> None:
        """Give `name` back. With `forget`, remove its claims: only for a name that nobody needs again."""
        with self._guard:
            is_held = self.holds(name)
            lease = self._held.pop(name, None)
            if lease is None:
                return
            with contextlib.suppress(OSError):
                if not lease.is_lost:
                    self.files.write(lease.descriptor, write_tail(FREE, lease.beats), lease.offset)
            with contextlib.suppress(OSError):
                os.close(lease.descriptor)
            if forget and is_held:
                self._numbers.pop(name, None)
                for number in range(lease.number, 0, -1):
                    with contextlib.suppress(OSError):
                        self._path(name, number).unlink()

    def _path(self, name: str, number: int) -> Path:
        """Return the path of a claim."""
        return self.folder / f"{name}.{number}"

    def _last(self, name: str) -> Claim | None:
        """Return the claim on `name` with the highest number; None if nobody ever claimed it."""
        number = self._numbers.get(name, 0)
        text = self.files.read(self._path(name, number)) if number else None
        if text is None:
            number = 0
        while (next_text := self.files.read(self._path(name, number + 1))) is not None:
            number, text = number + 1, next_text
        self._numbers[name] = number
        return None if text is None else read_claim(number, text)

    def _is_stale(self, name: str, claim: Claim) -> bool:
        """Return whether the holder of a claim is dead, or silent for `stale_s` seconds in which this process looked.

        A long pause between two looks begins the count again: this process, or the server, may have been stopped.
        """
        if claim.holder is not None and claim.holder.is_dead:
            return True
        now, watch = self.clock(), self._watched.get(name)
        is_same = watch is not None and (watch.number, watch.text) == (claim.number, claim.text)
        if watch is None or not is_same or now - watch.read_s > self.times.stale_s / 2:
            self._watched[name] = _Watch(claim.number, claim.text, now, now)
            return False
        watch.read_s = now
        return now - watch.since_s >= self.times.stale_s

    def _send_beats(self) -> None:
        """Send heartbeats until the context ends."""
        while not self._stop.wait(self.times.beat_s):
            self.beat()


def refresh(folder: Path) -> None:
    """Ask the file server for the newest state of `folder` and of the folder above it.

    A network file system may remember for a minute that a file does not exist. Opening its folder ends that.
    """
    for path in (folder.parent, folder):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))


@dataclass(frozen=True)
class LiveClaim:
    """A name that is held now, its holder, and the seconds since the holder's last heartbeat."""

    name: str
    holder: Holder
    age_s: float


def list_live(folder: Path, *, times: LeaseTimes | None = None) -> list[LiveClaim]:
    """Return the claims in `folder` whose holders seem to live; for display, and to refuse to start beside them.

    The age of a heartbeat is the difference of two times of the file server: that of the claim's file, and that of a
    file made now. Where the folder cannot be written to, this machine's clock replaces the second.
    """
    stale_s = (times or LeaseTimes()).stale_s
    last: dict[str, int] = {}
    if not folder.is_dir():
        return []
    for path in folder.iterdir():
        name, _, digits = path.name.rpartition(".")
        if name and digits.isdecimal():
            last[name] = max(int(digits), last.get(name, 0))
    if not last:
        return []
    now, files, live = _server_time(folder), SharedFiles(), []
    for name, number in sorted(last.items()):
        path = folder / f"{name}.{number}"
        try:
            text, changed = files.read(path), path.stat().st_mtime
        except OSError:  # it was removed just now
            continue
        claim = read_claim(number, text or "")
        age_s = max(0.0, now - changed)
        if claim.holder and not claim.is_free and not claim.holder.is_dead and age_s < stale_s:
            live.append(LiveClaim(name, claim.holder, age_s))
    return live


def _server_time(folder: Path) -> float:
    """Return the time of the file server that has `folder`: the time of a file that is made now."""
    probe = folder / f".new-{secrets.token_hex(8)}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        return time.time()
    return now
