"""Who is measured, in what and against whom is settled before anything runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lxcompress.errors import MeasureError
from lxcompress.measure.plan import BenchOptions, make_plan
from tests.measure.artifacts import build_artifact

ROOT = Path(__file__).resolve().parents[2]


def plan(*paths: Path, **options: object):
    return make_plan(paths, BenchOptions(**options))


def targets(made) -> list[tuple[str, str]]:
    return [(each.record.name, each.runtime) for each in made.targets]


def test_each_artifact_runs_in_its_usual_runtime_or_in_those_that_serve_it(tmp_path: Path) -> None:
    onnx, ort = build_artifact(tmp_path / "onnx"), build_artifact(tmp_path / "ort", format="ort")
    assert targets(plan(onnx, ort)) == [("onnx", "onnxruntime"), ("ort", "onnxruntime")]
    both = plan(onnx, ort, runtimes=("openvino", "onnxruntime", "torch"))
    assert targets(both) == [("onnx", "openvino"), ("onnx", "onnxruntime"), ("ort", "onnxruntime")]
    assert both.remarks == ("runtime torch: serves none of these artifacts, and is left out",)


def test_what_no_asked_runtime_serves_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    onnx, ort = build_artifact(tmp_path / "onnx"), build_artifact(tmp_path / "ort", format="ort")
    left = plan(onnx, ort, runtimes=("openvino",))
    assert targets(left) == [("onnx", "openvino")]
    assert left.remarks == ("ort: format ort is served by onnxruntime, not by openvino, and is left out",)
    with pytest.raises(MeasureError, match=r"ort: format ort is served by onnxruntime, not by torch.* nothing remains"):
        plan(ort, runtimes=("torch",))


def test_a_format_of_other_systems_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    onnx, core = build_artifact(tmp_path / "onnx"), build_artifact(tmp_path / "core", format="coreml")
    (remark,) = plan(onnx, core).remarks
    assert remark == (
        "core: format coreml runs on other systems only, and is left out; measure it on a device that runs this format"
    )
    with pytest.raises(MeasureError, match=r"core: format coreml runs on other systems only.* nothing remains"):
        plan(core)


@pytest.mark.parametrize(("runtime", "extra"), [("openvino", "openvino"), ("openvino-bf16", "openvino")])
def test_a_missing_library_is_one_command_away(tmp_path: Path, runtime: str, extra: str) -> None:
    folder = build_artifact(tmp_path / "onnx")
    script = (
        "import sys; sys.modules['openvino'] = None\n"
        "from pathlib import Path\n"
        "from lxcompress.errors import MeasureError\n"
        "from lxcompress.measure.plan import BenchOptions, make_plan\n"
        "try:\n    make_plan([Path(sys.argv[1])], BenchOptions(runtimes=(sys.argv[2],)))\n"
        "except MeasureError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder, runtime], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == (
        f"runtime {runtime}: needs openvino; install it with: pip install 'lxcompress[{extra}]'"
    )


def test_the_baseline_is_the_given_one_else_the_dense_one_else_the_first(tmp_path: Path) -> None:
    first = build_artifact(tmp_path / "first")
    small = build_artifact(tmp_path / "dense8", twin="dense int8", precision="int8")
    dense = build_artifact(tmp_path / "dense32", twin="dense")
    of_run = build_artifact(tmp_path / "of-run", source="/runs/a/seeds/0/dense")
    assert plan(first, small).baseline.path == first
    assert plan(first, small, dense).baseline.path == dense
    assert plan(first, of_run).baseline.path == of_run
    assert plan(first, dense, baseline=first / ".." / "first").baseline.path == first
    with pytest.raises(MeasureError, match="is not one of the artifacts to measure"):
        plan(first, baseline=dense)


def test_lengths_follow_the_data_unless_given(tmp_path: Path) -> None:
    counts = {5: 1, 9: 2, 12: 1}
    known = build_artifact(tmp_path / "known", lengths=counts, tokens=9)
    unknown = build_artifact(tmp_path / "unknown", tokens=20)
    (group,) = plan(known, unknown, runs=8).groups
    assert group.questions.tokens == 9
    assert sorted(group.questions.of_runs(8)) == [5, 5, 9, 9, 9, 9, 12, 12]
    fixed = plan(known, unknown, runs=3, lengths=(4, 6), threads=(1, 2)).groups
    assert [(each.threads, each.questions.of_runs(3)) for each in fixed] == [
        (1, (4, 4, 4)), (1, (6, 6, 6)), (2, (4, 4, 4)), (2, (6, 6, 6)),
    ]  # fmt: skip
    (group,) = plan(unknown, runs=2).groups
    assert group.questions.of_runs(2) == (20, 20)


def test_questions_of_unlike_data_are_not_mixed(tmp_path: Path) -> None:
    one, other = build_artifact(tmp_path / "one", lengths={5: 1}), build_artifact(tmp_path / "other", lengths={6: 1})
    with pytest.raises(
        MeasureError, match=r"other: was exported for questions of other lengths than one; .*--lengths 7"
    ):
        plan(one, other)
    assert len(plan(one, other, lengths=(7,)).targets) == 2
    short = build_artifact(tmp_path / "short", tokens=3)
    long = build_artifact(tmp_path / "long", tokens=30)
    with pytest.raises(MeasureError, match="--lengths 3,30"):
        plan(short, long)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": ()}, "threads: expected 1 or more"),
        ({"threads": (1, 0)}, "threads: expected 1 or more, got 0"),
        ({"threads": (2, 2)}, "threads: expected different values, got 2, 2"),
        ({"lengths": (9, 0)}, "lengths: expected 1 token or more, got 0"),
        ({"lengths": (9, 9)}, "lengths: expected different values"),
        ({"runtimes": ("abacus",)}, "runtime abacus: is unknown; expected one of: engine"),
    ],
)
def test_an_impossible_ask_is_one_sentence(small: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        plan(small, **options)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_questions_beyond_the_positions_are_refused_for_every_runtime(runtime, tmp_path: Path) -> None:
    """OpenVINO reads beyond the table without a word, and would be timed."""
    said = build_artifact(tmp_path / "said", positions=64)
    older = build_artifact(tmp_path / "older")
    (older / "config.json").write_text('{"max_position_embeddings": 64}', encoding="utf-8")
    for path in (said, older):
        assert len(plan(path, lengths=(9, 64), runtimes=(runtime,)).groups) == 2
        with pytest.raises(
            MeasureError, match="reads at most 64 tokens per question, but a question of 65 is asked for"
        ):
            plan(path, lengths=(9, 65), runtimes=(runtime,))
    assert plan(build_artifact(tmp_path / "unknown"), lengths=(65,), runtimes=(runtime,)).groups
