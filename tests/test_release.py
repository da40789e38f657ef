"""What release/ decides: which wheels a check accepts, and which Pythons and tests are tried."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lxcompress.engine.build import ARM_SETS, X86_SETS
from release.matrix import MINORS, find_pythons, list_runners
from release.use_engine import use_engine
from release.wheels import PLATFORMS, runs_where


@pytest.mark.parametrize(
    ("found", "promised", "runs"),
    [
        ("manylinux_2_5_x86_64", "manylinux_2_17_x86_64", True),
        ("manylinux_2_17_x86_64", "manylinux_2_17_x86_64", True),
        ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", False),
        ("manylinux_2_17_aarch64", "manylinux_2_17_x86_64", False),
        ("musllinux_1_2_x86_64", "manylinux_2_17_x86_64", False),
        ("musllinux_1_1_aarch64", "musllinux_1_2_aarch64", True),
        ("linux_x86_64", "manylinux_2_17_x86_64", False),
    ],
)
def test_a_library_runs_where_its_c_library_is_old_enough(found: str, promised: str, runs: bool) -> None:
    assert runs_where(found, promised) is runs


def test_every_processor_of_a_wheel_has_a_target() -> None:
    for platform in PLATFORMS:
        processors = [target.split("-")[0] for target in platform.targets]
        is_universal = platform.tag.endswith("universal2")
        assert sorted(processors) == ["aarch64", "x86_64"] if is_universal else len(processors) == 1
        assert is_universal or platform.tag.endswith((processors[0], "amd64"))
    assert "dotprod" in ARM_SETS
    assert "avx2" in X86_SETS


def test_this_python_is_one_of_those_that_are_tried() -> None:
    found = find_pythons()
    assert sys.version_info[1] in MINORS
    assert set(found) <= set(MINORS)
    assert {line.split(">=")[0] for line in list_runners()} == {"pytest", "pytest-timeout", "pytest-xdist"}


def test_what_an_installed_wheel_must_answer_is_answered_here(tmp_path: Path) -> None:
    assert use_engine(tmp_path / "model.lxe") == [10.0, 35.0, 60.0, 85.0]
