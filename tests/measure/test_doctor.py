"""Versions are judged against their range; a failed check is a result with its remedy, never an exception."""

from __future__ import annotations

import pytest

from lxcompress.measure.devices import find_devices
from lxcompress.measure.requirements import judge, read_package, reinstall
from lxcompress.measure.trials import CHECKS, Check, make_trial


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
    assert package.remedy == 'pip install "no-such-library<10,>=8.3"'


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

    trial = make_trial(Check("thing", True, "all", fail, "mend it"))
    assert (trial.works, trial.detail, trial.remedy) == (False, "broken", "mend it")


def test_a_passed_check_needs_no_remedy() -> None:
    trial = make_trial(Check("thing", True, "all", lambda: "fine", "mend it"))
    assert (trial.works, trial.detail, trial.remedy) == (True, "fine", None)


@pytest.mark.parametrize("check", [check for check in CHECKS if check.name in ("torch", "LXMERT", "ONNX Runtime")])
def test_what_the_tests_themselves_need_works(check: Check) -> None:
    trial = make_trial(check)
    assert trial.works, trial.detail


def test_processor_and_memory_are_always_found() -> None:
    found = {device.name: device for device in find_devices()}
    assert found["processor"].is_here
    assert found["memory"].is_here
