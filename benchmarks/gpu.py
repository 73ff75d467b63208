"""Training and scoring on a GPU: whinchat, TRL and a classification head on the demo's model, in one run.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --device cpu --quick

About 15 minutes on a T4. Rounds of all contestants alternate, and the medians count. The last lines are Markdown tables
to paste, which is also written to ``benchmarks/results/gpu.md``, beside the JSON with every round.
"""

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, provenance, versions
from benchmarks.markdown import markdown_table
from benchmarks.measure import Contest, measure, rate
from benchmarks.plan import ALL, DORA, TRAIN, contest, read_workload
from benchmarks.tables import save
from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.models.accelerator import accelerator_facts
from whinchat.models.device import detect_machine, plan_device
from whinchat.recipe.model_config import BackboneConfig
from whinchat.report.formatting import NOT_MEASURED, format_bytes

OUT = Path("benchmarks/results/gpu.json")
LIMIT_SECONDS = 360.0
SHOWN_VERSIONS = ("whinchat", "torch", "transformers", "peft", "trl", "bitsandbytes")

say = partial(print, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code, which is 1 where a contestant failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "mps", "cpu"))
    parser.add_argument("--quick", action="store_true", help="two rounds of few texts, to see that everything runs")
    parser.add_argument("--rounds", type=int, help="rounds of each contestant (7; 2 with --quick)")
    parser.add_argument("--model", help="a local folder or hub model in place of the demo's")
    parser.add_argument("--data", help="a TweetEval sentiment folder; else $WHINCHAT_TWEETEVAL, ../shared, VADER")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON file to write; the table goes beside it")
    options = parser.parse_args(arguments)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        dtype = fast_dtype(options.device)
    except ModelError as fault:
        say(f"error: {fault}")
        return 1
    texts, scored = (8, 8) if options.quick else (512, 2048)
    split, workload = read_workload(max(texts, scored), options.data)
    groups = {
        "training": training(split.head(texts), options.device, dtype, options.model),
        "scoring": scoring(split.head(scored), options.device, dtype, options.model),
    }
    rounds = options.rounds or (2 if options.quick else 7)
    result: dict[str, Any] = {
        "provenance": provenance("python -m benchmarks.gpu"),
        "machine": machine() | gpu(options.device) | {"dtype": dtype},
        "versions": versions(),
        "workload": workload | {"texts": texts, "scored": scored, "quick": options.quick},
        "groups": {},
    }
    for group, contests in groups.items():
        entries = measure(group, contests, rounds, options.out.parent / "gpu-logs", say, LIMIT_SECONDS)
        result["groups"][group] = {name: entry.to_dict() for name, entry in entries.items()}
        save(result, options.out)
    table = page(result)
    options.out.with_suffix(".md").write_text(table, encoding="utf-8")
    say(f"\n{table}")
    failed = [entry for group in result["groups"].values() for entry in group.values() if entry["error"]]
    return 1 if failed else 0


def fast_dtype(device: str) -> str:
    """Return the data type that whinchat chooses on ``device``.

    Raises:
        ModelError: this machine has no such device.
    """
    return plan_device(BackboneConfig(model="any", device=device), detect_machine(device)).compute_dtype


def gpu(device: str) -> dict[str, Any]:
    """Return the name and the memory of the GPU; nothing for a CPU."""
    found = accelerator_facts(device)
    return {} if found is None else {"gpu": found.name, "gpu_memory_bytes": found.memory_bytes}


