"""A measurement counts for the bytes that it measured: an artifact that was exported again is measured again."""

from __future__ import annotations

from lxcompress.cli.export import show_stale
from lxcompress.measure.bench_paths import find_stale
from tests.report.synthetic import recipe, write_artifact, write_bench, write_run

CELL = "low-magnitude-weight-50-seed0"


def test_an_artifact_that_changed_since_it_was_measured_is_stale_until_it_is_measured_again(tmp_path, capsys) -> None:
    run = write_run(tmp_path / "run", recipe(criteria=("low-magnitude",), sparsities=(0.5,)))
    one, other = (write_artifact(run, name, cell=CELL) for name in ("one", "other"))
    assert find_stale([one, other]) == []
    write_bench(run, "first", [one, other])
    assert find_stale([one, other]) == []
    write_artifact(run, "one", cell=CELL)  # the same bytes again
    assert find_stale([one, other]) == []
    write_artifact(run, "one", cell=CELL, size_bytes=5)
    assert find_stale([one, other]) == [one]
    show_stale([one])
    assert f"no longer used; measure again with: lxcompress bench {one}" in capsys.readouterr().err
    write_bench(run, "second", [one])
    assert find_stale([one, other]) == []
    show_stale([one, other])
    assert capsys.readouterr().err == ""


def test_an_artifact_of_no_run_is_never_stale(tmp_path) -> None:
    run = write_run(tmp_path / "run", recipe(criteria=("low-magnitude",), sparsities=(0.5,)))
    folder = write_artifact(run, "one", cell=CELL)
    assert find_stale([folder.rename(tmp_path / "alone")]) == []
