"""Laws of the study: each seed has its own dense run, a resumed study equals an uninterrupted one, masks hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lxcompress.analysis.study_progress import study_progress
from lxcompress.data.objects import ANSWERS
from lxcompress.data.tasks import load_task
from lxcompress.errors import RecipeError, RunError
from lxcompress.models.checkpoints import load_weights
from lxcompress.models.start import load_start
from lxcompress.recipe import Cell, Recipe, load_recipe, plain_method
from lxcompress.rundir import RunDir, is_busy, read_run
from lxcompress.study.plan import plan_study
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import missing_runs, run_study
from lxcompress.tickets import load_ticket
from lxcompress.training.device import choose_device
from lxcompress.training.evaluate import score_split
from lxcompress.training.fit import fit
from lxcompress.training.spec import FitSpec
from tests import children
from tests.packages import write_package

TIMES = {"drawing_s", "shared_s", "duration_s", "machine", "started", "seal"}


@pytest.fixture(scope="module")
def finished(tiny_recipe, tmp_path_factory) -> Path:
    """The run folder of the toy study, uninterrupted."""
    root = tmp_path_factory.mktemp("run")
    run_study(tiny_recipe, root)
    return root


def numbers(root: Path) -> dict[str, object]:
    """Return every result of a run, without times."""
    files = sorted([*root.rglob("result.json"), *root.rglob("dense.json"), root / "floors.json"])
    return {str(path.relative_to(root)): without_times(json.loads(path.read_text("utf-8"))) for path in files}


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def tensors(root: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {str(path.relative_to(root)): load_weights(path) for path in sorted(root.rglob("*.safetensors"))}


def assert_same_runs(whole: Path, part: Path, runs: int) -> None:
    """Assert that `part` has so many runs, and that they are those of `whole` to the last bit."""
    expected, found = numbers(whole), numbers(part)
    assert len(found) == runs + 1  # the floors
    assert found == {file: expected[file] for file in found}
    weights, its = tensors(whole), tensors(part)
    for file in its:
        assert its[file].keys() == weights[file].keys()
        assert all(torch.equal(weights[file][name], its[file][name]) for name in its[file]), file


def test_every_cell_and_every_dense_run_has_its_result(finished, tiny_recipe) -> None:
    run = read_run(finished)
    assert set(run.results) == {cell.id for cell in tiny_recipe.cells()}
    assert set(run.dense) == set(tiny_recipe.seeds)
    assert not list(finished.rglob("*.part"))
    assert not list(finished.rglob("checkpoint.safetensors"))


def test_each_seed_has_its_own_start_and_dense_run(finished) -> None:
    run = RunDir(finished)
    starts = [load_weights(run.start(seed)) for seed in (0, 1)]
    heads = [name for name in starts[0] if name.startswith("answer_head.") and starts[0][name].dim() == 2]
    encoder = [name for name in starts[0] if name.startswith("lxmert.")]
    assert not any(torch.equal(starts[0][name], starts[1][name]) for name in heads)
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in encoder)
    dense = [load_weights(run.dense(seed) / "model.safetensors") for seed in (0, 1)]
    trained = [name for name in encoder if ".encoder." in name and dense[0][name].dim() == 2]
    assert not any(torch.equal(dense[0][name], dense[1][name]) for name in trained)


def test_every_ticket_keeps_exactly_k_and_its_mask_holds(finished, tiny_recipe) -> None:
    run = RunDir(finished)
    for cell in tiny_recipe.cells():
        ticket = load_ticket(run.ticket(cell))
        assert ticket.mask.holds_in(ticket.model.weights)
        for kept in ticket.mask.kept.values():
            assert int((~kept).sum()) == round(kept.numel() * cell.sparsity)


def test_survivors_are_rewound_to_the_start_and_then_trained(finished, tiny_recipe) -> None:
    """Weights that are kept or not prunable were trained from the start; the mask is that of the dense weights."""
    run, cell = RunDir(finished), Cell(plain_method("low-magnitude"), 0.5, 0)
    ticket = load_ticket(run.ticket(cell))
    dense = load_weights(run.dense(0) / "model.safetensors")
    for name, kept in ticket.mask.kept.items():
        magnitude = dense[name].abs()
        assert magnitude[kept].min() >= magnitude[~kept].max()
    model, start = load_start(tiny_recipe.model.start, ANSWERS, 0)
    assert all(torch.equal(start[name], tensor) for name, tensor in load_weights(run.start(0)).items())
    model.load(ticket.mask.apply(start))
    fit(
        model.module,
        load_task(tiny_recipe.data),
        FitSpec(settings=tiny_recipe.train, seed=0, masks=ticket.mask.kept),
        answer=model.family.answer,
        device=choose_device("cpu", "fp32"),
    )
    assert all(torch.equal(model.weights[name], tensor) for name, tensor in ticket.model.weights.items())


def test_the_three_stages_are_scored_on_the_weights_they_name(finished, tiny_recipe) -> None:
    """Scores from the files alone equal the recorded ones."""
    run, cell = RunDir(finished), Cell(plain_method("high-magnitude"), 0.5, 1)
    ticket, result = load_ticket(run.ticket(cell)), read_run(finished).results[cell.id]
    task, device = load_task(tiny_recipe.data), choose_device("cpu", "fp32")
    stations = {
        "retrained": ticket.model.weights,
        "pruned": ticket.mask.apply(load_weights(run.dense(1) / "model.safetensors")),
        "rewound": ticket.mask.apply(load_weights(run.start(1))),
    }
    for name, weights in {
        name: {key: value.clone() for key, value in each.items()} for name, each in stations.items()
    }.items():
        ticket.model.load(weights)
        found = score_split(
            lambda inputs: ticket.model.family.answer(ticket.model.module, inputs), task.valid, 256, device
        )
        assert found == getattr(result, name), name


def test_doing_it_again_does_nothing(finished, tiny_recipe) -> None:
    before = numbers(finished)
    assert run_study(tiny_recipe, finished) == 0
    assert numbers(finished) == before


KILLED_AT_A_STEP = """
import os, signal, sys
from pathlib import Path
import torch
from lxcompress.recipe import load_recipe
from lxcompress.study.run import run_study
from lxcompress.study.reporter import SilentReporter
class Killer(SilentReporter):
    steps = 0
    def step(self, what, done, total, *, value):
        self.steps += 1
        if self.steps == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
