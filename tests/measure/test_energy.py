"""What a processor took is the advance of its counters, round their end too; where none can be read it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from lxcompress.measure.host.energy import Counter, joules_between, read_energy


def build_powercap(root: Path, *, packages: int = 1, taken: int = 0, most: int = 262_143_328_850) -> Path:
    """A tree as Linux has it: packages, a part of each, and the whole board."""
    zones = {f"intel-rapl:{number}": f"package-{number}" for number in range(packages)}
    zones |= {f"intel-rapl:{number}:0": "core" for number in range(packages)} | {f"intel-rapl:{packages}": "psys"}
    for folder, name in zones.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "name").write_text(f"{name}\n", encoding="ascii")
        (root / folder / "energy_uj").write_text(f"{taken}\n", encoding="ascii")
        (root / folder / "max_energy_range_uj").write_text(f"{most}\n", encoding="ascii")
    return root


@pytest.mark.parametrize("packages", [1, 2])
def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path, packages: int) -> None:
    before = read_energy(build_powercap(tmp_path, packages=packages, taken=1_000_000))
    after = read_energy(build_powercap(tmp_path, packages=packages, taken=3_500_000))
    assert joules_between(before, after) == pytest.approx(2.5 * packages)


def test_a_counter_that_came_round_goes_on_counting() -> None:
    before, after = Counter(value=990, largest=999), Counter(value=5, largest=999)
    assert joules_between({"a": before}, {"a": after}) == pytest.approx(15e-6)
    assert joules_between({"a": before}, {"a": before}) == 0


def test_what_cannot_be_read_is_absent(tmp_path: Path) -> None:
    assert read_energy(tmp_path / "none") is None
    root = build_powercap(tmp_path)
    (root / "intel-rapl:0" / "energy_uj").unlink()
    assert read_energy(root) is None
    told = {"a": Counter(1, 9)}
    assert (
        joules_between(None, told) is joules_between(told, None) is joules_between(told, {"b": Counter(2, 9)}) is None
    )


def test_a_garbled_counter_is_absent_too(tmp_path: Path) -> None:
    root = build_powercap(tmp_path)
    (root / "intel-rapl:0" / "energy_uj").write_text("lots\n", encoding="ascii")
    assert read_energy(root) is None
