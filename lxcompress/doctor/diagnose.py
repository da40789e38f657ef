"""Diagnose this machine: versions of libraries, devices, and the result of each feature check.

This module imports no library of others, except inside a check: it must run when one is missing or broken.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxcompress import __version__
from lxcompress.doctor.checks import CHECKS, CheckResult, added_checks, run_check
from lxcompress.doctor.devices import Device, find_devices
from lxcompress.doctor.requirements import Package, read_packages


@dataclass(frozen=True)
class Diagnosis:
    """The state of this machine and installation; `is_sound` says whether every core package and check works."""

    lxcompress: str
    is_sound: bool
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    checks: tuple[CheckResult, ...]


def diagnose() -> Diagnosis:
    """Read the versions, find the devices and run the checks; this takes some seconds."""
    packages = read_packages()
    checks = tuple(run_check(check) for check in (*CHECKS, *added_checks()))
    is_sound = all(package.state == "ok" for package in packages if package.extra is None) and all(
        check.works for check in checks if check.is_core
    )
    return Diagnosis(__version__, is_sound, packages, find_devices(), checks)
