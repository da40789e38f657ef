"""Versions are judged against their range; a failed check is a result with its remedy, never an exception."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from lxcompress.doctor.checks import CHECKS, FeatureCheck, run_check
from lxcompress.doctor.devices import find_devices
from lxcompress.doctor.requirements import judge, read_package, read_packages, reinstall
from tests import children

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = [
    ("openvino", "OpenVINO", "openvino"),
    ("executorch", "ExecuTorch", "executorch"),
    ("litert_torch", "LiteRT", "litert"),
    ("coremltools", "Core ML", "coreml"),
]
"""Library, what doctor calls the result of it, and the extra that it comes with."""


@pytest.mark.parametrize(
    ("found", "wanted", "state"),
    [
        ("2.8", "<2.14,>=2.8", "ok"),
        ("2.8.0", "<2.14,>=2.8", "ok"),
        ("2.13.0+cpu", "<2.14,>=2.8", "ok"),
        ("2.7.9", "<2.14,>=2.8", "too old"),
        ("2.14", ">=2.8, <2.14", "too new"),
        ("2.100", "<2.14,>=2.8", "too new"),
        ("10", ">=9", "ok"),
        (None, ">=9", "missing"),
        ("1", "", "ok"),
    ],
)
def test_versions_are_compared_as_numbers(found: str | None, wanted: str, state: str) -> None:
    assert judge(found, wanted) == state


def test_a_requirement_says_its_library_range_and_extra() -> None:
    package = read_package("no-such-library<10,>=8.3; extra == 'test'")
    assert (package.name, package.wanted, package.extra) == ("no-such-library", "<10,>=8.3", "test")
    assert package.state == "missing"
    assert package.remedy == "pip install 'lxcompress[test]'"


def test_a_library_of_the_core_is_installed_by_its_range() -> None:
    package = read_package("no-such-library[with,parts]<10,>=8.3")
    assert (package.name, package.wanted, package.extra) == ("no-such-library", "<10,>=8.3", None)
    assert package.remedy == 'pip install "no-such-library<10,>=8.3"'


def test_each_library_is_shown_once_with_the_extra_that_a_user_would_add() -> None:
    found = {package.name: package for package in read_packages()}
    assert len(found) == len(read_packages())
    assert next(iter(found)) == "python"
    assert {
        name: found[name].extra for name in ("torch", "openvino", "nncf", "executorch", "coremltools", "pytest")
    } == {
        "torch": None,
        "openvino": "openvino",
        "nncf": "openvino",
        "executorch": "executorch",
        "coremltools": "coreml",
        "pytest": "test",
    }


def test_an_extra_of_extras_is_no_library_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builders write `lxcompress[coreml]` as it stands, or the libraries that it means."""
    wanted = [
        "lxcompress[coreml]; extra == 'all'",
        "coremltools>=9; extra == 'all'",
        "coremltools>=9; extra == 'coreml'",
        "pytest>=8; extra == 'dev'",
        "pytest>=8; extra == 'test'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    assert [(package.name, package.extra) for package in read_packages()] == [
        ("python", None),
        ("coremltools", "coreml"),
        ("pytest", "test"),
    ]


def test_a_library_in_range_needs_no_remedy() -> None:
    package = read_package("numpy>=2")
    assert (package.state, package.extra, package.remedy) == ("ok", None, None)


def test_a_reinstall_names_every_library() -> None:
    command = reinstall("onnx", "onnxruntime")
    assert command.startswith("pip install --force-reinstall ")
    assert command.count('"onnx') == 2


def test_a_failed_check_is_a_result_with_its_remedy() -> None:
    def fail() -> str:
        raise OSError("broken\nin two lines")

    result = run_check(FeatureCheck("thing", True, "all", fail, "mend it"))
    assert (result.works, result.detail, result.remedy) == (False, "broken", "mend it")


def test_a_passed_check_needs_no_remedy() -> None:
    result = run_check(FeatureCheck("thing", True, "all", lambda: "fine", "mend it"))
    assert (result.works, result.detail, result.remedy) == (True, "fine", None)


@pytest.mark.parametrize("name", ["torch", "LXMERT", "ONNX Runtime", "OpenVINO", "ExecuTorch", "Core ML"])
def test_what_the_tests_themselves_need_works(name: str) -> None:
    result = run_check(next(check for check in CHECKS if check.name == name))
    assert result.works, result.detail


@pytest.mark.parametrize(("library", "name", "extra"), EXTRAS)
def test_a_missing_extra_is_told_with_the_one_command_that_adds_it(library: str, name: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None  # what Python takes for not installed
from lxcompress.doctor.checks import CHECKS, run_check
result = run_check(next(check for check in CHECKS if check.name == {name!r}))
assert not result.works and not result.is_core, result
assert result.remedy == "pip install 'lxcompress[{extra}]'", result
"""
    done = children.run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("library", "runtime"), [("openvino", "openvino"), ("executorch", "executorch")])
def test_a_runtime_that_is_missing_names_its_extra(library: str, runtime: str) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None
from lxcompress.errors import MeasureError
from lxcompress.runtimes import load_runtime
try:
    load_runtime({runtime!r})
except MeasureError as error:
    sys.exit(0 if "pip install 'lxcompress[{runtime}]'" in str(error) and "\\n" not in str(error) else str(error))
sys.exit("it was found")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_processor_and_memory_are_always_found() -> None:
    found = {device.name: device for device in find_devices()}
    assert found["processor"].is_here
    assert found["memory"].is_here
