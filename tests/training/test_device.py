"""Laws of the device: if the memory is too small, one sentence names the setting; other errors are unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lxcompress.errors import LxError, RunError
from lxcompress.training.device import DeviceSpec, explain_out_of_memory, move
from lxcompress.training.step import explain_failed_capture

CPU = DeviceSpec(torch.device("cpu"), "fp32")

SAID = [
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "backend='inductor' raised:\nRuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "MPS backend out of memory (MPS allocated: 8.00 GB)",
]


@pytest.mark.parametrize("said", SAID)
def test_whoever_says_that_memory_is_out_is_understood(said) -> None:
    with pytest.raises(RunError) as caught, explain_out_of_memory("turn the knob"):
        raise RuntimeError(said)
    told = str(caught.value)
    assert told.startswith("the GPU is out of memory (")
    assert told.endswith("); turn the knob")
    assert "\n" not in told
    assert next(words for words in ("out of memory", "ALLOC_FAILED") if words in said) in told


def test_torchs_own_error_is_understood_whatever_it_says() -> None:
    for said in ("", "CUDA out of memory. Tried to allocate 2.00 GiB.\nmore", "something"):
        with (
            pytest.raises(RunError, match=r"^the GPU is out of memory \(.*\); turn the knob$"),
            explain_out_of_memory("turn the knob"),
        ):
            raise torch.OutOfMemoryError(said)


def test_an_error_that_follows_from_the_lack_of_memory_is_understood() -> None:
    """If memory runs out in the capture of a CUDA graph, the end of the capture raises this second error."""
    second = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    second.__context__ = torch.OutOfMemoryError("CUDA out of memory. Tried\nmore")
    told = r"^the GPU is out of memory \(CUDA out of memory. Tried\); turn the knob$"
    with pytest.raises(RunError, match=told), explain_out_of_memory("turn the knob"):
        raise second


def test_a_capture_that_fails_names_its_switch() -> None:
    with pytest.raises(RunError) as caught, explain_failed_capture():
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
    told = str(caught.value)
    assert "(CUDA error: operation not permitted when stream is capturing); give train.graph=off" in told
    with pytest.raises(torch.OutOfMemoryError), explain_failed_capture():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_memory_of_the_machine_is_told_from_that_of_the_gpu() -> None:
    too_small = pytest.raises(RunError, match=r"^the memory is too small \(DefaultCPUAllocator: .*\); turn the knob$")
    with too_small, explain_out_of_memory("turn the knob"):
        torch.empty(1 << 60)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("a value")])
def test_other_errors_pass_as_they_are(error) -> None:
    with pytest.raises(type(error)) as caught, explain_out_of_memory("turn the knob"):
        raise error
    assert caught.value is error


def test_a_sentence_is_not_said_twice() -> None:
    once = pytest.raises(LxError, match=r"^the GPU is out of memory \(CUDA error: out of memory\); inner$")
    with once, explain_out_of_memory("outer"), explain_out_of_memory("inner"):
        raise RuntimeError("CUDA error: out of memory")


def test_a_module_moves_to_its_device() -> None:
    module = nn.Linear(2, 2)
    assert move(module, CPU) is module
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):  # torch's own words: choose_device has asked before
            move(module, DeviceSpec(torch.device("cuda", 0), "bf16"))
