"""The figures that the targets are about. Pure functions of the measured entries.

A speed ratio is ours over theirs in examples a second, taken round by round, since the two ran minutes apart at most;
what is reported is the median of the rounds' ratios, with the least and the greatest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.entries import rate, spread

GB = 1e9


@dataclass(frozen=True)
class Target:
    """What the project set itself: at least (or at most) ``value``."""

    value: float
    at_least: bool = True

    def reached(self, ratio: float | None) -> bool | None:
        """Whether ``ratio`` meets it; None where there is no ratio."""
        if ratio is None:
            return None
        return ratio >= self.value if self.at_least else ratio <= self.value


TARGETS = {
    "train_kv_vs_trl_fp32": Target(16),
    "train_kv_vs_trl_bf16": Target(10),
    "train_kv_vs_seqcls_bf16": Target(2),
    "train_all_vs_trl_bf16": Target(10),
    "dora_vs_lora": Target(0.87),
    "score_vs_generate_fp32": Target(16),
    "score_vs_generate_bf16": Target(5),
    "score_vs_seqcls_bf16": Target(1.3),
    "peak_share": Target(0.65),
    "memory_vs_trl_bf16": Target(0.4, at_least=False),
    "tinyllama_nf4_peak_gb": Target(2.5, at_least=False),
    "tinyllama_nf4_step_vs_bf16": Target(1.1, at_least=False),
}

# Key: ours, and theirs; where there are several of theirs, the fastest of a round counts.
_SPEED: dict[str, tuple[str, tuple[str, ...]]] = {
    "train_kv_vs_trl_fp32": ("whinchat-lora-kv", ("trl-fp32-kv",)),
    "train_kv_vs_trl_bf16": ("whinchat-lora-kv", ("trl-bf16-kv",)),
    "train_kv_vs_seqcls_bf16": ("whinchat-lora-kv", ("seqcls-bf16", "seqcls-bf16-fp32-weights")),
    "train_all_vs_trl_bf16": ("whinchat-lora-all", ("trl-bf16-all",)),
    "dora_vs_lora": ("whinchat-dora-all", ("whinchat-lora-all",)),
    "score_vs_generate_fp32": ("whinchat-bf16", ("generate-fp32",)),
    "score_vs_generate_bf16": ("whinchat-bf16", ("generate-bf16",)),
    "score_vs_seqcls_bf16": ("whinchat-bf16", ("seqcls-bf16",)),
    # Beyond the targets: the same peers at their best.
    "train_kv_vs_trl_bf16_stored": ("whinchat-lora-kv", ("trl-bf16-kv-stored",)),
    "train_all_vs_trl_bf16_stored": ("whinchat-lora-all", ("trl-bf16-all-stored",)),
    "dora_vs_trl_dora": ("whinchat-dora-all", ("trl-bf16-dora-all",)),
    "score_vs_generate_bf16_2": ("whinchat-bf16", ("generate-bf16-2",)),
    "score_vs_llama_cpp": ("whinchat-bf16", ("llama-cpp",)),
}
_MEMORY = {
    "memory_vs_trl_bf16": ("whinchat-lora-kv", "trl-bf16-kv"),
    "memory_vs_trl_bf16_stored": ("whinchat-lora-kv", "trl-bf16-kv-stored"),
    "tinyllama_nf4_memory_vs_trl": ("tinyllama-nf4", "tinyllama-trl-nf4"),
}
_PEAK_SHARES = {"peak_share": "whinchat-lora-all", "peak_share_kv": "whinchat-lora-kv"}

Groups = Mapping[str, Mapping[str, Mapping[str, Any]]]


def ratios(groups: Groups) -> tuple[dict[str, float | None], dict[str, dict[str, float] | None]]:
    """Every ratio and its range, None where a contestant is missing.

    Args:
        groups: contestants' entries as they stand in the JSON, by group and name.
    """
    by_round: dict[str, list[float]] = {}
    for key, (ours, theirs) in _SPEED.items():
        entries = groups.get("scoring" if key.startswith("score") else "training", {})
        by_round[key] = _over(_rates(entries, ours), _fastest([_rates(entries, peer) for peer in theirs]))
    training, tinyllama = groups.get("training", {}), groups.get("tinyllama", {})
    for key, ours in _PEAK_SHARES.items():
        by_round[key] = _peak_shares(training, ours)
    # The time of a step: the other way round.
    by_round["tinyllama_nf4_step_vs_bf16"] = _over(
        _rates(tinyllama, "tinyllama-bfloat16"), _rates(tinyllama, "tinyllama-nf4")
    )
    for key, (one, another) in _MEMORY.items():
        entries = tinyllama if key.startswith("tinyllama") else training
        mine, other = _peak_bytes(entries, one), _peak_bytes(entries, another)
        by_round[key] = [mine / other] if mine and other else []
    peak = _peak_bytes(tinyllama, "tinyllama-nf4")
    by_round["tinyllama_nf4_peak_gb"] = [peak / GB] if peak else []
    ranges = {key: spread(by_round[key]) for key in [*TARGETS, *(key for key in by_round if key not in TARGETS)]}
    return {key: found["median"] if found else None for key, found in ranges.items()}, ranges


def judged(found: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """Each target: its number, its direction, what was measured, and whether that reaches it."""
    return {
        key: {
            "target": target.value,
            "bound": "at least" if target.at_least else "at most",
            "measured": found.get(key),
            "reached": target.reached(found.get(key)),
        }
        for key, target in TARGETS.items()
    }


def _rates(entries: Mapping[str, Mapping[str, Any]], name: str) -> list[float]:
    return [rate(one) for one in entries.get(name, {}).get("rounds", ())]


def _fastest(several: Sequence[list[float]]) -> list[float]:
    """The best rate of each round, over those that were measured at all."""
    rounds = max(map(len, several), default=0)
    return [max(rates[number] for rates in several if number < len(rates)) for number in range(rounds)]


def _over(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    # A contestant that failed in a later round still counts with its earlier ones.
    return [mine / other for mine, other in zip(ours, theirs, strict=False)]


def _peak_shares(entries: Mapping[str, Mapping[str, Any]], name: str) -> list[float]:
    """Products of a round over what the machine could have multiplied in its time, by that round's own peak."""
    entry = entries.get(name, {})
    flops = entry.get("flops_per_round")
    peaks = _rates(entries, "peak-bfloat16")  # GFLOP/s
    if not flops:
        return []
    rounds = entry.get("rounds", ())
    return [flops / 1e9 / one["seconds"] / peak for one, peak in zip(rounds, peaks, strict=False)]


def _peak_bytes(entries: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    """Peak memory of a contestant that ran at least one round."""
    entry = entries.get(name, {})
    return entry.get("peak_bytes") if entry.get("rounds") else None
