"""Laws of torch.compile: `auto` uses it only if it can work; if it fails, the error names the setting."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lxcompress.errors import RunError
from lxcompress.recipe import Train
from lxcompress.training.device import DeviceSpec
from lxcompress.training.fit import MAX_COMPILED_VARIANTS, can_compile, compile_settings, uses_compile

CPU, CUDA = DeviceSpec(torch.device("cpu"), "fp32"), DeviceSpec(torch.device("cuda", 0), "bf16")


@pytest.fixture
def bare_path(tmp_path, monkeypatch) -> Path:
    """Set a PATH without any program."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path


def program(folder: Path, name: str) -> str:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return name


def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a package of Triton's name, if it is not installed."""
    if importlib.util.find_spec("triton") is None:
        (folder / "packages" / "triton").mkdir(parents=True)
        (folder / "packages" / "triton" / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(str(folder / "packages"))


@pytest.fixture(autouse=True)
def header(tmp_path, monkeypatch) -> Path:
    """Set a folder that has Python's header."""
    folder = tmp_path / "include"
    folder.mkdir()
    (folder / "Python.h").write_text("")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))
    return folder / "Python.h"


def test_auto_needs_triton_and_a_compiler(bare_path, monkeypatch) -> None:
    package(bare_path, monkeypatch)
    assert not can_compile()
    monkeypatch.setenv("CC", "absent -m64")
    program(bare_path, "gcc")
    assert not can_compile()
    monkeypatch.setenv("CC", program(bare_path, "mine") + " -m64")
    assert can_compile()
    monkeypatch.delenv("CC")
    assert can_compile()


def test_auto_needs_pythons_header(bare_path, monkeypatch, header) -> None:
    package(bare_path, monkeypatch)
    program(bare_path, "gcc")
    header.unlink()
    assert not can_compile()


@pytest.mark.parametrize("name", ["cc", "gcc", "clang"])
def test_any_usual_compiler_will_do(name, bare_path, monkeypatch) -> None:
    package(bare_path, monkeypatch)
    program(bare_path, name)
    assert can_compile()
    assert uses_compile(Train(), CUDA)
    assert not uses_compile(Train(), CPU)


def test_the_switch_goes_before_what_is_found(bare_path) -> None:
    assert not can_compile()
    assert not uses_compile(Train(), CUDA)
    assert uses_compile(Train(compile="on"), CUDA)
    assert uses_compile(Train(compile="on"), CPU)
    assert not uses_compile(Train(compile="off"), CUDA)


def test_a_backend_that_fails_names_the_switch() -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        raise FileNotFoundError("no C compiler is found\nand so on")

    double = torch.compile(lambda x: x * 2, backend=broken)
    with pytest.raises(RunError) as caught, compile_settings():
        double(torch.ones(2))
    told = str(caught.value)
    assert told.startswith("torch.compile cannot compile the model here (")
    assert "no C compiler is found" in told
    assert told.endswith("; give train.compile=off")
    assert "\n" not in told


def test_a_deterministic_fit_takes_no_kernel_because_of_a_trial() -> None:
    import torch._inductor.config as inductor

    before = inductor.deterministic
    with compile_settings(deterministic=True):
        assert inductor.deterministic
    with compile_settings():
        assert inductor.deterministic == before


def test_more_models_than_torch_keeps_by_itself_stay_compiled() -> None:
    """Smaller models have many shapes; beyond torch's limit of 8 they would silently not be compiled."""
    made: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        made.append(len(inputs))
        return graph.forward

    answer = torch.compile(lambda model, x: model(x), backend=count, dynamic=False)
    with compile_settings():
        for width in range(1, 21):
            answer(nn.Linear(3, width), torch.ones(2, 3))
    assert len(made) == 20 < MAX_COMPILED_VARIANTS
