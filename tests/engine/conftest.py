"""The engine's tests need the engine: without a C compiler it is not built, and they are left out, which is said."""

from __future__ import annotations

from lxcompress.engine.build import find_compiler

HAS_COMPILER = find_compiler() is not None
collect_ignore_glob = [] if HAS_COMPILER else ["test_*.py"]


def pytest_report_header() -> list[str]:
    return [] if HAS_COMPILER else ["engine: there is no C compiler here, so its tests are left out"]
