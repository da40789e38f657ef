"""Other systems that this machine can play: how the engine and the test programs are built and run for each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lxcompress.engine import build, instruction_sets
from tests.engine.other.elsewhere import HERE, Machine, need

ARM_SETS = tuple(build.ARM_SETS)
ARM_FILES = Path("/usr/aarch64-linux-gnu")
DRIVE = HERE.parent / "drive.c"
MINGW = "x86_64-w64-mingw32-gcc"
WINE = shutil.which("wine64") or "/usr/lib/wine/wine64"
ZIG = (sys.executable, "-m", "ziglang", "cc") if importlib.util.find_spec("ziglang") else ("zig", "cc")
PROGRAMS = (HERE / "answer.c", HERE / "hostile.c", DRIVE)


@dataclass(frozen=True)
class System:
    """A system: the compiler of its library, that of its programs, what runs them, and its instruction sets."""

    library: tuple[str, ...]
    programs: tuple[str, ...]
    runner: tuple[str, ...]
    sets: tuple[str, ...] = instruction_sets()
    links: tuple[str, ...] = ("-Wl,-rpath,$ORIGIN",)
    is_windows: bool = False

    def need(self) -> None:
        """Skip a test, and name what is missing."""
        need(self.library[0], self.programs[0], self.runner[0])


def _zig(target: str) -> tuple[str, ...]:
    return (*ZIG, "-target", target)


WINDOWS_LINKS = ("-D__USE_MINGW_ANSI_STDIO=1", "-static", "-lwinpthread")  # no library of MinGW's is loaded
ARM_RUNNER = ("qemu-aarch64", "-cpu", "max", "-L", str(ARM_FILES))
SYSTEMS = {
    "Linux aarch64, GCC": System(("aarch64-linux-gnu-gcc",), ("aarch64-linux-gnu-gcc",), ARM_RUNNER, ARM_SETS),
    "musl aarch64, zig": System(
        _zig("aarch64-linux-musl"),
        _zig("aarch64-linux-musl"),
        ("qemu-aarch64", "-cpu", "max", "/lib/ld-musl-aarch64.so.1"),
        ARM_SETS,
    ),
    "musl x86-64, zig": System(_zig("x86_64-linux-musl"), _zig("x86_64-linux-musl"), ("/lib/ld-musl-x86_64.so.1",)),
    "Windows, MinGW": System((MINGW,), (MINGW,), (WINE,), links=WINDOWS_LINKS, is_windows=True),
    "Windows, zig": System(_zig("x86_64-windows-gnu"), (MINGW,), (WINE,), links=WINDOWS_LINKS, is_windows=True),
}


@dataclass(frozen=True)
class BuiltSystem:
    """The programs of a system, built in `folder` beside its library, and the environment that they run in."""

    system: System
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, program: str) -> tuple[str, ...]:
        """What runs a program: answer, hostile or drive."""
        return (*self.system.runner, str(self.folder / f"{program}.exe"))

    @property
    def machine(self) -> Machine:
        """The system as it answers questions."""
        return Machine(self.command("answer"), self.environment)

    def run(self, program: str, *words: object) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end, whatever that is."""
        command, environment = [*self.command(program), *map(str, words)], {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, timeout=250)


@contextmanager
def build_system(system: System, folder: Path) -> Iterator[BuiltSystem]:
    """Build the library as a user does, and all programs beside it; skip the test if a tool is missing."""
    system.need()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", " ".join(system.library))
        target = build.find_target(system.library)
        built = build.build(folder / ("_engine.dll" if system.is_windows else "libengine.so"))
    assert (built.sets, built.left_out, built.warnings) == (tuple(target.sets), (), "")
    assert target.library == ("_engine.dll" if system.is_windows else "_engine.so")
    for source in PROGRAMS:
        files = (source, built.path, folder / f"{source.stem}.exe")
        build_program(system.programs, *files, links=system.links)
    with _run_wine(folder / "wine") if system.is_windows else nullcontext({}) as environment:
        yield BuiltSystem(system, folder, environment)


def build_program(compiler: Sequence[str], source: Path, library: Path, out: Path, *, links: Sequence[str]) -> None:
    """Build a test program that loads `library`; `links` are the last words of the command."""
    options = ["-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", str(build.SOURCE)]
    subprocess.run([*compiler, *options, str(source), str(library), "-o", str(out), *links], check=True)


@contextmanager
def _run_wine(folder: Path) -> Iterator[dict[str, str]]:
    """Make a disk of Windows in `folder`, and give the environment in which programs use it.

    The first program makes the disk, alone: a second one that starts meanwhile can fail. A shell stays open: without
    one, each program would start Windows and end it again, which takes seconds.
    """
    environment = {"WINEPREFIX": str(folder), "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8"}
    everything, quiet = {**os.environ, **environment}, subprocess.DEVNULL
    subprocess.run([WINE, "hostname"], env=everything, stdout=quiet, stderr=quiet, check=True)
    shell = subprocess.Popen([WINE, "cmd"], env=everything, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    try:
        yield environment
    finally:
        shell.communicate()
        subprocess.run([str(Path(WINE).with_name("wineserver")), "--kill"], env=everything, check=False)
