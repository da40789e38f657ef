"""Laws of the Python API: its names, its speed, its types, and the code of its documents."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lxcompress as lx
from tests import children

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FUNCTIONS = {
    *("load_recipe", "run_study", "read_run", "pick", "load_ticket", "load_model", "prune", "evaluate", "export"),
    *("bench", "open_session", "write_report", "check_data", "score"),
}
IMPORT_S = 0.05


def test_every_name_is_there_and_documented() -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    assert set(lx.__all__) >= FUNCTIONS
    for name in lx.__all__:
        assert getattr(lx, name).__doc__, name
        assert re.search(rf"`{name}\b|lx\.{name}\b", page), f"docs/python.md does not name {name}"


def test_no_public_name_is_the_name_of_a_submodule() -> None:
    """Importing a submodule sets it as an attribute of the package: docs/decisions/0013."""
    assert not set(lx.__all__) & {module.name for module in pkgutil.iter_modules(lx.__path__)}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'exprot'"):
        _ = lx.exprot


def test_type_checkers_see_every_name() -> None:
    """The imports under TYPE_CHECKING are those of __all__, and the package says that it is typed."""
    source = Path(lx.__file__).read_text(encoding="utf-8")
    block = source.partition("if TYPE_CHECKING:")[2].partition("\n\n#")[0]
    assert set(re.findall(r" as (\w+)$", block, flags=re.MULTILINE)) == set(lx.__all__)
    assert (Path(lx.__file__).parent / "py.typed").is_file()


def test_the_import_is_fast_and_loads_no_library() -> None:
    program = (
        "import sys, time\nstart = time.process_time()\nimport lxcompress\nseconds = time.process_time() - start\n"
        "heavy = sorted({'torch', 'numpy', 'pydantic', 'transformers', 'onnx', 'typer'} & set(sys.modules))\n"
        "import json\nprint(json.dumps([seconds, heavy]))"
    )
    measured = [json.loads(run_python(program).stdout) for _ in range(3)]
    assert min(seconds for seconds, _ in measured) < IMPORT_S, measured
    assert not measured[0][1]


def test_importing_submodules_replaces_no_function() -> None:
    program = "import lxcompress.exporters.formats, lxcompress.api, lxcompress as lx\nassert callable(lx.export)"
    run_python(program)


@pytest.fixture(scope="module")
def python_page(tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """The output of the code of docs/python.md, run from top to bottom in one process."""
    program = "\n".join(block for block in blocks() if not block.startswith("# slow"))
    done = children.run(program, cwd=tmp_path_factory.mktemp("program"))
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_the_code_of_the_python_page_runs(python_page) -> None:
    printed = python_page.stdout
    for line in (
        "dense ",
        "picked: ",
        "report: ",
        "50% of the prunable",
        "accuracy ",
        "answers changed",
        "best answer:",
    ):
        assert line in printed, printed
    assert "did you mean quickstart" in printed


@pytest.mark.slow
def test_the_slow_code_of_the_python_page_runs_too(tmp_path_factory) -> None:
    assert "median" in run_python("\n".join(blocks()), tmp_path_factory).stdout


@pytest.mark.native
def test_the_notebook_runs(tmp_path, monkeypatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "low-magnitude-weight-50-seed0" in printed
    assert "answers changed" in printed


def blocks() -> list[str]:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


def run_python(program: str, folders: pytest.TempPathFactory | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in a new folder. Raises AssertionError with its last lines if it fails."""
    folder = folders.mktemp("program") if folders else None
    path = {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def commands_of(page: str) -> list[list[str]]:
    """Return the lxcompress commands in the shell blocks of a page, without comments."""
    import shlex

    found = []
    for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\[[^\]]*\]", "", line)  # an optional part
            for command in line.partition(" > ")[0].split(" && "):
                words = shlex.split(command, comments=True)
                if words[:1] == ["lxcompress"]:
                    found.append(words[1:])
    return found


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *DOCS.glob("*.md")))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_documents_parses(page: str) -> None:
    """Each command exists and has these options; nothing is run."""
    import typer

    from lxcompress.cli.main import app

    group = typer.main.get_command(app)
    for words in commands_of((ROOT / page).read_text(encoding="utf-8")):
        command, rest = group, list(words)
        while hasattr(command, "commands") and rest and not rest[0].startswith("--"):
            assert rest[0] in command.commands, f"{page}: lxcompress {' '.join(words)}"
            command = command.commands[rest.pop(0)]
        rest = [word for word in rest if word not in ("--quiet", "--verbose")]
        if "--log" in rest:
            del rest[rest.index("--log") : rest.index("--log") + 2]
        try:
            command.make_context("lxcompress", rest, resilient_parsing=False).close()
        except SystemExit:  # --help
            continue
        except Exception as error:
            if type(error).__name__ == "Exit":
                continue
            raise AssertionError(f"{page}: lxcompress {' '.join(words)}: {error}") from error


def test_the_readme_is_short_and_shows_the_picture() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) < 120
    assert page.count("![") == 1


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    missing = [page for page in sorted({*pages, "quickstart.ipynb"}) if f"({page})" not in index]
    assert not missing
    for linked in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", index):
        assert (DOCS / linked).exists(), linked
