"""Build the engine's library with the C compiler of this machine, when lxcompress is installed or by hand.

`python -m lxcompress.engine.build` builds it in the folder of this file. The package builder runs this file by its
path, before lxcompress can be imported, so it needs only the standard library and hatchling.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).resolve().parent / "source"
LIBRARY = "_engine.dll" if os.name == "nt" else "_engine.so"
COMPILERS = ("cc", "gcc", "clang")
GIVEN_LIBRARY, GIVEN_PLATFORM = "LXCOMPRESS_WHEEL_LIBRARY", "LXCOMPRESS_WHEEL_PLATFORM"

# kernels.c is compiled once for each set, with these flags; -DLX_HAS_name tells dispatch.c which sets exist.
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma")
X86_SETS = {
    "avx512": _AVX512,
    "avx512vl": (*_AVX512, "-DLX_HALVES", "-mprefer-vector-width=256"),
    "avxvnni": ("-mavx2", "-mfma", "-mavxvnni"),
    "avx2": ("-mavx2", "-mfma"),
    "base": (),
}
ARM_SETS = {"dotprod": ("-march=armv8.2-a+dotprod",), "base": ()}
ZIG_ARM_SETS = {"dotprod": ("-mcpu=generic+dotprod",), "base": ()}
"""The same for zig, which has no -march; GCC's generic processor has no dot product."""
OTHER_SETS: dict[str, tuple[str, ...]] = {"base": ()}
_SETS = {("x86_64", "amd64"): X86_SETS, ("aarch64", "arm64"): ARM_SETS}

_FLAGS = ("-std=gnu11", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno")
_POSIX_FLAGS = ("-fPIC", "-pthread")
_WINDOWS_FLAGS = ("-D__USE_MINGW_ANSI_STDIO=1",)
# GCC for Windows aligns the stack to 16 bytes, and spills 32-byte vectors to it with instructions that need 32.
_MINGW_GCC_FLAGS = (*_WINDOWS_FLAGS, "-Wa,-muse-unaligned-vector-move")
_WARNINGS = ("-Wall", "-Wextra")
_FAST = ("-O3",)
_CHECKED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")


class BuildError(Exception):
    """A library that could not be built. An LxError cannot be imported here."""


class Target(NamedTuple):
    """The system of a compiler: its instruction sets, best first, with their flags, and the flags of a library."""

    sets: Mapping[str, tuple[str, ...]]
    flags: tuple[str, ...]
    link_flags: tuple[str, ...] = ()
    library: str = "_engine.so"


class BuildResult(NamedTuple):
    """A library: its instruction sets, best first; why others were left out; and the compiler's warnings."""

    path: Path
    sets: tuple[str, ...]
    left_out: tuple[str, ...]
    warnings: str


def find_compiler() -> list[str] | None:
    """Return the command in $CC, which may have arguments, or else the first installed compiler; None without one."""
    wanted = shlex.split(os.environ.get("CC", ""))
    commands = [wanted] if wanted else [[name] for name in COMPILERS]
    return next((command for command in commands if shutil.which(command[0])), None)


def build(out: Path, *, sanitize: str | None = None, program: Path | None = None) -> BuildResult:
    """Compile SOURCE into the library `out`, which is replaced in one step; `sanitize` is the argument of -fsanitize.

    With `program`, a C file that has main(), compile a static program in place of a library. Raises BuildError without
    a compiler or if it fails, and OSError if `out` cannot be written.
    """
    compiler = find_compiler()
    if compiler is None:
        wanted = os.environ.get("CC") or ", ".join(COMPILERS)
        raise BuildError(f"there is no C compiler ({wanted}); install one (on Debian: apt install gcc libc6-dev)")
    target = find_target(compiler)
    flags = (*_CHECKED, f"-fsanitize={sanitize}") if sanitize else _FAST
    with tempfile.TemporaryDirectory() as folder:
        link = ("-shared", *target.link_flags) if program is None else ("-static", "-s", str(program))
        return _build([*compiler, *flags, *_FLAGS, *target.flags, *_WARNINGS], target, link, Path(folder), out)


def find_target(compiler: Sequence[str]) -> Target:
    """Return what the command `compiler` compiles for, which is not this machine if it is a cross compiler."""
    machine = _run([*compiler, "-dumpmachine"]).out.strip()
    sets = next((sets for names, sets in _SETS.items() if machine.split("-")[0] in names), OTHER_SETS)
    if sets is ARM_SETS and any("zig" in word for word in compiler):
        sets = ZIG_ARM_SETS
    if "mingw" in machine:
        return Target(sets, _MINGW_GCC_FLAGS, ("-static-libgcc",), "_engine.dll")
    if "windows" in machine:
        return Target(sets, _WINDOWS_FLAGS, library="_engine.dll")
    if "macos" in machine or "darwin" in machine:
        return Target(sets, _POSIX_FLAGS, ("-Wl,-install_name,@rpath/_engine.so",))
    return Target(sets, _POSIX_FLAGS)


def fingerprint(paths: Sequence[Path]) -> str:
    """Return the checksum of the contents of some files, as eight hexadecimal digits."""
    value = 0
    for path in paths:
        value = zlib.crc32(path.read_bytes(), value)
    return f"{value:08x}"


def list_sources() -> list[Path]:
    """Return the source files of the library."""
    return sorted(path for path in SOURCE.iterdir() if path.suffix in (".c", ".h"))


class _CompilerRun(NamedTuple):
    code: int
    out: str
    complaint: str


def _build(compile_: Sequence[str], target: Target, link: Sequence[str], folder: Path, out: Path) -> BuildResult:
    """Compile SOURCE for each instruction set of `target` with the command `compile_`, and link `out` with `link`.

    `folder` is an empty folder for the object files.
    """
    kernels = {name: [*flags, f"-DLX_SET={name}", str(SOURCE / "kernels.c")] for name, flags in target.sets.items()}
    tried = _compile_all(compile_, kernels, folder)
    _check(tried["base"])  # the one set that runs everywhere; the others only make it faster
    made = tuple(name for name, done in tried.items() if done.code == 0)
    left_out = tuple(f"{name} ({_first_error(done)})" for name, done in tried.items() if done.code)
    has = [f"-DLX_HAS_{name}" for name in made]
    rest = {path.stem: [*has, str(path)] for path in list_sources() if path.suffix == ".c" and path.stem != "kernels"}
    others = _compile_all(compile_, rest | {"built": [str(_write_origin(folder))]}, folder)
    for done in others.values():
        _check(done)
    objects = [str(folder / f"{name}.o") for name in (*made, *others)]
    made_file = folder / out.name  # a library for Windows contains its own name
    linked = _run([*compile_, *link, *objects, "-lm", "-o", str(made_file)])
    _check(linked)
    _replace(out, made_file)
    successful = [done for done in (*tried.values(), *others.values(), linked) if done.code == 0]
    return BuildResult(out, made, left_out, "".join(done.complaint for done in successful))


def _write_origin(folder: Path) -> Path:
    """Write a C source with the checksums of the library's files.

    engine/library.py compares these checksums when it loads a library, and refuses a library of another version.
    """
    path = folder / "built.c"
    path.write_text(
        '#define PUBLIC __attribute__((visibility("default")))\n'
        f'PUBLIC const char lx_interface[] = "{fingerprint([SOURCE / "engine.h"])}";\n'
        f'PUBLIC const char lx_sources[] = "{fingerprint(list_sources())}";\n',
        encoding="ascii",
    )
    return path


def _compile_all(compile_: Sequence[str], files: Mapping[str, Sequence[str]], folder: Path) -> dict[str, _CompilerRun]:
    """Compile each file to the object of its name, as many at once as there are processors."""

    def compile_one(name: str) -> _CompilerRun:
        return _run([*compile_, "-c", *files[name], "-o", str(folder / f"{name}.o")])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(files, pool.map(compile_one, files), strict=True))


