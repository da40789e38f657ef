"""Laws of leases: one holder at a time, whatever the network does; a silent holder is replaced; what ends is free.

A simulated clock moves by seconds at once. The simulated network loses replies, repeats and delays writes, and shows
readers half of a file or none.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lxcompress.claims import LeaseLostError, SharedFiles
from lxcompress.leases import Leases, LeaseTimes, list_live

TIMES = LeaseTimes()
HOLD = """
import sys
from pathlib import Path
from lxcompress.leases import Leases
with Leases(Path(sys.argv[1])) as leases, leases.hold("run"):
    print("held", flush=True)
    sys.stdin.read()
"""


class Clock:
    """The clock of a process, which runs faster or slower than true time."""

    def __init__(self, speed: float = 1.0) -> None:
        self.true_s, self.speed = 0.0, speed

    def __call__(self) -> float:
        return 1000 * self.speed + self.true_s * self.speed


class MemoryFiles(SharedFiles):
    """Files that are not forced to disk: the tests do not pull the plug."""

    def write(self, descriptor: int, text: str, offset: int) -> None:
        os.pwrite(descriptor, text.encode("ascii"), offset)


class BadNetwork(MemoryFiles):
    """A network that loses replies, repeats writes later, and gives readers half a file, or none."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.is_bad, self.late = draw, True, []

    def happens(self, share: float) -> bool:
        return self.is_bad and self.draw.random() < share

    def link(self, part: Path, path: Path) -> None:
        os.link(part, path)
        if self.happens(0.3):  # the reply was lost, and the repeated call finds what the first one made
            raise FileExistsError(path)

    def write(self, descriptor: int, text: str, offset: int) -> None:
        if self.happens(0.2):  # the same write arrives again, later
            self.late.append((os.dup(descriptor), text, offset))
        if offset and self.happens(0.2):
            half = text[: self.draw.randrange(len(text))] if self.happens(0.5) else ""
            super().write(descriptor, half, offset)
            raise OSError(errno.ETIMEDOUT, "timed out")
        super().write(descriptor, text, offset)

    def deliver(self) -> None:
        """Let a late write arrive."""
        if self.late:
            descriptor, text, offset = self.late.pop(self.draw.randrange(len(self.late)))
            super().write(descriptor, text, offset)
            os.close(descriptor)

    def read(self, path: Path) -> str | None:
        text = super().read(path)
        if text is None or self.happens(0.05):
            return None
        return text[: self.draw.randrange(len(text) + 1)] if self.happens(0.05) else text


def simulate(folder: Path, seed: int, times: LeaseTimes) -> tuple[int, int]:
    """Let four processes compete for one name; return how often it was taken, and how often two held it at once."""
    draw = random.Random(seed)
    network = BadNetwork(draw)
    clocks = [Clock(speed) for speed in (0.9, 1.0, 1.05, 1.1)]
    folder.mkdir()
    processes = [Leases(folder, times=times, clock=clock, files=network) for clock in clocks]
    asleep_s, now, taken, violations = [0.0] * 4, 0.0, 0, 0
    for _ in range(3000):
        now += draw.expovariate(1.0)
        for clock in clocks:
            clock.true_s = now
        number = draw.randrange(4)
        if draw.random() < 0.1:
            network.deliver()
        if asleep_s[number] > now:
            continue
        process = processes[number]
        if draw.random() < 0.01:
            asleep_s[number] = now + draw.uniform(0, 400)
        elif process.holds("run"):
            process.beat() if draw.random() < 0.9 else process.release("run")
        else:
            process.release("run")  # what was lost
            taken += process.take("run")
        violations += sum(process.holds("run") for process in processes) > 1
    network.is_bad = False
    assert ends_free(processes, clocks, now), "a name stays taken although its holders are silent"
    for process in processes:
        process.release("run")
    while network.late:
        network.deliver()
    return taken, violations


def ends_free(processes: list[Leases], clocks: list[Clock], now: float) -> bool:
    """Return whether one process gets the name while the others are silent."""
    for _ in range(300):
        now += 1
        for clock in clocks:
            clock.true_s = now
        if processes[0].holds("run"):
            return True
        processes[0].release("run")
        processes[0].take("run")
    return False


@pytest.mark.parametrize("seed", range(3))
def test_no_two_hold_a_name_whatever_the_network_does(seed, tmp_path) -> None:
    taken, violations = simulate(tmp_path / "leases", seed, TIMES)
    assert violations == 0
    assert taken > 20


