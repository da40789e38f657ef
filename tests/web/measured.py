"""A measurement as a page sends it."""

from __future__ import annotations

from typing import Any


def make_measurement(*sha256: str, device: str = "Pixel 8, Chrome", **changes: Any) -> dict[str, Any]:
    """Return a measurement of the artifacts with these checksums; each is twice as fast as the one before."""
    models = [
        {
            "sha256": digest,
            "samples": [0.004 * 0.5**index * (1 + 0.001 * run) for run in range(40)],
            "rounds": [5] * 8,
            "repeats": 1,
            "compile_s": 0.02,
            "fetch_s": 0.3,
            "load_s": 0.01,
            "memory_bytes": 4_000_000,
        }
        for index, digest in enumerate(sha256)
    ]
    conditions = {
        "isolated": True,
        "wake_lock": True,
        "hidden": False,
        "battery": None,
        "pressure": None,
        "page_memory_bytes": None,
    }
    return {
        "kind": "lxcompress-page",
        "version": 1,
        "started": "2026-01-02T03:04:05.678Z",
        "device": device,
        "user_agent": "Mozilla/5.0 (Linux; Android 15; Pixel 8) Chrome/140",
        "cores": 8,
        "memory_gb": 8,
        "engine": "SIMD",
        "threads": 1,
        "lxcompress": "0.1.0",
        "tick_s": 0.0001,
        "objects": 5,
        "lengths": [7, 9] * 20,
        "conditions": conditions,
        "models": models,
        **changes,
    }
