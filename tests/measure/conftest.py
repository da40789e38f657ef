"""A small artifact and a big one, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.measure.artifacts import build_artifact


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_artifact(tmp_path_factory.mktemp("small") / "small")


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose file holds 40 MB."""
    return build_artifact(tmp_path_factory.mktemp("big") / "big", width=250, vocabulary=40_000)