def _replace(out: Path, library: Path) -> None:
    """Write a copy of the file `library` to `out` in one step: a process that uses the old file keeps it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        shutil.copy(library, part)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> _CompilerRun:
    # LC_ALL=C: the messages are searched for English words.
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"})
    return _CompilerRun(done.returncode, done.stdout, done.stderr)


def _check(done: _CompilerRun) -> None:
    if done.code:
        raise BuildError(
            f"the C compiler failed ({_first_error(done)}); the engine needs GCC 11 or Clang 14, or one that is newer"
        )


def _first_error(done: _CompilerRun) -> str:
    lines = [line.strip() for line in done.complaint.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else f"exit code {done.code}")


def get_build_hook() -> type:
    """Return the build hook for hatchling, which puts the library into a wheel."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class EngineHook(BuildHookInterface[Any]):
        """Build a wheel with the library for this machine; without a compiler, build a wheel for all, without it.

        release/wheels.py gives a library of another system and the tag of that system in two environment variables.
        """

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            self.scratch = tempfile.TemporaryDirectory()  # a build must not change its sources
            is_editable = version == "editable"
            given = os.environ.get(GIVEN_LIBRARY)
            if given and not is_editable:
                self._include(Path(given), os.environ[GIVEN_PLATFORM], build_data)
                return
            out = (SOURCE.parent if is_editable else Path(self.scratch.name)) / LIBRARY
            try:
                built = build(out)
            except (BuildError, OSError) as problem:
                self.app.display_warning(f"lxcompress is built without its engine: {problem}")
                return
            self.app.display_info(f"the engine has kernels for {', '.join(built.sets)}")
            if not is_editable:
                self._include(out, _find_platform(), build_data)

        def _include(self, library: Path, platform: str, build_data: dict[str, Any]) -> None:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
            build_data["force_include"][str(library)] = f"lxcompress/engine/{library.name}"

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            self.scratch.cleanup()

    return EngineHook


def _find_platform() -> str:
    """Return the wheel tag of this machine, without the manylinux tags, which promise to run on other systems."""
    from packaging.tags import sys_tags

    return next(tag.platform for tag in sys_tags() if not tag.platform.startswith(("manylinux", "musllinux")))


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the library from the command line, and print the result; exit with 1 if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m lxcompress.engine.build", description="Build the engine's library."
    )
    parser.add_argument("--out", type=Path, default=SOURCE.parent / LIBRARY, help="The file to write.")
    parser.add_argument("--sanitize", metavar="KINDS", help="address,undefined or thread: for tests.")
    parser.add_argument("--program", type=Path, help="A C file with main(): build a static program, not a library.")
    options = parser.parse_args(arguments)
    try:
        built = build(options.out, sanitize=options.sanitize, program=options.program)
    except (BuildError, OSError) as problem:
        sys.exit(f"the engine was not built: {problem}")
    sys.stderr.write(built.warnings)
    for reason in built.left_out:
        print(f"left out: {reason}")
    print(f"{built.path}: {', '.join(built.sets)}, {built.path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
