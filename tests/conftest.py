"""The toy: an LXMERT of a few thousand weights, and a study on it that takes seconds."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lxcompress.recipe import Recipe, load_recipe
from tests.once import make_once, open_store

# The toy's matrices are too small to share: one thread is several times faster, and the same in every process.
# This is set before torch is imported, which the fixtures do, so that the laws of the structure start without it.
os.environ["OMP_NUM_THREADS"] = "1"
# Where the suite runs in the background of a shell or under nohup, SIGINT or SIGHUP is ignored, by its children too:
# interrupts are tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
FLUSH = os.fsync
"""The real one, which tests of the page cache need."""
# A file is flushed to the disk against a loss of power, which no test causes. A flush takes milliseconds, and the tests
# write thousands of files.
os.fsync = lambda descriptor: None

TOY = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "l_layers": 1,
    "r_layers": 1,
    "x_layers": 2,
    "max_position_embeddings": 64,
}

TOY_CELL = "low-magnitude-weight-50-seed0"
"""The cell of `toy_run`."""

FIRST = (
    "tests/life/test_life.py",
    "tests/study/test_run.py",
    "tests/test_api.py",
    "tests/export/test_added_format.py",
    "tests/study/test_methods.py",
    "tests/export",
    "tests/study",
    "tests/life",
    "tests/models/test_families.py",
    "tests/cli",
    "tests/runtimes",
)
"""What takes longest, begun first, so that two processes end at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by FIRST, and leave the order within a file."""

    def rank(item: pytest.Item) -> int:
        return next((index for index, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST))

    items.sort(key=rank)


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_search() -> None:
    """Set aside all objects that live before a test file, most of them of imported libraries.

    An export collects garbage several times, and each collection would look at half a million objects.
    """
    gc.collect()
    gc.freeze()


TINY = {**TOY, "l_layers": 0, "r_layers": 0, "x_layers": 1}
"""One layer: its export to ONNX takes a third of the toy's time."""


@pytest.fixture(scope="session", autouse=True)
def folder_of_what_is_made_once(tmp_path_factory) -> None:
    """Open the folder of what many tests read."""
    open_store(tmp_path_factory)


@pytest.fixture(scope="session")
def toy_start() -> Path:
    """A transformers folder with a toy encoder, as a pre-training leaves it: only read it."""
    return make_once("toy-start", lambda folder: save_start(folder, TOY))


@pytest.fixture(scope="session")
def tiny_start() -> Path:
    """The same with one layer, for tests whose law does not depend on the model."""
    return make_once("tiny-start", lambda folder: save_start(folder, TINY))


def save_start(folder: Path, sizes: dict[str, int]) -> None:
    """Save an encoder of random weights as a pre-training leaves it."""
    import torch
    from transformers import LxmertConfig, LxmertForPreTraining

    from lxcompress.data.objects import ANSWERS, FEATURES
    from lxcompress.data.tokens import shipped_vocabulary
    from lxcompress.training.pretrain import save_encoder

    config = LxmertConfig(
        vocab_size=len(shipped_vocabulary()), num_qa_labels=len(ANSWERS), visual_feat_dim=FEATURES, **sizes
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        model = LxmertForPreTraining(config)
    save_encoder(model, folder, shipped_vocabulary())


@pytest.fixture(scope="session")
def toy_recipe_file(toy_start, tmp_path_factory) -> Path:
    """A recipe of two seeds, three criteria and two sparsities on the toy."""
    path = tmp_path_factory.mktemp("recipes") / "toy.yaml"
    recipe = {
        "name": "toy",
        "seeds": [0, 1],
        "device": "cpu",
        "data": {"kind": "scenes", "train": 96, "valid": 64},
        "model": {"start": str(toy_start)},
        "train": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3},
        "prune": {"criteria": ["low-magnitude", "random", "high-magnitude"], "sparsities": [0.5, 0.9]},
        "export": {"twins": False},
    }
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_recipe_file(toy_recipe_file, tiny_start, tmp_path_factory) -> Path:
    """The toy's recipe on the model of one layer."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    recipe = yaml.safe_load(toy_recipe_file.read_text(encoding="utf-8")) | {"model": {"start": str(tiny_start)}}
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def toy_recipe(toy_recipe_file) -> Recipe:
    """The toy recipe, read."""
    return load_recipe(toy_recipe_file)


@pytest.fixture(scope="session")
def tiny_recipe(tiny_recipe_file) -> Recipe:
    """The recipe of the model of one layer, read."""
    return load_recipe(tiny_recipe_file)


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder on the path of Python, in which a test installs packages."""
    from lxcompress.catalog import extensions

    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (extensions._entry_points, extensions.load_added)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


@pytest.fixture(scope="session")
def toy_run(toy_recipe) -> Path:
    """A run folder of the toy recipe with the one ticket TOY_CELL: only read it."""
    from lxcompress.study.run import run_study

    return make_once("toy-run", lambda folder: run_study(toy_recipe, folder, only=TOY_CELL))


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe) -> Path:
    """The same of the model of one layer: only read it."""
    from lxcompress.study.run import run_study

    return make_once("tiny-run", lambda folder: run_study(tiny_recipe, folder, only=TOY_CELL))


@pytest.fixture(scope="session")
def tiny_onnx(tiny_run) -> Path:
    """The ticket of `tiny_run` as ONNX in fp32: only read it."""
    from lxcompress.exporters.artifact import export, open_source
    from lxcompress.exporters.formats import ExportOptions

    source = tiny_run / "tickets" / TOY_CELL
    return make_once("tiny-onnx", lambda folder: export(open_source(source), folder, ExportOptions("onnx")))
