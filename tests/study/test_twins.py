"""Laws of the twin that a study draws: it is not in the grid, has equal size, and survives interruptions."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lxcompress.analysis.study_progress import study_progress
from lxcompress.errors import PruneError, RunError
from lxcompress.models.checkpoints import load_weights
from lxcompress.pruning.surgery import Surgery
from lxcompress.recipe import Cell, Recipe, dump_recipe, load_recipe
from lxcompress.records import Result, read_record
from lxcompress.rundir import RunDir, read_run, twins_of
from lxcompress.study.plan import plan_study
from lxcompress.study.reporter import SilentReporter
from lxcompress.study.run import run_study
from lxcompress.study.twins import draw_twin, find_twin, ticket_folder, twin_cell, wants_twin
from lxcompress.tickets import load_ticket
from tests import children

PICKED = "low-magnitude-weight-50-seed0"
TIMES = {"drawing_s", "shared_s", "duration_s", "machine", "epochs", "seal"}


@pytest.fixture(scope="module")
def study(toy_recipe_file, tmp_path_factory) -> Path:
    """The run folder of a finished study of two cells, without a twin."""
    root = tmp_path_factory.mktemp("study")
    run_study(small(toy_recipe_file), root)
    return root


@pytest.fixture(scope="module")
def drawn(study, tmp_path_factory) -> Path:
    """Return the same folder with the twin of its first cell, drawn without an interruption."""
    root = tmp_path_factory.mktemp("drawn") / "run"
    shutil.copytree(study, root)
    draw_twin(root, twin_cell(picked(root)))
    return root


def small(recipe_file: Path, *overrides: str) -> Recipe:
    wanted = ["seeds=[0]", "prune.criteria=[low-magnitude]", "export.twins=true", *overrides]
    return load_recipe(recipe_file, wanted)


def picked(root: Path) -> Result:
    return read_run(root).results[PICKED]


def test_the_twin_is_a_smaller_model_that_keeps_as_much(drawn) -> None:
    run = read_run(drawn)
    twin = find_twin(run, picked(drawn))
    assert twin.cell == twin_cell(picked(drawn)).id
    ticket = load_ticket(ticket_folder(run.dir, twin.cell))
    assert isinstance(ticket.cut, Surgery)
    assert ticket.provenance.accuracy == twin.retrained
    kept = sum(weight.numel() for weight in ticket.model.prunable.values())
    assert kept == twin.sparsity.kept
    assert kept == pytest.approx(picked(drawn).sparsity.kept, rel=0.1)
    assert twin.seed == picked(drawn).seed


def test_the_grid_stays_as_the_recipe_says(study, drawn) -> None:
    before, after = read_run(study), read_run(drawn)
    assert after.results == before.results
    assert after.recipe == before.recipe
    assert set(twins_of(after)) == {twin_cell(picked(drawn)).id}
    assert twins_of(before) == {}
    assert study_progress(after, busy=False).is_complete
    assert not list(drawn.rglob("checkpoint.safetensors"))
    assert not after.dir.current.exists()


def test_a_twin_that_is_there_is_not_drawn_again(drawn) -> None:
    class Refuser(SilentReporter):
        def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            raise AssertionError("it trains again")

    draw_twin(drawn, twin_cell(picked(drawn)), progress=Refuser())
    assert run_study(read_run(drawn).recipe, drawn, progress=Refuser()) == 0


KILLER = """
import os, signal, sys
from pathlib import Path
import torch
from lxcompress.rundir import read_run
from lxcompress.study.twins import draw_twin, twin_cell
from lxcompress.study.reporter import SilentReporter
class Killer(SilentReporter):
    steps = 0
    def step(self, what, done, total, *, value):
        self.steps += 1
        if self.steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
