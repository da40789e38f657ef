"""A phone that is none: an `adb` executable on the PATH which keeps files in a folder, records its calls, and runs hot.

Its runner answers as ONNX Runtime's perf test does: a line for each run in the samples file, the load time printed. The
engine's own runner is run for 64-bit ARM, by QEMU.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

_ADB = """#!{python} -IS
import json, os, shlex, sys  # and no other library: a test makes some 30 calls, and pathlib takes as long as Python

def read(path):
    with open(path, "rb") as file:
        return file.read()

def write(path, content):
    with open(path, "wb") as file:
        file.write(content)

def fail(code, words):
    sys.stderr.write(words + "\\n")
    sys.exit(code)

state = {state!r}
settings = json.loads(read(state + "/settings.json"))
arguments = sys.argv[1:]
with open(state + "/calls.jsonl", "a") as log:
    log.write(json.dumps(arguments) + "\\n")
phone = lambda path: state + "/phone/" + path.lstrip("/")

if arguments == ["devices"]:
    print("List of devices attached")
    for serial, condition in settings["devices"].items():
        print(serial + "\\t" + condition)
    print()
    sys.exit()
if arguments[0] == "-s":
    if settings["devices"].get(arguments[1]) != "device":
        fail(1, "adb: device '" + arguments[1] + "' not found")
    arguments = arguments[2:]
if arguments[0] == "push":
    os.makedirs(os.path.dirname(phone(arguments[2])), exist_ok=True)
    write(phone(arguments[2]), read(arguments[1])[: settings["room"]])
elif arguments[0] == "pull":
    write(arguments[2], read(phone(arguments[1])))
elif arguments[0] == "shell":
    words = shlex.split(arguments[1])
    if words[0] == "getprop":
        print(settings["properties"].get(words[1], ""))
    elif words[0] == "cat" and "thermal" in words[1]:
        for _ in words[1:]:
            heat = json.loads(read(state + "/heat.json"))
            print(heat[0])
            write(state + "/heat.json", json.dumps(heat[1:] or heat).encode())
    elif words[0] == "cat":
        print(settings["files"][words[1]])
    elif words[0] == "sha256sum":
        if not settings["has_sha256sum"]:
            fail(127, "/system/bin/sh: sha256sum: inaccessible or not found")
        import hashlib
        print(hashlib.sha256(read(phone(words[1]))).hexdigest() + "  " + words[1])
    elif words[0] == "mkdir":
        os.makedirs(phone(words[2]), exist_ok=True)
    elif words[0] == "rm":
        if os.path.exists(phone(words[2])):
            os.unlink(phone(words[2]))
    elif words[0] == "chmod":
        os.chmod(phone(words[2]), 0o755)
    elif words[0].endswith("/engine-bench"):
        import subprocess
        paths = [phone(word) if word.startswith("/") else word for word in words]
        sys.exit(subprocess.run(["qemu-aarch64", *paths]).returncode)
    elif words[0].endswith("/perf"):
        if settings["runner_fails"]:
            fail(134, "terminate called after throwing Ort::Exception")
        runs, model, samples = int(words[2]), words[5], words[6]
        assert os.path.isfile(phone(model)), model
        lines = ["toy,%g,%d,99,%d" % (0.01 * (index + 1), 50_000_000 + runs, index) for index in range(runs)]
        print("Session creation time cost: 0.25 s")
        for index in range(runs):
            print("Iteration %d of %d: %f ms" % (index + 1, runs, 10 * (index + 1)))
        written = "\\n".join(lines) + "\\n"
        with open(phone(samples), "a") as file:
            file.write(written[: settings["written"]])
    else:
        fail(127, words[0] + ": not found")
else:
    fail(1, "unknown command " + arguments[0])
"""

CPUINFO = "processor\t: 0\nBogoMIPS\t: 38.40\n\nprocessor\t: 1\nHardware\t: Toy Board"


@dataclass(frozen=True)
class Phone:
    """The fake's folder: its settings, and the calls that it had."""

    state: Path

    @property
    def path(self) -> str:
        """A PATH on which `adb` is this one."""
        return f"{self.state / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def calls(self) -> list[list[str]]:
        """The arguments of each call so far."""
        file = self.state / "calls.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def build_phone(state: Path, *, heat: tuple[int, ...] = (30_000,), **changes: object) -> Phone:
    """A phone that is there, cool, and works, but for what `changes` say."""
    (state / "bin").mkdir(parents=True)
    settings = {
        "devices": {"PHONE1": "device"},
        "properties": {"ro.product.model": "Toy 8", "ro.soc.model": "", "ro.build.version.release": "15"},
        "files": {"/proc/cpuinfo": CPUINFO, "/proc/meminfo": "MemTotal:        8000000 kB"},
        "has_sha256sum": True,
        "room": None,
        "runner_fails": False,
        "written": None,
    }
    (state / "settings.json").write_text(json.dumps(settings | changes), encoding="utf-8")
    (state / "heat.json").write_text(json.dumps(heat), encoding="utf-8")
    adb = state / "bin" / "adb"
    adb.write_text(_ADB.format(python=sys.executable, state=str(state)), encoding="utf-8")
    adb.chmod(adb.stat().st_mode | stat.S_IXUSR)
    return Phone(state)


def write_profile(here: Path, /, **changes: object) -> Path:
    """A profile of that phone, beside the runner that it pushes."""
    here.mkdir(parents=True, exist_ok=True)
    (here / "perf").write_bytes(b"a runner")
    profile = {
        "name": "toy phone",
        "serial": "PHONE1",
        "folder": "/data/local/tmp/lx",
        "runner": {
            "file": "perf",
            "runtime": "onnxruntime",
            "command": ["{runner}", "-r", "{runs}", "-x", "{threads}", "{model}", "{samples}"],
            "samples": {"column": 1, "unit": "s"},
            "load": {"pattern": r"Session creation time cost: ([0-9.]+) s", "unit": "s"},
            "peak": {"column": 2, "unit": "B"},
        },
        "formats": {"onnx": ["model.onnx", "model.onnx.data"]},
        "thermal": {"zones": ["/sys/class/thermal/thermal_zone0/temp"], "highest_c": 40, "poll_s": 7},
    }
    path = here / "phone.yaml"
    path.write_text(yaml.safe_dump(_merge(profile, changes)), encoding="utf-8")
    return path


def _merge(base: dict, changes: dict) -> dict:
    """`base` with `changes`, a None removing its key."""
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return {key: value for key, value in merged.items() if value is not None}
