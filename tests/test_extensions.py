"""Parts of other packages: each kind is added from outside, used, and refused in one sentence where it is broken."""

from __future__ import annotations

import pytest

from lxcompress.catalog.extensions import added_names, load_added, resolve
from lxcompress.catalog.families import find_family_spec, modality
from lxcompress.catalog.formats import FORMATS, all_formats, find_format
from lxcompress.catalog.runtimes import find_runtime_spec, list_serving
from lxcompress.errors import ExtensionError
from tests.packages import write_package


def test_a_name_is_known_without_an_import(packages) -> None:
    write_package(packages, "unheard", "[lxcompress.criteria]\nodd = unheard:spec\n", "raise SystemExit(3)")
    assert "odd" in added_names("criteria")
    assert "odd" not in added_names("formats")


def test_an_entry_point_is_loaded(packages) -> None:
    write_package(packages, "heard", "[lxcompress.criteria]\nodd = heard:spec\n", "spec = 7")
    assert load_added("criteria", "odd") == 7


@pytest.mark.parametrize("module", ["raise ValueError('no')", "import no_such_module_at_all", ""])
def test_a_broken_package_is_named_in_one_sentence(packages, module: str) -> None:
    write_package(packages, "broken", "[lxcompress.formats]\nodd = broken:spec\n", module)
    with pytest.raises(ExtensionError, match=r"^broken: its entry point 'odd' .* cannot be loaded"):
        load_added("formats", "odd")


def test_a_broken_package_is_one_warning_and_stops_nothing(packages, caplog) -> None:
    write_package(
        packages,
        "unsound",
        "".join(f"[lxcompress.{group}]\nodd = unsound:spec\n" for group in ("formats", "runtimes", "families")),
        "raise ValueError('no\\nand no')",
    )
    for _ in range(2):
        assert [spec.name for spec in all_formats()] == list(FORMATS)
        assert list_serving("bitmask") == ("torch", "torch-compile")
        assert modality("some.tensor") == "head"
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" (")[0] for line in said] == [
        f"unsound: its entry point 'odd' of lxcompress.{group}" for group in ("formats", "runtimes", "families")
    ]
    assert all("ValueError: no; update or uninstall that package; lxcompress works without it" in line for line in said)
    for find in (find_format, find_runtime_spec, find_family_spec):
        with pytest.raises(ExtensionError, match=r"^unsound: its entry point 'odd' .* cannot be loaded"):
            find("odd")


def test_two_packages_with_one_name_are_refused(packages) -> None:
    write_package(packages, "first", "[lxcompress.data]\nodd = first:spec\n")
    write_package(packages, "second", "[lxcompress.data]\nodd = second:spec\n")
    with pytest.raises(ExtensionError, match=r"both add 'odd'; uninstall one of them"):
        added_names("data")


def test_an_unknown_name_is_refused(packages) -> None:
    with pytest.raises(ExtensionError, match="no installed package adds 'odd'"):
        load_added("families", "odd")


def test_a_path_names_an_attribute_of_a_module() -> None:
    assert resolve("lxcompress.errors:ExtensionError") is ExtensionError
