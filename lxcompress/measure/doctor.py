"""Doctor: which versions and devices are here, what works when it is really tried, and what adds what is missing.

Nothing that it imports needs a library of others, except inside a check: it is run when one is missing or broken.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxcompress import __version__
from lxcompress.measure.devices import Device, find_devices
from lxcompress.measure.requirements import Package, read_packages
from lxcompress.measure.trials import CHECKS, Trial, make_trial


@dataclass(frozen=True)
class Diagnosis:
    """What this machine and this installation can do; `is_sound` if the core works."""

    lxcompress: str
    is_sound: bool
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    trials: tuple[Trial, ...]


def diagnose() -> Diagnosis:
    """Reads the versions, looks for devices, and tries what the commands need; takes some seconds."""
    packages = read_packages()
    trials = tuple(make_trial(check) for check in CHECKS)
    is_sound = all(package.state == "ok" for package in packages if package.extra is None) and all(
        trial.works for trial in trials if trial.is_core
    )
    return Diagnosis(__version__, is_sound, packages, find_devices(), trials)
