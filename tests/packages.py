"""Packages that add parts to lxcompress, written for one test."""

from __future__ import annotations

from pathlib import Path


def write_package(folder: Path, name: str, entry_points: str, module: str = "") -> None:
    """Write an installed package as pip leaves it: its metadata and one module."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
