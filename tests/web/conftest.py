"""The browser and the run folder that all tests of pages in a browser share: a browser takes seconds to start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxcompress.rundir import RunDir
from lxcompress.workflow.page import make_page
from tests.life.test_browser import BROWSERS, Browser
from tests.report.synthetic import recipe, write_run
from tests.web.models import export_engine, write_confidence
from tests.web.visit import PAGE_STUBS, Visit


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser is installed here (looked for {', '.join(BROWSERS)})")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    found.ask("Page.addScriptToEvaluateOnNewDocument", source=PAGE_STUBS)
    yield found
    found.close()


@pytest.fixture(scope="session")
def run(tiny_start: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with the engine files of two models of one layer, whose confidence was measured."""
    run = write_run(tmp_path_factory.mktemp("runs") / "run", recipe())
    run.artifacts.mkdir()
    for name in ("dense-engine", "ticket-engine"):
        exported = export_engine(tiny_start, tmp_path_factory.mktemp(name), name=name)
        write_confidence(exported, temperature=0.25)
        exported.rename(run.artifacts / name)
    return run


@pytest.fixture
def visit(browser: Browser, run: RunDir, tmp_path: Path) -> Iterator[Visit]:
    make_page([run.root], tmp_path / "page")
    found = Visit(browser, tmp_path / "page", run)
    yield found
    found.close()
