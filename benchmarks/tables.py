"""The results as Markdown: what was run, on what, by which command, and what came out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.fits import MANY
from whinchat.report.formatting import NOT_MEASURED, format_bytes, format_duration, format_number

_WHAT = {
    "train_kv_vs_trl_fp32": "training, k/v, against TRL float32",
    "train_kv_vs_trl_bf16": "training, k/v, against TRL bf16",
    "train_kv_vs_seqcls_bf16": "training, k/v, against a classification head, bf16",
    "train_all_vs_trl_bf16": "training, all linear, against TRL bf16",
    "dora_vs_lora": "DoRA against our own LoRA, all linear",
    "score_vs_generate_fp32": "scoring against generate, 16 tokens, float32",
    "score_vs_generate_bf16": "scoring against generate, 16 tokens, bf16",
    "score_vs_seqcls_bf16": "scoring against a classification head's forward pass, bf16",
    "peak_share": "share of the bf16 matrix-product peak, training, all linear",
    "memory_vs_trl_bf16": "peak memory against TRL bf16, training, k/v",
    "tinyllama_nf4_peak_gb": "TinyLlama's shape in NF4: peak memory, GB (10^9 bytes), loading included",
    "tinyllama_nf4_step_vs_bf16": "the same: time of a step over that in bf16",
    "train_kv_vs_trl_bf16_stored": "training, k/v, against TRL bf16 without gradient checkpointing",
    "train_all_vs_trl_bf16_stored": "training, all linear, against TRL bf16 without gradient checkpointing",
    "dora_vs_trl_dora": "DoRA, all linear, against TRL's DoRA, bf16",
    "score_vs_generate_bf16_2": "scoring against generate, 2 tokens, bf16",
    "score_vs_llama_cpp": "scoring against llama.cpp with a grammar",
    "memory_vs_trl_bf16_stored": "peak memory against TRL bf16 without gradient checkpointing",
    "tinyllama_nf4_memory_vs_trl": "TinyLlama's shape in NF4: peak memory against TRL + bitsandbytes",
    "peak_share_kv": "share of the bf16 matrix-product peak, training, k/v",
}
_GROUPS = {
    "training": (
        "Training SmolLM2-135M",
        "LoRA rank 8 on k/v or rank 16 on all linear layers, batches of 16, loss on the answer, AdamW, 3e-4. Time runs "
        "from the start to the end of `trainer.train()`; loading and tokenizing are left out for all. The head gets "
        "the tweet alone; the others get the instruction, too. TRL's own default is gradient checkpointing; "
        "it is also measured without.",
    ),
    "scoring": (
        "Scoring with SmolLM2-135M",
        "whinchat scores with an unmerged adapter on all linear layers in batches of 64; `generate` runs without an "
        "adapter in left-padded batches of 32 sorted by length; the head in batches of 64, without instruction; "
        "llama.cpp one text at a time, its 4-bit weights. Tokenizing is left out for all.",
    ),
    "tinyllama": (
        "TinyLlama's shape",
        "1.1 B random weights of TinyLlama-1.1B-Chat's config, adapter and batch (8 x 4) of the recipe "
        "`tinyllama-qlora`; one optimizer step a round. Peak memory is that of the process from its start.",
    ),
}
_JOBS = {"train": "training", "score": "scoring"}
_AXES = {
    "batch": "batch size",
    "length": "tokens of a text",
    "parameters": "parameters",
    "texts": "number of texts",
}


def page(result: Mapping[str, Any], images: Mapping[str, str] | None = None) -> str:
    """The whole page; ``images`` are links to the figures by name."""
    images = images or {}
    parts = [_head(result), _targets(result)]
    for group, entries in result["contestants"].items():
        title, words = _GROUPS[group]
        parts.append(f"## {title}\n\n{words}\n")
        if group in images:
            parts.append(f"![{title}: examples a second of each contestant]({images[group]})\n")
        parts.append(_contestants(entries))
        parts.append(f"`python -m benchmarks --only {group}`\n")
    if result.get("growth"):
        parts.append(_growth(result["growth"], images.get("growth")))
    return "\n".join(parts)


def _head(result: Mapping[str, Any]) -> str:
    made, machine, settings = result["provenance"], result["machine"], result["settings"]
    versions = ", ".join(f"{name} {found}" for name, found in result["versions"].items() if found)
    work = result["workload"]
    commit = (made["commit"] or "no commit")[:12] + (" with uncommitted changes" if made["uncommitted_changes"] else "")
    return (
        "# Benchmarks\n\n"
        "whinchat and what else one would reach for, in one run on one machine, their rounds in turn. Each figure is "
        "the median of its rounds; ratios are taken round by round.\n\n"
        f"- Machine: {machine['processor']}, {machine['threads']} threads on {machine['cores']} cores, "
        f"{format_bytes(machine['memory_bytes'])}; bf16 units: {', '.join(machine['bf16_units']) or 'none'}\n"
        f"- Load average before the run: {machine['load_before'][0]:.1f}\n"
        f"- Texts: {work['description']}; {settings['texts']} a training round, {settings['scored']} a scoring round "
        f"(slow peers fewer, of the same lengths); {_rounds(result)} rounds\n"
        f"- Prompts: {_fact(result, 'mean_prompt_tokens')} tokens on average, the first "
        f"{_fact(result, 'prefix_tokens')} of them the same in all\n"
        f"- Versions: Python {machine['python']}, {versions}\n"
        f"- Run: `{made['command']}` at {made['date']}, commit {commit}; it took {format_duration(result['seconds'])}\n"
    )


def _rounds(result: Mapping[str, Any]) -> str:
    made = {len(one["rounds"]) for entries in result["contestants"].values() for one in entries.values()} - {0}
    return " to ".join(str(count) for count in sorted({min(made), max(made)})) if made else "no"


def _fact(result: Mapping[str, Any], name: str) -> str:
    entries = result["contestants"].get("training", {})
    found = entries.get("whinchat-lora-kv", {}).get("facts", {}).get(name)
    return NOT_MEASURED if found is None else f"{found:g}"


def _targets(result: Mapping[str, Any]) -> str:
    rows = []
    for key, words in _WHAT.items():
        ratio, extent = result["ratios"].get(key), result["ratio_ranges"].get(key)
        target = result["targets"].get(key)
        if ratio is None and target is None:
            continue
        aim = f"{target['bound']} {target['target']:g}" if target else ""
        reached = {True: "yes", False: "no", None: ""}[target["reached"] if target else None]
        between = f"{extent['min']:.2f} to {extent['max']:.2f}" if extent else ""
        rows.append((words, format_number(ratio, 2), between, aim, reached))
    return "## Ratios\n\n" + _table(("ours over theirs", "median", "rounds", "target", "reached"), rows)


def _contestants(entries: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for one in entries.values():
        rate = one["per_second"]
        if rate is None:
            why = one["unavailable"] or one["error"] or NOT_MEASURED
            rows.append((one["title"], NOT_MEASURED, "", "", _one_line(why)))
            continue
        unit = " GFLOP/s" if one["unit"] == "GFLOP" else ""
        digits = 0 if unit else 2 if rate["median"] < 10 else 1
        texts = "" if unit else f"{one['rounds'][0]['examples']:g}"
        notes = _one_line(one["error"]) if one["error"] else _notes(one["facts"])
        between = f"{rate['min']:.{digits}f} to {rate['max']:.{digits}f}"
        rows.append((one["title"], f"{rate['median']:.{digits}f}{unit} ({between})", texts, _peak(one), notes))
    return _table(("", "examples a second (rounds)", "texts a round", "peak memory", ""), rows)


def _peak(entry: Mapping[str, Any]) -> str:
    return "" if entry["unit"] == "GFLOP" else format_bytes(entry["peak_bytes"])


def _notes(facts: Mapping[str, Any]) -> str:
    """The facts that differ between contestants of one kind."""
    tokens = facts.get("mean_prompt_tokens") or facts.get("mean_tokens")
    notes = [f"{tokens:g} tokens"] if tokens else []
    if facts.get("gradient_checkpointing"):
        notes.append("gradient checkpointing")
    if facts.get("repacked_weights") is False:
        notes.append("without llama.cpp's repacked weights, which crash here")
    return ", ".join(notes)


def _growth(growth: Mapping[str, Any], image: str | None) -> str:
    lines = [
        "## How cost grows\n",
        "whinchat in bf16; every point a process of its own, the fastest of its rounds. Training by batch and length: "
        "LoRA on k/v; by model size: the settings of `tinyllama-qlora`, in bf16. Scoring: an adapter on all linear "
        "layers. Slope: of the straight line on logarithmic axes; 1 means twice the size costs twice as much.\n",
    ]
    if image:
        lines.append(f"![Time and memory against batch size, text length, model size and number of texts]({image})\n")
    rows = [
        (
            f"{_JOBS[job]} by {_AXES[axis]}",
            f"{entry['points'][0]['x']:,.0f} to {entry['points'][-1]['x']:,.0f}",
            _slope(entry["time"]),
            _slope(entry["memory"]),
        )
        for axis, jobs in growth.items()
        for job, entry in jobs.items()
    ]
    lines.append(_table(("", "measured from, to", "slope of time", "slope of peak memory"), rows))
    scored = growth.get("texts", {}).get("score")
    if scored and scored["line"]:
        fitted = scored["line"]
        many = " and ".join(
            f"{scored['hours'][str(texts)]:,.0f} hours for {words}"
            for texts, words in zip(MANY, ("ten million texts", "one billion"), strict=True)
        )
        lines.append(
            f"Scoring takes {fitted['start_up']:.1f} s to start and {1000 * fitted['seconds_a_text']:.1f} ms a text "
            f"(straight line through the measured points): {many} on this machine.\n"
        )
    lines.append("`python -m benchmarks --only growth`\n")
    return "\n".join(lines)


def _slope(fit: Mapping[str, float] | None) -> str:
    return NOT_MEASURED if fit is None else format_number(fit["slope"], 2)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