def test_the_simulation_sees_a_holder_that_trusts_its_lease_for_too_long(tmp_path) -> None:
    """With a holder that waits longer than the others, two hold the name: so the simulation can find that."""
    careless = LeaseTimes(kept_s=300.0, stale_s=30.0)
    assert sum(simulate(tmp_path / str(seed), seed, careless)[1] for seed in range(1)) > 0


def pair(folder: Path, clock: Clock) -> tuple[Leases, Leases]:
    folder.mkdir(exist_ok=True)
    return tuple(Leases(folder, clock=clock, files=MemoryFiles()) for _ in range(2))


def test_one_takes_a_name_and_gives_it_back(tmp_path) -> None:
    one, two = pair(tmp_path, Clock())
    assert one.take("run")
    assert not two.take("run")
    assert two.take("other")
    one.release("run")
    assert two.take("run")
    assert not one.take("run")
    assert [live.name for live in list_live(tmp_path)] == ["other", "run"]
    for leases in (one, two):
        for name in ("run", "other"):
            leases.release(name)
    assert list_live(tmp_path) == []


def wait(clock: Clock, seconds: float, look) -> None:
    for _ in range(round(seconds)):
        clock.true_s += 1
        look()


def test_a_silent_holder_is_replaced_after_that_time_and_not_before(tmp_path) -> None:
    clock = Clock()
    one, two = pair(tmp_path, clock)
    one.take("run")
    two.take("run")
    wait(clock, TIMES.stale_s - 1, lambda: two.take("run"))
    assert not two.holds("run")
    assert not one.holds("run")  # it gave up earlier
    with pytest.raises(LeaseLostError, match="taken this run over"):
        one.check()
    wait(clock, 1, lambda: two.take("run"))
    assert two.holds("run")
    one.beat()
    assert not one.holds("run")
    one.release("run")
    assert two.holds("run")
    two.check()


def test_a_holder_with_heartbeats_is_never_replaced(tmp_path) -> None:
    clock = Clock()
    one, two = pair(tmp_path, clock)
    one.take("run")

    def look() -> None:
        if clock.true_s % TIMES.beat_s == 0:
            one.beat()
        two.take("run")

    wait(clock, 1000, look)
    assert one.holds("run")
    assert not two.holds("run")


def test_a_look_after_a_long_pause_begins_the_count_again(tmp_path) -> None:
    """A process that was stopped, or whose server was away, knows nothing of the time between."""
    clock = Clock()
    one, two = pair(tmp_path, clock)
    one.take("run")
    two.take("run")
    clock.true_s += 1000
    assert not two.take("run")


@pytest.mark.parametrize("text", ["", "{", '{"token": 1}\nheld 0', "\0\0\0\n", "[]\nfree 000000000000\n"])
def test_an_incomplete_claim_is_held_until_it_is_stale(text, tmp_path) -> None:
    (tmp_path / "run.1").write_text(text)
    clock = Clock()
    leases = pair(tmp_path, clock)[0]
    assert not leases.take("run")
    wait(clock, TIMES.stale_s, lambda: leases.take("run"))
    assert leases.holds("run")


def test_without_links_a_claim_is_created_in_place(tmp_path) -> None:
    class WithoutLinks(MemoryFiles):
        def link(self, part: Path, path: Path) -> None:
            raise OSError(errno.EPERM, "no links here")

    one, two = (Leases(tmp_path, files=WithoutLinks()) for _ in range(2))
    assert one.take("run")
    assert not two.take("run")
    one.release("run")
    assert two.take("run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.1", "run.2"]


def test_a_forgotten_name_leaves_no_file(tmp_path) -> None:
    one, two = pair(tmp_path, Clock())
    one.take("run")
    one.release("run")
    two.take("run")
    two.release("run", forget=True)
    assert list(tmp_path.iterdir()) == []
    assert one.take("run")


def test_a_killed_process_of_this_machine_is_replaced_at_once(tmp_path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with Leases(tmp_path) as leases:
            assert not leases.take("run")
            assert [live.holder.pid for live in list_live(tmp_path)] == [other.pid]
            other.kill()
            other.wait()
            assert list_live(tmp_path) == []
            assert leases.take("run")


def test_heartbeats_are_sent_while_the_process_works(tmp_path) -> None:
    with Leases(tmp_path, times=LeaseTimes(beat_s=0.01), files=MemoryFiles()) as leases:
        leases.take("run")
        before, end = (tmp_path / "run.1").read_text(), time.monotonic() + 30
        while (tmp_path / "run.1").read_text() == before:
            assert time.monotonic() < end
        assert leases.holds("run")
    assert (tmp_path / "run.1").read_text().partition("\n")[2].startswith("free ")