torch.set_num_threads(int(sys.argv[4]))
run_study(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), only="*-50-seed0", progress=Killer())
"""


@pytest.mark.parametrize("after", [2, 9, 25])
def test_killed_and_resumed_equals_uninterrupted(finished, tiny_recipe_file, tiny_recipe, tmp_path, after) -> None:
    """SIGKILL after the `after`-th optimizer step (of 48, 12 a run), then the same call again."""
    root = tmp_path / "run"
    done = children.run(KILLED_AT_A_STEP, tiny_recipe_file, root, after, torch.get_num_threads())
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not is_busy(RunDir(root))
    run_study(tiny_recipe, root, only="*-50-seed0")
    assert_same_runs(finished, root, runs=4)


KILLED_AT_A_WRITE = """
import os, signal, sys
from pathlib import Path
import torch
from lxcompress.recipe import load_recipe
from lxcompress.study.run import run_study
replace, writes = os.replace, []
def count(source, target):
    writes.append(target)
    last = len(writes) == int(sys.argv[3])
    if last and sys.argv[5] == 'before': os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if last: os.kill(os.getpid(), signal.SIGKILL)
os.replace = count
torch.set_num_threads(int(sys.argv[4]))
run_study(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), only='*-50-seed0')
"""


@pytest.mark.parametrize("moment", ["before", "behind"])
@pytest.mark.parametrize("write", [1, 5, 9, 13])
def test_killed_at_a_write_and_resumed_equals_uninterrupted(
    finished, tiny_recipe_file, tiny_recipe, tmp_path, write, moment
) -> None:
    """SIGKILL just before or after the `write`-th file of the run gets its name."""
    root = tmp_path / "run"
    done = children.run(KILLED_AT_A_WRITE, tiny_recipe_file, root, write, torch.get_num_threads(), moment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run_study(tiny_recipe, root, only="*-50-seed0")
    assert_same_runs(finished, root, runs=4)
    assert not list(root.rglob("checkpoint.safetensors"))


def test_status_sees_the_run_that_is_at_work(tiny_recipe, tmp_path) -> None:
    """At every first step, the run that is recorded as running is the current one."""
    seen = []

    class Asker(SilentReporter):
        run = ""

        def begin(self, what: str, done: int, total: int) -> None:
            self.run = what.replace("dense seed ", "dense-seed")

        def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            if done == 1:
                found = study_progress(read_run(tmp_path), busy=True)
                seen.append((self.run, [each.id for each in found.runs if each.state == "running"]))

    run_study(tiny_recipe, tmp_path, only="random-*-seed0", progress=Asker())
    assert [running for _, running in seen] == [[what] for what, _ in seen]
    assert len(seen) == 3
    after = study_progress(read_run(tmp_path), busy=False)
    assert after.counts["running"] == after.counts["interrupted"] == 0


def test_going_on_with_another_grid_forgets_no_finished_cell(tiny_recipe_file, tmp_path) -> None:
    run_study(load_recipe(tiny_recipe_file), tmp_path, only="random-weight-50-seed0")
    other = load_recipe(tiny_recipe_file, ["seeds=[1]", "prune.sparsities=[0.7]", "prune.criteria=[random]"])
    run_study(other, tmp_path)
    run = read_run(tmp_path)
    assert set(run.results) == {"random-weight-50-seed0", "random-weight-70-seed1"}
    run_study(load_recipe(tiny_recipe_file, ["pick.retain=0.5"]), tmp_path, only="random-weight-50-seed0")
    assert read_run(tmp_path).recipe.pick.retain == 0.5


def test_training_that_diverges_says_so_and_leaves_no_result(tiny_recipe_file, tmp_path) -> None:
    with pytest.raises(RunError, match="training diverged in epoch 1"):
        run_study(load_recipe(tiny_recipe_file, ["train.learning_rate=1e30"]), tmp_path)
    assert not read_run(tmp_path).dense


WITHOUT_SCORES = """
from lxcompress.catalog.criteria import CriterionSpec
SPEC = CriterionSpec(name="without-scores", score="without_scores:score", needs=None, summary="gives NaN")
def score(weight, statistic, generator):
    return weight * float("nan")
