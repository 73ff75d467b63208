"""The ratios between whinchat and its peers.

A speed ratio is ours over theirs in examples a second, taken round by round, since the two ran minutes apart at most.
Its value is the median of the rounds' ratios.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.measure import rate, spread

Entries = Mapping[str, Mapping[str, Any]]
Measure = Literal["speed", "memory", "peak"]


@dataclass(frozen=True)
class Ratio:
    """A ratio of ours over theirs, of which the fastest of each round counts.

    A memory ratio without theirs is the peak memory in GB (10^9 bytes); ``peak`` is our share of the bf16 peak.
    """

    title: str
    group: str
    ours: str
    theirs: tuple[str, ...] = ()
    of: Measure = "speed"


def _training(title: str, ours: str, *theirs: str, of: Measure = "speed") -> Ratio:
    return Ratio(title, "training", f"whinchat-{ours}", theirs, of)


def _scoring(title: str, *theirs: str) -> Ratio:
    return Ratio(f"scoring against {title}", "scoring", "whinchat-bf16", theirs)


def _tinyllama(title: str, ours: str, *theirs: str, of: Measure = "speed") -> Ratio:
    return Ratio(f"TinyLlama's shape in NF4: {title}", "tinyllama", ours, theirs, of)


_HEAD, _HEADS = "a classification head", ("seqcls-bf16", "seqcls-bf16-fp32-weights")
_STORED = "without gradient checkpointing"
_PEAK, _MEMORY = "share of the bf16 matrix-product peak, training", "peak memory against TRL bf16"
_KV, _ALL = "training, k/v, against TRL bf16", "training, all linear, against TRL bf16"
_DORA, _STEP = "DoRA against whinchat's LoRA, all linear", "time of a step over that in bf16"
_SOONER = "one epoch with the first 16 layers, against"
_TINY, _GB = "tinyllama-nf4", "peak memory in GB (10^9 bytes), loading included"
RATIOS = {
    "train_kv_vs_trl_fp32": _training("training, k/v, against TRL float32", "lora-kv", "trl-fp32-kv"),
    "train_kv_vs_trl_bf16": _training(_KV, "lora-kv", "trl-bf16-kv"),
    "train_kv_vs_seqcls_bf16": _training(f"training, k/v, against {_HEAD}, bf16", "lora-kv", *_HEADS),
    "train_all_vs_trl_bf16": _training(_ALL, "lora-all", "trl-bf16-all"),
    "dora_vs_lora": _training(_DORA, "dora-all", "whinchat-lora-all"),
    "score_vs_generate_fp32": _scoring("generate, 16 tokens, float32", "generate-fp32"),
    "score_vs_generate_bf16": _scoring("generate, 16 tokens, bf16", "generate-bf16"),
    "score_vs_seqcls_bf16": _scoring(f"{_HEAD}'s forward pass, bf16", "seqcls-bf16"),
    "peak_share": _training(f"{_PEAK}, all linear", "lora-all", of="peak"),
    "memory_vs_trl_bf16": _training(f"{_MEMORY}, training, k/v", "lora-kv", "trl-bf16-kv", of="memory"),
    "tinyllama_nf4_peak_gb": _tinyllama(_GB, _TINY, of="memory"),
    "time_to_quality_vs_full_depth": _training(f"{_SOONER} all layers", "layers-16", "whinchat-full"),
    "time_to_quality_vs_trl_fp32": _training(f"{_SOONER} TRL float32, k/v", "layers-16", "trl-fp32-kv"),
    "time_to_quality_vs_trl_bf16": _training(f"{_SOONER} TRL bf16, k/v", "layers-16", "trl-bf16-kv"),
    "answers_vs_full_depth": Ratio(
        "answers, 16 layers, against all layers, merged weights", "scoring", "whinchat-layers-16", ("whinchat-merged",)
    ),
    # A ratio of step times, hence of the rates the other way round.
    "tinyllama_nf4_step_vs_bf16": _tinyllama(_STEP, "tinyllama-bfloat16", _TINY),
    # The same peers with their best settings.
    "train_kv_vs_trl_bf16_stored": _training(f"{_KV} {_STORED}", "lora-kv", "trl-bf16-kv-stored"),
    "train_all_vs_trl_bf16_stored": _training(f"{_ALL} {_STORED}", "lora-all", "trl-bf16-all-stored"),
    "dora_vs_trl_dora": _training("DoRA, all linear, against TRL's DoRA, bf16", "dora-all", "trl-bf16-dora-all"),
    "score_vs_generate_bf16_2": _scoring("generate, 2 tokens, bf16", "generate-bf16-2"),
    "score_vs_llama_cpp": _scoring("llama.cpp with a grammar", "llama-cpp"),
    "memory_vs_trl_bf16_stored": _training(f"{_MEMORY} {_STORED}", "lora-kv", "trl-bf16-kv-stored", of="memory"),
    "tinyllama_nf4_memory_vs_trl": _tinyllama(
        "peak memory against TRL + bitsandbytes", _TINY, "tinyllama-trl-nf4", of="memory"
    ),
    "peak_share_kv": _training(f"{_PEAK}, k/v", "lora-kv", of="peak"),
}


def ratios(groups: Mapping[str, Entries]) -> tuple[dict[str, float | None], dict[str, dict[str, float] | None]]:
    """Return the value and the range of every ratio, None where a contestant is missing.

    Args:
        groups: the contestants' entries as they stand in the JSON, by group and name.
    """
    ranges = {key: spread(_by_round(ratio, groups.get(ratio.group, {}))) for key, ratio in RATIOS.items()}
    return {key: found["median"] if found else None for key, found in ranges.items()}, ranges


def _by_round(ratio: Ratio, entries: Entries) -> list[float]:
    ours, first = entries.get(ratio.ours, {}), entries.get(ratio.theirs[0], {}) if ratio.theirs else {}
    rounds = ours.get("rounds", ())
    if ratio.of == "memory":
        other = first.get("peak_bytes") if first.get("rounds") else 0 if ratio.theirs else 1e9
        return [ours["peak_bytes"] / other] if rounds and other else []
    # A contestant that failed in a later round counts with its earlier rounds.
    if ratio.of == "speed":
        theirs = [_rates(entries, name) for name in ratio.theirs]
        numbers = range(max(map(len, theirs), default=0))
        fastest = [max(rates[number] for rates in theirs if number < len(rates)) for number in numbers]
        return [mine / other for mine, other in zip(_rates(entries, ratio.ours), fastest, strict=False)]
    gflop = (ours.get("flops_per_round") or 0) / 1e9
    peaks = _rates(entries, "peak-bfloat16")  # GFLOP/s
    return [gflop / one_round["seconds"] / peak for one_round, peak in zip(rounds, peaks, strict=False) if gflop]


def _rates(entries: Entries, name: str) -> list[float]:
    return [rate(one_round) for one_round in entries.get(name, {}).get("rounds", ())]
