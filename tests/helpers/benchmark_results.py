"""A made-up result, as the driver writes it."""

from __future__ import annotations

from typing import Any

from benchmarks.growth import Reading, summary
from benchmarks.measure import spread
from benchmarks.ratios import ratios


def entry(
    examples: float = 0, seconds: tuple[float, ...] = (), peak: int = 0, *, unit: str = "examples", **more: Any
) -> dict[str, Any]:
    rounds = [{"examples": examples, "seconds": one, "facts": {}, "peak_bytes": peak} for one in seconds]
    return {
        "group": "g", "title": "a contestant", "ours": False, "kind": "k", "unit": unit, "options": {},
        "facts": {"mean_prompt_tokens": 78.1}, "rounds": rounds,
        "per_second": spread([examples / one for one in seconds]), "loaded_bytes": peak, "peak_bytes": peak,
        "flops_per_round": None, "error": None, "unavailable": None, **more,
    }  # fmt: skip


def groups() -> dict[str, dict[str, dict[str, Any]]]:
    return {
        "training": {
            "whinchat-lora-kv": entry(128, (4.0, 5.0, 4.0), 10**9, title="whinchat LoRA", ours=True),
            "whinchat-lora-all": entry(128, (8.0, 8.0, 8.0), 10**9, ours=True, flops_per_round=4e12),
            "whinchat-dora-all": entry(128, (10.0, 8.0, 16.0), 10**9, ours=True),
            "trl-fp32-kv": entry(48, (24.0, 24.0, 24.0), 4 * 10**9, title="TRL, float32"),
            "trl-bf16-kv": entry(48, (12.0,), 4 * 10**9, error="RuntimeError: a|b\nc (at round)"),
            "trl-bf16-all": entry(error="it fell"),
            "seqcls-bf16": entry(100, (10.0, 10.0, 10.0)),
            "seqcls-bf16-fp32-weights": entry(100, (20.0, 5.0, 20.0)),
            "peak-bfloat16": entry(500, (0.5, 1.0, 0.8), unit="GFLOP"),
        },
        "scoring": {
            "llama-cpp": entry(title="llama.cpp", unavailable="llama-cpp-python is not installed"),
        },
        "tinyllama": {
            "tinyllama-nf4": entry(32, (11.0, 12.0), 2_400_000_000),
            "tinyllama-bfloat16": entry(32, (10.0, 10.0), 5_000_000_000),
        },
    }


def growth() -> dict[str, Any]:
    axes = {"batch": (4, 16, 64), "length": (32, 128, 512), "parameters": (135e6, 298e6, 1.1e9)}
    found: dict[str, dict[str, list[Reading]]] = {
        axis: {
            job: [Reading(float(x), factor * float(x) ** 0.9, 9.0, int(3e8 * float(x) ** 0.1)) for x in sizes]
            for job, factor in (("train", 2e-3), ("score", 1e-3))
        }
        for axis, sizes in axes.items()
    }
    found["texts"] = {"score": [Reading(float(x), 0.02, 8 + 0.02 * x, 10**9) for x in (100, 300, 1000)]}
    found["batch"]["score"][0] = Reading(4.0, error="it fell")
    return summary(found)


def result() -> dict[str, Any]:
    measured = groups()
    found, ranges = ratios(measured)
    return {
        "provenance": {
            "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "uncommitted_changes": True,
            "command": "python -m benchmarks",
        },
        "machine": {
            "processor": "A Processor", "cores": 2, "threads": 2, "bf16_units": ["avx512_bf16"],
            "memory_bytes": 24 * 2**30, "load_before": [0.1, 0.2, 0.3], "system": "Linux", "python": "3.11",
        },
        "versions": {"torch": "2.13.0", "trl": None},
        "settings": {"rounds": 3, "texts": 128, "scored": 256, "full": False, "groups": ["training"]},
        "workload": {"source": "somewhere", "description": "tweets"},
        "seconds": 1234.5, "ratios": found, "ratio_ranges": ranges,
        "peak": {"bfloat16": None, "float32": None}, "failures": [], "contestants": measured, "growth": growth(),
    }  # fmt: skip
