"""Run tests with every installed Python that lxcompress supports, and once with the oldest dependencies that it allows.

`make test-matrix` runs it with the fast tests. Each environment is made anew, and removed when its tests pass.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINORS = (10, 11, 12, 13)
NEEDED = ".[hdf5]"  # the fast tests read hdf5 files


def find_pythons() -> dict[int, str]:
    """Return the installed Python 3.N of each N: in the folder of pyenv, or on the PATH."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for minor in MINORS:
        on_path = shutil.which(f"python3.{minor}")
        in_pyenv = sorted(versions.glob(f"3.{minor}.*/bin/python3"))
        candidates = [*map(str, reversed(in_pyenv)), *([on_path] if on_path else [])]
        working = next((python for python in candidates if _is_minor(python, minor)), None)
        if working:
            found[minor] = working
    return found


def list_runners() -> list[str]:
    """Return the requirements of pytest and its plugins, as they stand in pyproject.toml."""
    return re.findall(r'^ *"(pytest[^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def try_python(name: str, python: str, resolution: str, tests: Sequence[str]) -> bool:
    """Install lxcompress into a new environment of `python`, and return whether `tests` pass in it.

    lxcompress doctor must find no fault first. `resolution` is uv's: highest, or lowest-direct for the lower bounds.
    """
    with tempfile.TemporaryDirectory(prefix=f"lxcompress-{name}-") as folder:
        inside = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(inside)]
        # An old library may warn of a newer one, and still do what it should.
        warnings = ["-W", "default::DeprecationWarning"] if resolution != "highest" else []
        commands = (
            [sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", python, folder],
            [*install, "--resolution", resolution, NEEDED],
            [*install, *list_runners()],
            [str(inside), "-m", "lxcompress", "doctor"],
            [str(inside), "-m", "pytest", "-n", "2", "--dist", "loadfile", *warnings, *tests],
        )
        for command in commands:
            if subprocess.run(command, cwd=ROOT).returncode:
                print(f"{name}: failed: {' '.join(command)}", flush=True)
                return False
    print(f"{name}: passed", flush=True)
    return True


def _is_minor(python: str, minor: int) -> bool:
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.split() == ["3", str(minor)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Try each Python, then the lowest bounds with the oldest Python that has them; exit with 1 if a test fails."""
    parser = argparse.ArgumentParser(prog="python -m release.matrix", description="Run tests on several Pythons.")
    parser.add_argument("tests", nargs="+", help="Test files.")
    parser.add_argument("--only", nargs="*", help="Some of the rows, such as 3.12 or lowest.")
    options = parser.parse_args(arguments)
    pythons = find_pythons()
    rows = {f"3.{minor}": (python, "highest") for minor, python in pythons.items()}
    missing = [f"3.{minor}" for minor in MINORS if minor not in pythons]
    if missing:
        print(f"not installed, so not tried: Python {', '.join(missing)}")
    if pythons:
        rows["lowest"] = (pythons[min(pythons)], "lowest-direct")
    wanted = options.only or list(rows)
    failed = [name for name in wanted if name not in rows or not try_python(name, *rows[name], options.tests)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
