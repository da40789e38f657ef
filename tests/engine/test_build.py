"""lxcompress installs with a C compiler and without: with one the engine is in it, without it says how to add it."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxcompress import __version__
from lxcompress.doctor.checks import CHECKS, run_check
from lxcompress.engine import build, instruction_sets, is_built, library
from lxcompress.errors import MeasureError

ROOT = Path(__file__).resolve().parents[2]
PACKED = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".gitignore", "recipes", "lxcompress")
IN_WHEEL = f"lxcompress/engine/{build.LIBRARY}"


def _hatch(tree: Path, kind: str, out: Path, **environment: str) -> Path:
    """What hatchling makes of a folder of source, as pip has it do, without a network."""
    code = f"from hatchling.build import build_{kind}; print(build_{kind}({str(out)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    return out / done.stdout.splitlines()[-1]


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source as its archive has it, unpacked; made of a checkout in which a library of another machine lies."""
    folder = tmp_path_factory.mktemp("source")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, checkout / name)
    (checkout / IN_WHEEL).write_bytes(b"another machine's")
    archive = _hatch(checkout, "sdist", folder)
    with tarfile.open(archive) as file:
        assert not [name for name in file.getnames() if "_engine." in name]
        for member in file:  # our own archive, of plain files
            file.extract(member, folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiler that is here, without its optimiser: a build in two seconds instead of six."""
    return _write_compiler(tmp_path_factory.mktemp("quick") / "compiler", "")


def _write_compiler(path: Path, first: str) -> str:
    compiler = build.find_compiler()
    assert compiler is not None, "the tests of the engine need a C compiler; on Debian: apt install gcc libc6-dev"
    path.write_text(f'#!/bin/sh\n{first}\nexec {" ".join(compiler)} "$@" -O0\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def fresh_library() -> Iterator[None]:
    """The library is looked for again, within the test and after it."""
    library.load_library.cache_clear()
    yield
    library.load_library.cache_clear()


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", f"{sys.executable} -c 'raise SystemExit(1)'"])
def test_without_a_compiler_that_serves_the_package_is_whole_but_for_the_library(
    tree: Path, tmp_path: Path, compiler: str
) -> None:
    (tree / IN_WHEEL).write_bytes(b"another machine's")
    wheel = _hatch(tree, "wheel", tmp_path, CC=compiler, PATH="")
    (tree / IN_WHEEL).unlink()
    assert wheel.name.endswith("-py3-none-any.whl")
    names = _names(wheel)
    assert IN_WHEEL not in names
    assert {
        "lxcompress/engine/build.py",
        "lxcompress/engine/source/engine.h",
        "lxcompress/recipes/quickstart.yaml",
    } <= names


def test_a_wheel_for_another_system_has_the_library_and_the_tag_that_are_given(tree: Path, tmp_path: Path) -> None:
    windows = tmp_path / "_engine.dll"
    windows.write_bytes(b"Windows")
    given = {build.GIVEN_LIBRARY: str(windows), build.GIVEN_PLATFORM: "win_amd64"}
    wheel = _hatch(tree, "wheel", tmp_path, CC="/nonexistent/cc", **given)
    assert wheel.name == f"lxcompress-{__version__}-py3-none-win_amd64.whl"
    with zipfile.ZipFile(wheel) as file:
        assert file.read("lxcompress/engine/_engine.dll") == b"Windows"
    assert [name for name in _names(wheel) if "_engine." in name] == ["lxcompress/engine/_engine.dll"]


@pytest.mark.native
def test_with_a_compiler_the_wheel_is_for_this_machine_and_runs(tree: Path, tmp_path: Path, quick: str) -> None:
    wheel = _hatch(tree, "wheel", tmp_path, CC=quick)
    assert re.search(r"-py3-none-(?!any)\w+\.whl$", wheel.name)
    assert "manylinux" not in wheel.name  # which promises what nobody looked at
    assert not (tree / IN_WHEEL).exists()
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = "import lxcompress.engine as engine; print(engine.__file__, *engine.instruction_sets())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path / "site", check=True, capture_output=True, text=True)
    place, *sets = done.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert tuple(sets) == instruction_sets()


@pytest.mark.native
def test_an_editable_install_has_its_library_beside_its_sources(tree: Path, tmp_path: Path, quick: str) -> None:
    wheel = _hatch(tree, "editable", tmp_path, CC=quick)
    assert IN_WHEEL not in _names(wheel)
    assert (tree / IN_WHEEL).is_file()
    assert not list((tree / IN_WHEEL).parent.glob("*.part"))


def test_the_checkout_is_built_of_its_own_sources() -> None:
    assert library.LIBRARY.name == build.LIBRARY
    assert is_built()
    found = library.read_text(library.load_library(), "lx_sources")
    assert found == build.fingerprint(build.list_sources()), f"sources were changed: run {library.BUILD}"


@pytest.mark.native
def test_a_set_that_the_compiler_refuses_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = build.find_compiler()
    assert compiler is not None
    first = next(iter(build.find_target(compiler).sets))
    refuse = f'case "$*" in *"LX_SET={first} "*) echo "error: no such flag" >&2; exit 1;; esac'
    monkeypatch.setenv("CC", _write_compiler(tmp_path / "old-compiler", refuse))
    built = build.build(tmp_path / "library")
    assert built.left_out == (f"{first} (error: no such flag)",)
    assert first not in built.sets
    assert built.sets[-1] == "base"
    loaded = ctypes.CDLL(str(built.path))
    loaded.lx_instruction_sets.restype = ctypes.c_char_p
    assert set(loaded.lx_instruction_sets().decode().split()) <= set(built.sets)


def test_failures_of_a_build_are_one_sentence_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler --fast")
    with pytest.raises(SystemExit, match=r"^[^\n]*there is no C compiler \(no-such-compiler --fast\)[^\n]*$"):
        build.main(["--out", str(tmp_path / "library")])
    monkeypatch.delenv("CC")
    with pytest.raises(SystemExit, match=r"^[^\n]*the C compiler failed \([^\n]*bogus[^\n]*$"):
        build.main(["--out", str(tmp_path / "library"), "--sanitize", "bogus"])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("fresh_library")
def test_a_missing_library_is_told_with_what_adds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LXCOMPRESS_ENGINE", str(tmp_path / "none.so"))
    assert not is_built()
    with pytest.raises(MeasureError, match=r"^runtime engine: [^\n]*not built[^\n]*apt install gcc[^\n]*build$"):
        library.load_library()
    result = run_check(next(check for check in CHECKS if check.name == "engine"))
    assert (result.works, result.is_core, result.remedy) == (False, False, library.BUILD)


@pytest.mark.usefixtures("fresh_library")
def test_a_library_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = build.find_compiler()
    assert compiler is not None
    other, stranger = tmp_path / "other.so", tmp_path / "stranger.so"
    for path, code in ((other, 'const char lx_interface[] = "00000000";'), (stranger, "int nothing;")):
        subprocess.run([*compiler, "-shared", "-x", "c", "-", "-o", str(path)], input=code, text=True, check=True)
    text = tmp_path / "text.so"
    text.write_text("no library", encoding="utf-8")
    for path, said in ((other, "of another version"), (stranger, "cannot be loaded"), (text, "cannot be loaded")):
        monkeypatch.setenv("LXCOMPRESS_ENGINE", str(path))
        with pytest.raises(MeasureError, match=rf"^[^\n]*{said}[^\n]*; build it again with: [^\n]*$"):
            library.load_library()


def test_doctor_runs_the_engine() -> None:
    result = run_check(next(check for check in CHECKS if check.name == "engine"))
    assert result.works, result.detail
    assert result.detail.endswith("base")