torch.set_num_threads(1)
root = Path(sys.argv[1])
draw_twin(root, twin_cell(read_run(root).results[sys.argv[3]]), progress=Killer())
"""


@pytest.mark.parametrize("after", [1, 11])
def test_killed_and_resumed_equals_uninterrupted(study, drawn, tmp_path, after) -> None:
    """SIGKILL after the `after`-th optimizer step of the twin (of 12), then the same call again."""
    root = tmp_path / "run"
    shutil.copytree(study, root)
    done = children.run(KILLER, root, after, PICKED)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert find_twin(read_run(root), picked(root)) is None
    draw_twin(root, twin_cell(picked(root)))
    assert without_times(root) == without_times(drawn)
    mine, its = weights(root), weights(drawn)
    assert mine.keys() == its.keys()
    assert all(torch.equal(mine[name], its[name]) for name in mine)
    assert not list(root.rglob("checkpoint.safetensors"))


def test_the_plan_counts_a_twin_once(study, drawn, toy_recipe_file, tmp_path) -> None:
    with_twins, without = small(toy_recipe_file), small(toy_recipe_file, "export.twins=false")
    more, less = plan_study(with_twins, tmp_path / "new"), plan_study(without, tmp_path / "new")
    assert (more.twins, less.twins) == (1, 0)
    assert more.disk_bytes > less.disk_bytes
    assert plan_study(with_twins, study).twins == 1
    assert plan_study(with_twins, drawn).twins == 0
    assert plan_study(with_twins, tmp_path / "new", only=PICKED).twins == 0


def test_no_twin_is_wanted_where_the_grid_has_one_or_has_no_tickets(toy_recipe_file, tmp_path) -> None:
    run = RunDir(tmp_path)
    assert wants_twin(small(toy_recipe_file), run)
    structured = "prune.methods=[{granularity: neuron, sparsities: [0.5, 0.9]}]"
    assert not wants_twin(small(toy_recipe_file, structured), run)
    assert wants_twin(small(toy_recipe_file, "prune.methods=[{granularity: neuron, sparsities: [0.5]}]"), run)
    assert not wants_twin(small(toy_recipe_file, "protocol=published"), run)


def test_a_ticket_of_the_grid_is_the_twin_where_it_is_of_equal_size(study, tmp_path) -> None:
    """Among records, it is the most accurate one of the same seed and size that is no control."""
    root = tmp_path / "run"
    shutil.copytree(study, root)
    mine, run = picked(root), RunDir(root)
    assert find_twin(read_run(root), mine) is None
    candidates = {
        "poor": {"granularity": "neuron", "retrained": scored(mine, 0.2)},
        "good": {"granularity": "neuron+head", "retrained": scored(mine, 0.4), "kept": 0.95},
        "better-but-larger": {"granularity": "head", "retrained": scored(mine, 0.5), "kept": 1.2, "target": 0.4},
        "better-but-tiny": {"granularity": "head", "retrained": scored(mine, 0.5), "kept": 0.5, "target": 0.75},
        "better-of-another-seed": {"granularity": "head", "retrained": scored(mine, 0.5), "seed": 1},
        "better-but-a-control": {"granularity": "head", "retrained": scored(mine, 0.5), "method": {"control": "x"}},
        "better-but-masked": {"granularity": "2:4", "retrained": scored(mine, 0.5)},
    }
    for name, changes in candidates.items():
        kept = round(mine.sparsity.kept * changes.pop("kept", 1))
        whole, removed = mine.sparsity, mine.sparsity.prunable - kept
        shares = {"achieved": whole.prunable, "of_live": whole.live, "of_all": whole.all}
        counts = {"kept": kept, **{share: removed / of for share, of in shares.items()}}
        sparsity = whole.model_copy(update=counts)
        record = mine.model_copy(update={"cell": name, "sparsity": sparsity, **changes})
        keep(run, name, record)
    assert find_twin(read_run(root), mine).cell == "good"
    structured = twins_of(read_run(root))["good"]
    assert find_twin(read_run(root), structured).cell == "better-but-masked"


def keep(run: RunDir, name: str, record: Result) -> None:
    folder = run.root / run.twins.drawn / name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(record.model_dump_json(), encoding="utf-8")


def scored(result: Result, accuracy: float):
    return result.retrained.model_copy(update={"accuracy": accuracy})


def test_a_sparsity_that_no_structured_ticket_reaches_is_said(study, tmp_path) -> None:
    root = tmp_path / "run"
    shutil.copytree(study, root)
    with pytest.raises(PruneError, match="can remove at most"):
        draw_twin(root, Cell(twin_cell(picked(root)).method, 0.999, 0))
    assert twins_of(read_run(root)) == {}
    assert list((root / "twins").iterdir()) == []


def test_a_twin_waits_for_no_other_study(study, tmp_path) -> None:
    """A folder that another process uses is refused, and nothing is drawn."""
    root = tmp_path / "run"
    shutil.copytree(study, root)
    holder = (
        "import sys; from pathlib import Path; from lxcompress.rundir import RunDir, locked\n"
        "with locked(RunDir(Path(sys.argv[1]))):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another study is running"):
            draw_twin(root, twin_cell(picked(root)))
        other.communicate()


def test_a_run_of_before_there_were_twins_is_gone_on_with(study, toy_recipe_file, tmp_path) -> None:
    """Its recipe has no section `export`; neither that nor its value prevents a resume."""
    root = tmp_path / "run"
    shutil.copytree(study, root)
    old = "".join(
        line
        for line in dump_recipe(read_run(root).recipe).splitlines(keepends=True)
        if not line.startswith(("export:", "  twins:", "  int4:", "  format:", "  also:"))
    )
    RunDir(root).recipe.write_text(old, encoding="utf-8")
    assert run_study(small(toy_recipe_file, "export.twins=false"), root) == 0
    assert run_study(small(toy_recipe_file), root) == 0
    assert read_run(root).recipe.export.twins


def without_times(root: Path) -> dict[str, object]:
    """Return the twin's result, without times."""
    record = read_record(RunDir(root).twins.result(twin_cell(picked(root))), Result)
    return record.model_dump(exclude=TIMES)


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_weights(RunDir(root).twins.ticket(twin_cell(picked(root))) / "model.safetensors")
