"""A format and a runtime of another package: exported, proven and measured through the command line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lxcompress.catalog.extensions import resolve
from lxcompress.catalog.formats import FORMATS
from lxcompress.catalog.runtimes import RUNTIMES, list_serving
from lxcompress.doctor.checks import CHECKS
from tests import children

EXTENSION = Path(__file__).parents[1] / "extension"


def lxcompress(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command with the example package installed."""
    return children.run(
        f"import sys; sys.path.insert(0, {str(EXTENSION)!r}); {children.COMMAND}",
        *words,
        env=os.environ | {"PYTHONPATH": str(EXTENSION), "OMP_NUM_THREADS": "1"},  # of the workers of `bench`
    )


@pytest.mark.parametrize("spec", FORMATS.values(), ids=lambda spec: spec.name)
def test_a_format_has_a_writer_and_a_runtime_or_a_reason(spec) -> None:
    if spec.find_missing() is None:
        assert callable(resolve(spec.write))
        assert callable(resolve(spec.count_zeros))
    assert bool(list_serving(spec.name)) != bool(spec.unserved)


@pytest.mark.parametrize("spec", RUNTIMES.values(), ids=lambda spec: spec.name)
def test_a_runtime_opens_the_formats_that_it_names(spec) -> None:
    assert spec.formats
    assert set(spec.formats) <= set(FORMATS)
    assert spec.base is None or spec.base in RUNTIMES
    if spec.find_missing() is None:
        assert callable(resolve(spec.open))


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A dense run in the added format, and what the command printed."""
    out = tmp_path_factory.mktemp("exported") / "program"
    done = lxcompress("export", tiny_run / "seeds" / "0" / "dense", "--format", "torch-export", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_an_added_format_is_exported_and_proven(exported) -> None:
    _, made = exported
    assert (made["format"], made["precision"], made["role"], made["seed"]) == ("torch-export", "fp32", "dense", 0)
    assert made["parity"]["changed_answers"] == 0
    assert made["accuracy"] == made["source_accuracy"]


@pytest.mark.native
def test_an_added_format_is_measured(exported, tmp_path: Path) -> None:
    """In processes that import torch, each of them for 3 s."""
    done = lxcompress("bench", exported[0], "--runs", "3", "--out", tmp_path / "bench.json", "--json")
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(done.stdout)["bench"]["measurements"]
    assert measured["task"]["runtime"] == "torch-export"


def test_an_added_format_is_listed_and_refuses_another_precision(tmp_path: Path) -> None:
    done = lxcompress("export", tmp_path, "--format", "torch-exprt")
    assert "did you mean torch-export?" in done.stderr
    done = lxcompress("export", tmp_path, "--format", "torch-export", "--precision", "int8")
    assert "format torch-export does not support it; give fp32" in done.stderr


def test_doctor_has_a_check_of_every_extra_and_of_added_parts() -> None:
    remedies = " ".join(check.remedy or "" for check in CHECKS)
    extras = {spec.extra for spec in (*FORMATS.values(), *RUNTIMES.values()) if spec.extra}
    assert all(f"lxcompress[{extra}]" in remedies for extra in extras)
    done = lxcompress("doctor", "--json")
    checks = {check["name"]: check["works"] for check in json.loads(done.stdout)["trials"]}
    assert checks["format torch-export"]
    assert checks["runtime torch-export"]


@pytest.mark.parametrize("name", ["formats.py", "torch_export.py"])
def test_the_page_on_extending_shows_the_example(name: str) -> None:
    page = (EXTENSION.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    assert (EXTENSION / "lxcompress_example" / name).read_text(encoding="utf-8").strip() in page