"""


def test_a_cell_that_cannot_be_drawn_does_not_keep_the_others_from_it(packages, tiny_recipe_file, tmp_path) -> None:
    point = "[lxcompress.criteria]\nwithout-scores = without_scores:SPEC\n"
    write_package(packages, "without_scores", point, WITHOUT_SCORES)
    settings = ["prune.criteria=[without-scores, low-magnitude]", "seeds=[0]", "prune.sparsities=[0.5]"]
    with pytest.raises(RunError, match=r"1 of 3 .* failed, the others are done; the first: .*is not finite"):
        run_study(load_recipe(tiny_recipe_file, settings), tmp_path / "run")
    assert set(read_run(tmp_path / "run").results) == {"low-magnitude-weight-50-seed0"}


def test_a_study_in_pieces_equals_one_in_a_piece(finished, tiny_recipe, tmp_path) -> None:
    assert run_study(tiny_recipe, tmp_path, only="random-*-seed0") == 3
    assert run_study(tiny_recipe, tmp_path, only="*-90-seed0") == 2
    assert run_study(tiny_recipe, tmp_path, only="*-seed0") == 2
    assert_same_runs(finished, tmp_path, runs=7)


def test_a_finished_cell_is_never_lost(tiny_recipe, tmp_path) -> None:
    """A cell whose last file exists is not done again, even if others are."""
    run_study(tiny_recipe, tmp_path, only="random-weight-50-seed0")
    cell = Cell(plain_method("random"), 0.5, 0)
    before = RunDir(tmp_path).result(cell).stat().st_mtime_ns
    run_study(tiny_recipe, tmp_path, only="*-50-seed0")
    assert RunDir(tmp_path).result(cell).stat().st_mtime_ns == before


def test_only_one_study_at_a_time_in_a_folder(tiny_recipe, tmp_path) -> None:
    holder = (
        "import sys; from pathlib import Path; from lxcompress.rundir import RunDir, locked\n"
        "with locked(RunDir(Path(sys.argv[1]))):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another study is running"):
            run_study(tiny_recipe, tmp_path)
        other.communicate()
    assert not is_busy(RunDir(tmp_path))


def test_a_folder_of_another_recipe_is_refused_and_a_wider_grid_is_not(finished, tiny_recipe_file) -> None:
    with pytest.raises(RunError, match=r"train\.epochs=2, but now train\.epochs=3"):
        run_study(load_recipe(tiny_recipe_file, ["train.epochs=3"]), finished)
    wider = load_recipe(tiny_recipe_file, ["prune.sparsities=[0.5, 0.7, 0.9]"])
    assert len(missing_runs(wider, wider.cells(), RunDir(finished))) == 6


def test_only_that_matches_nothing_says_so(tiny_recipe, tmp_path) -> None:
    with pytest.raises(RecipeError, match="--only nothing: matches no run"):
        run_study(tiny_recipe, tmp_path, only="nothing")


def test_data_that_the_model_cannot_read_is_refused_before_training(tiny_start, tiny_recipe_file, tmp_path) -> None:
    other = tmp_path / "start"
    other.mkdir()
    for file in tiny_start.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "vocab.txt").write_text((tiny_start / "vocab.txt").read_text("utf-8") + "extra\n", "utf-8")
    with pytest.raises(RecipeError, match=r"its vocabulary has 176 tokens"):
        run_study(load_recipe(tiny_recipe_file, [f"model.start={other}"]), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("dense.json"))


def test_global_scope_keeps_exactly_k_of_all(tiny_recipe_file, tmp_path) -> None:
    recipe: Recipe = load_recipe(tiny_recipe_file, ["prune.scope=global", "seeds=[0]", "train.epochs=1"])
    run_study(recipe, tmp_path, only="low-magnitude-weight-50-seed0")
    result = read_run(tmp_path).results["low-magnitude-weight-50-seed0"]
    assert result.sparsity.prunable - result.sparsity.kept == round(result.sparsity.prunable * 0.5)


def test_the_plan_counts_what_the_study_then_does(tiny_recipe, finished, tmp_path) -> None:
    whole = plan_study(tiny_recipe, tmp_path / "new")
    assert (whole.dense_runs, whole.cells) == (2, 12)
    assert whole.steps_a_run == next(iter(read_run(finished).results.values())).steps
    assert whole.duration_s > 0
    used = sum(path.stat().st_size for path in finished.rglob("*.safetensors"))
    assert 0.8 < whole.disk_bytes / used < 1.25
    assert not (tmp_path / "new").exists()
    none = plan_study(tiny_recipe, finished)
    assert (none.dense_runs, none.cells, none.duration_s) == (0, 0, 0)


def test_the_run_folder_says_what_ran_where(finished, tiny_recipe) -> None:
    run = read_run(finished)
    assert run.recipe == tiny_recipe
    assert run.machine.packages["torch"]
    for result in run.results.values():
        assert (result.device, result.precision) == ("cpu", "fp32")
        assert len(result.epochs) == tiny_recipe.train.epochs


def test_sigint_leaves_what_is_finished(tiny_recipe_file, tmp_path) -> None:
    """Ctrl-C in the command: exit code 130, one sentence, and no half file."""
    study = children.start(children.COMMAND, "study", tiny_recipe_file, "--out", tmp_path / "run")
    first = RunDir(tmp_path / "run").dense(0) / "dense.json"
    while not first.exists() and study.poll() is None:
        time.sleep(0.01)
    study.send_signal(signal.SIGINT)
    said = study.finish()
    assert said.returncode == 130, said.stderr
    assert "Traceback" not in said.stderr
    assert "interrupted; the same command resumes" in said.stderr
    assert len(read_run(tmp_path / "run").dense) == 1


SHARING = """
import sys
import time
from pathlib import Path
import torch
from lxcompress.recipe import load_recipe
from lxcompress.study.run import run_study
torch.set_num_threads(1)
print(run_study(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), only="*-50-*"))
"""


def test_two_processes_share_a_study_and_end_with_the_numbers_of_one(tiny_recipe_file, finished, tmp_path) -> None:
    """Processes started as by `accelerate launch` take whole runs, and no run is done twice."""
    root = tmp_path / "shared"
    numbers = ({**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2))
    workers = [children.start(SHARING, tiny_recipe_file, root, env=environment) for environment in numbers]
    said = [worker.finish() for worker in workers]
    assert [worker.returncode for worker in said] == [0, 0], said
    did = [int(worker.stdout) for worker in said]
    assert sum(did) == 8
    assert min(did) > 0
    alone, shared = read_run(finished), read_run(root)
    assert len(shared.results) == 6
    for name, result in shared.results.items():
        assert alone.results[name].retrained == result.retrained
        assert alone.results[name].pruned == result.pruned
    for seed, dense in alone.dense.items():
        assert shared.dense[seed].trained == dense.trained


@pytest.mark.parametrize("numbers", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}])
def test_a_launchers_senseless_numbers_are_an_error(numbers, monkeypatch, tiny_recipe, tmp_path) -> None:
    for name, value in numbers.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="expected numbers that fit together"):
        run_study(tiny_recipe, tmp_path / "run")