def training(split: Split, device: str, dtype: str, model: str | None = None) -> list[Contest]:
    """Return the contestants that train: whinchat with LoRA, DoRA and NF4, TRL with two settings, and a head."""
    amp = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype)

    def train(name: str, kind: str, title: str, *overrides: str, **options: Any) -> Contest:
        chosen = [*TRAIN, *ALL, *_shared(device, model), *overrides]
        return contest(name, kind, title, split, overrides=chosen, device=device, **options)

    # bf16 is on in TRL by default, which a GPU without bfloat16 refuses.
    sft = {"bf16": amp == "bf16", "fp16": amp == "fp16"}
    # The head is trained itself, and float16 gradients cannot be scaled, so its weights are held in float32 there.
    weights = "bfloat16" if dtype == "bfloat16" else "float32"
    contests = [
        train("whinchat-lora", "whinchat-train", "whinchat, LoRA", f"backbone.load_in={dtype}"),
        train("trl", "trl-train", "TRL, LoRA", sft=sft),
        train("trl-stored", "trl-train", "TRL, LoRA, no checkpointing", sft={**sft, "gradient_checkpointing": False}),
        train("head", "seqcls-train", "Classification head, LoRA", dtype=weights, amp=amp),
        train("whinchat-dora", "whinchat-train", "whinchat, DoRA", f"backbone.load_in={dtype}", *DORA),
    ]
    if device != "mps":
        contests.append(train("whinchat-nf4", "whinchat-train", "whinchat, QLoRA (NF4)", "backbone.load_in=nf4"))
    return contests


def scoring(split: Split, device: str, dtype: str, model: str | None = None) -> list[Contest]:
    """Return the contestants that score: whinchat in both data types, and a classification head without adapter."""

    def score(name: str, kind: str, title: str, *overrides: str, **options: Any) -> Contest:
        chosen = [*ALL, "evaluate.per_device_eval_batch_size=64", *_shared(device, model), *overrides]
        return contest(name, kind, title, split, overrides=chosen, device=device, **options)

    contests = [
        score("whinchat", "whinchat-score", f"whinchat, {dtype}", f"backbone.load_in={dtype}"),
        score("head", "seqcls-score", f"Classification head, {dtype}", dtype=dtype),
    ]
    if dtype != "float32":
        contests.append(score("whinchat-fp32", "whinchat-score", "whinchat, float32", "backbone.load_in=float32"))
    return contests


def _shared(device: str, model: str | None) -> list[str]:
    return [f"backbone.device={device}", *([f"backbone.model={model}"] if model else [])]


def page(result: Mapping[str, Any]) -> str:
    """Return what was measured on what, and a table of each group, as Markdown."""
    facts, load = result["machine"], result["workload"]
    found = facts.get("gpu") and f"{facts['gpu']} ({format_bytes(facts['gpu_memory_bytes'])})"
    names = ", ".join(f"{name} {result['versions'][name]}" for name in SHOWN_VERSIONS if result["versions"].get(name))
    parts = [
        f"**{found or facts['processor']}**, {facts['dtype']}; {facts['cores']} CPU cores. {names}. "
        f"Commit {result['provenance']['commit']}, {result['provenance']['date']}. {load['texts']} texts in a round of "
        f"training, {load['scored']} in one of scoring ({load['description']}). TRL is measured with gradient "
        "checkpointing, its default, and without. The classification head gets the text without the instruction.\n"
    ]
    if load["quick"]:
        parts.append("A quick run: it shows that everything runs, and its speeds mean nothing.\n")
    for group, entries in result["groups"].items():
        ours = next(iter(entries.values()))
        rows = [row(entry, ours) for entry in entries.values()]
        columns = (group, "texts a second", "the first row is faster by a factor of", "peak GPU memory")
        parts.append(markdown_table(columns, rows))
    return "\n".join(parts)


def row(entry: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Return one line of a table; ``ours`` is the contestant that the others are compared with.

    The ratio is the median of the ratios of rounds that follow each other.
    """
    speed = entry["per_second"]
    if speed is None:
        return [entry["title"], entry["unavailable"] or f"failed: {entry['error']}", NOT_MEASURED, NOT_MEASURED]
    rates = f"{speed['median']:.1f} ({speed['min']:.1f} to {speed['max']:.1f})"
    peak = max((one["facts"].get("peak_gpu_bytes") or 0 for one in entry["rounds"]), default=0)
    pairs = list(zip(ours["rounds"], entry["rounds"], strict=False))
    ratio = f"{statistics.median(rate(one) / rate(other) for one, other in pairs):.2f}" if pairs else NOT_MEASURED
    return [entry["title"], rates, ratio, format_bytes(peak) if peak else NOT_MEASURED]


if __name__ == "__main__":
    raise SystemExit(main())
