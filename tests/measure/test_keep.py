"""Measurements of one run's artifacts are kept in that run, and none replaces another."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from lxcompress.errors import MeasureError
from lxcompress.measure.keep import check_out, name_bench, run_of
from lxcompress.rundir import RunDir

NOON = datetime(2030, 1, 2, 12, tzinfo=timezone.utc)


def _run(root: Path) -> RunDir:
    for name in ("dense", "picked"):
        (root / "artifacts" / name).mkdir(parents=True)
    (root / "recipe.yaml").touch()
    return RunDir(root)


def test_artifacts_of_one_run_lead_to_it_and_others_to_none(tmp_path: Path) -> None:
    one, two = _run(tmp_path / "one"), _run(tmp_path / "two")
    assert run_of([one.artifacts / "dense", one.artifacts / "picked"]) == one
    assert run_of([one.artifacts / "dense", two.artifacts / "dense"]) is None
    assert run_of([tmp_path]) is None
    one.recipe.unlink()
    assert run_of([one.artifacts / "dense"]) is None


def test_names_are_never_given_twice_and_sort_by_time(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.measurements.mkdir()
    names = []
    for _ in range(3):
        path = name_bench(run, NOON)
        path.touch(exist_ok=False)
        names.append(path.name)
    assert names == ["20300102T120000Z.json", "20300102T120000Z-2.json", "20300102T120000Z-3.json"]


def test_a_place_that_takes_no_file_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="is a folder; give a file name"):
        check_out(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(MeasureError, match="cannot be written"):
        check_out(tmp_path / "file" / "bench.json")
    check_out(tmp_path / "new" / "bench.json")
    assert list((tmp_path / "new").iterdir()) == []
