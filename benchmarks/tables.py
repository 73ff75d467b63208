"""The results as Markdown, and all files of a result: JSON, tables and figures, and the page in docs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cost import answers_cost, time_to_quality
from benchmarks.figures import write_figures
from benchmarks.growth import AXES, JOBS, MANY
from benchmarks.machine import ROOT
from benchmarks.markdown import format_spread, markdown_table
from benchmarks.ratios import RATIOS
from benchmarks.rivals.contestants import INSTALL
from whinchat.report.formatting import NOT_MEASURED, format_bytes, format_duration, format_number

Result = Mapping[str, Any]

FAMILIES = ROOT / "benchmarks" / "results" / "families.json"
RIVALS = FAMILIES.with_name("rivals.json")

_GROUPS = {
    "training": (
        "Training SmolLM2-135M",
        "LoRA has rank 8 on k and v, or rank 16 on all linear layers. Batches have 16 texts, the loss covers the "
        "answer, and AdamW has a learning rate of 3e-4. Rows with batches of 64 have the settings of "
        "`smollm2-best-tweeteval`. Time is measured from the start to the end of "
        "`trainer.train()`, without loading and tokenizing. The classification head gets the tweet alone; all other "
        "methods also get the instruction. TRL is measured with gradient checkpointing, its default, and without.",
    ),
    "scoring": (
        "Scoring with SmolLM2-135M",
        "whinchat scores with an unmerged adapter on all linear layers, in batches of 64. `generate` runs without an "
        "adapter, in left-padded batches of 32 sorted by length. The classification head runs without the "
        "instruction, in batches of 64. llama.cpp runs with its 4-bit weights, one text at a time. The time does not "
        "include tokenizing.",
    ),
    "tinyllama": (
        "TinyLlama's shape",
        "The model has the configuration of TinyLlama-1.1B-Chat with 1.1 B random weights; adapter and batch (8 x 4) "
        "are those of the recipe `tinyllama-qlora-as-published`. A round is one optimizer step. Peak memory is that of "
        "the whole process.",
    ),
}


def save(result: Result, path: Path) -> Path:
    """Write the JSON; a number that JSON cannot hold is an error, not a null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def write(result: Result, path: Path) -> list[Path]:
    """Write the JSON to ``path``, and tables and figures beside it under its name."""
    table = path.with_suffix(".md")
    written = [save(result, path), table]
    table.write_text(page(result), encoding="utf-8")
    return [*written, *write_figures(result, path.parent, f"{path.stem}-").values()]


def publish(result: Result, docs: Path = ROOT / "docs", families: Path = FAMILIES, rivals: Path = RIVALS) -> list[Path]:
    """Write ``benchmarks.md`` and its images to ``docs``, with the stored results of the families and of the rivals."""
    images = write_figures(result, docs / "images", "benchmarks-")
    links = {name: f"images/{path.name}" for name, path in images.items()}
    stored = (json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None for path in (families, rivals))
    target = docs / "benchmarks.md"
    target.write_text(page(result, links, *stored), encoding="utf-8")
    return [target, *images.values()]


def page(
    result: Result,
    images: Mapping[str, str] | None = None,
    families: Result | None = None,
    rivals: Result | None = None,
) -> str:
    """Return the whole page.

    Args:
        result: of ``python -m benchmarks``.
        images: links to the figures, by name.
        families: result of ``python -m benchmarks.families``.
        rivals: result of ``python -m benchmarks.rivals``.
    """
    images = images or {}
    measured = result["contestants"]
    parts = [_head(result)]
    if "training" in measured:
        parts.append(time_to_quality(measured["training"]))
    if "scoring" in measured:
        parts.append(answers_cost(measured["scoring"], result.get("answer_cost")))
    parts.append(_ratios(result))
    for group, entries in measured.items():
        title, words = _GROUPS[group]
        parts.append(f"## {title}\n\n{words}\n")
        if group in images:
            parts.append(f"![{title}: examples a second of each contestant]({images[group]})\n")
        parts += [_contestants(entries), f"`python -m benchmarks --only {group}`\n"]
    if rivals:
        parts.append(rivals_section(rivals))
    if families:
        parts.append(families_section(families))
    if result.get("growth"):
        parts.append(_growth(result["growth"], images.get("growth")))
    return "\n".join(parts)


def _head(result: Result) -> str:
    run, machine, settings = result["provenance"], result["machine"], result["settings"]
    versions = ", ".join(f"{name} {release}" for name, release in result["versions"].items() if release)
    commit = (run["commit"] or "no commit")[:12] + (" with uncommitted changes" if run["uncommitted_changes"] else "")
    counts = {len(entry["rounds"]) for entries in result["contestants"].values() for entry in entries.values()} - {0}
    rounds = " to ".join(map(str, sorted({min(counts), max(counts)}))) if counts else "no"
    facts = result["contestants"].get("training", {}).get("whinchat-lora-kv", {}).get("facts", {})
    tokens, shared = (
        f"{facts[name]:g}" if name in facts else NOT_MEASURED for name in ("mean_prompt_tokens", "prefix_tokens")
    )
    return (
        "# Speed and memory\n\n"
        "This page compares whinchat with its alternatives, measured in one run on one machine with interleaved "
        "rounds. Each figure is the median of its rounds.\n\n"
        f"- Machine: {machine['processor']}, {machine['threads']} threads on {machine['cores']} cores, "
        f"{format_bytes(machine['memory_bytes'])}; bf16 units: {', '.join(machine['bf16_units']) or 'none'}\n"
        f"- Load average before the run: {machine['load_before'][0]:.1f}\n"
        f"- Texts: {result['workload']['description']}; {settings['texts']} a training round, {settings['scored']} a "
        f"scoring round (slow methods get fewer texts of the same lengths); {rounds} rounds\n"
        f"- Prompts: {tokens} tokens on average; the first {shared} tokens are the same in all prompts\n"
        f"- Versions: Python {machine['python']}, {versions}\n"
        f"- Run: `{run['command']}` at {run['date']}, commit {commit}; it took {format_duration(result['seconds'])}\n"
    )


def _ratios(result: Result) -> str:
    rows = []
    for key, ratio in RATIOS.items():
        if ratio.group in result["contestants"]:
            extent = result["ratio_ranges"].get(key)
            extremes = f"{extent['min']:.2f} to {extent['max']:.2f}" if extent else ""
            rows.append((ratio.title, format_number(result["ratios"].get(key), 2), extremes))
    words = (
        "A speed ratio is whinchat's rate divided by that of the alternative in the same round, so above 1 whinchat is "
        "faster. A memory ratio is whinchat's peak divided by that of the alternative.\n\n"
    )
    columns = ("whinchat divided by the alternative", "median", "rounds")
    return "## Ratios\n\n" + words + markdown_table(columns, rows)


def _contestants(entries: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for entry in entries.values():
        if (rate := entry["per_second"]) is None:
            reason = entry["unavailable"] or entry["error"] or NOT_MEASURED
            rows.append((entry["title"], NOT_MEASURED, "", "", _one_line(reason)))
            continue
        speed, texts, peak = format_spread(rate, 0, " GFLOP/s"), "", ""
        if entry["unit"] == "examples":
            speed = format_spread(rate, 2 if rate["median"] < 10 else 1)
            texts, peak = f"{entry['rounds'][0]['examples']:g}", format_bytes(entry["peak_bytes"])
        rows.append((entry["title"], speed, texts, peak, _one_line(entry["error"] or _notes(entry["facts"]))))
    return markdown_table(("", "examples a second (rounds)", "texts a round", "peak memory", ""), rows)


def _notes(facts: Mapping[str, Any]) -> str:
    """Return the facts that differ between contestants of a group."""
    tokens = facts.get("mean_prompt_tokens") or facts.get("mean_tokens")
    notes = [f"{tokens:g} tokens"] if tokens else []
    if facts.get("gradient_checkpointing"):
        notes.append("gradient checkpointing")
    if facts.get("repacked_weights") is False:
        notes.append("without llama.cpp's repacked weights, which crash here")
    return ", ".join(notes)


def _growth(growth: Mapping[str, Any], image: str | None) -> str:
    parts = [
        "## How cost grows\n",
        "whinchat runs in bf16, and every point is the fastest round of a process of its own. Training by batch size "
        "and by length uses LoRA on k and v; training by model size uses the settings of "
        "`tinyllama-qlora-as-published` in bf16. Scoring uses an adapter on all linear layers. The slope is that of "
        "the fitted line on logarithmic axes; a slope of 1 means that twice the size costs twice as much.\n",
    ]
    if image:
        parts.append(f"![Time and memory against batch size, text length, model size and number of texts]({image})\n")
    rows = []
    for axis, jobs in growth.items():
        for job, entry in jobs.items():
            extent = f"{entry['points'][0]['x']:,.0f} to {entry['points'][-1]['x']:,.0f}"
            slopes = (format_number((entry[cost] or {}).get("slope"), 2) for cost in ("time", "memory"))
            rows.append((f"{JOBS[job]} by {AXES[axis]}", extent, *slopes))
    parts.append(markdown_table(("", "measured from, to", "slope of time", "slope of peak memory"), rows))
    scored = growth.get("texts", {}).get("score", {})
    if fit := scored.get("line"):
        hours = " and ".join(f"{scored['hours'][str(texts)]:,.0f} hours for {words}" for texts, words in MANY.items())
        parts.append(
            f"Scoring takes {fit['start_up']:.1f} s to start and {1000 * fit['seconds_a_text']:.1f} ms a text "
            f"(straight line through the measured points): {hours} on this machine.\n"
        )
    return "\n".join([*parts, "`python -m benchmarks --only growth`\n"])


def families_section(result: Result) -> str:
    """Return the section on families of models, from the result of ``python -m benchmarks.families``."""
    run, machine, settings = result["provenance"], result["machine"], result["settings"]
    rows = []
    for name, entry in result["families"].items():
        cells = (
            format_spread(entry[job][clock], 2) for job in ("train", "score") for clock in ("wall_ratio", "cpu_ratio")
        )
        rows.append((name, *cells, "packed" if entry["facts"]["packed"] else "plain"))
    columns = ("family", "training", "by processor time", "scoring", "by processor time", "pass")
    commit = (run["commit"] or "no commit")[:12]
    words = (
        "Each model has the size of SmolLM2-135M (30 layers, 576 wide, 9 heads, 3 key heads, 1536 in the feed-forward "
        "block, vocabulary 49152), random weights, and LoRA with rank 16 on all linear layers. A ratio is the speed of "
        "the family divided by the speed of Llama in the round beside it, so below 1 the family is slower. By "
        "processor time, the ratio leaves out the time in which other programs ran.\n\n"
        f"- Median, least and greatest of {settings['rounds']} rounds with {settings['texts']} texts in training and "
        f"{settings['scored']} in scoring\n"
        f"- Machine: {machine['processor']}, {machine['threads']} threads; load average before the run: "
        f"{machine['load_before'][0]:.1f}\n"
        f"- Run: `{run['command']}` at {run['date']}, commit {commit}; it took {format_duration(result['seconds'])}\n"
    )
    table = markdown_table(columns, rows)
    return f"## Families of models against Llama\n\n{words}\n{table}\n`python -m benchmarks.families`\n"


def rivals_section(result: Result) -> str:
    """Return the section on sysone and decisionformer, from the result of ``python -m benchmarks.rivals``."""
    run, system, settings, rows = result["provenance"], result["machine"], result["settings"], []
    for entry in result["contestants"].values():
        if reason := entry["unavailable"] or entry["error"]:
            rows.append([entry["title"], f"not measured: {_one_line(reason)}", *[""] * 7])
            continue
        rows.append([
            entry["title"],
            format_number(entry["train_examples_per_second"], 2),
            format_duration(entry["fit_seconds"]),
            format_bytes(entry["peak_bytes"]),
            format_number(entry["macro_f1"]),
            format_number(entry["ece"]),
            format_number(entry["answers_per_second"], 1),
            f"{entry['mean_prompt_tokens']:g}",
            "; ".join([
                entry["settings"]["learning_rate"],
                entry["settings"]["dtype"],
                *(["gradient checkpointing"] if entry["settings"].get("checkpointing") else []),
            ]),
        ])  # fmt: skip
    columns = (
        "", "training examples a second", "fit", "peak memory", "macro-F1", "ECE", "answers a second",
        "tokens a prompt", "settings",
    )  # fmt: skip
    packages = {**result["versions"]}
    for entry in result["contestants"].values():
        packages |= {key: value for key, value in entry["settings"].items() if key in ("sysone", "decisionformer")}
    chosen = "each package's own" if settings["learning_rate"] is None else f"{settings['learning_rate']:g} for all"
    words = (
        f"Each package trains {settings['model'].removeprefix('package:')} to answer one choice question about tweets, "
        f"with LoRA of rank {settings['rank']} and alpha {settings['alpha']} on all linear layers, in batches of "
        f"{settings['batch']}, on {settings['train']} rows (epochs: {settings['epochs']}). It calibrates on "
        f"{settings['held_out']} rows and answers {settings['evaluated']}; the rows are the same for all. Learning "
        f"rate: {chosen}. Prompt, loss, head, schedule and data type are each package's own. Training examples a "
        "second count the optimizer steps alone; fit is the time from loading the model to calibrated answers. Peak "
        "memory is that of the whole process. ECE is that of the top label in 15 equal bins, after calibration.\n\n"
        f"- Machine: {system['processor']}, {system['threads']} threads on {system['cores']} cores; load average "
        f"before the run: {system['load_before'][0]:.1f}\n"
        f"- Texts: {result['workload']['description']}\n"
        f"- Versions: {', '.join(f'{name} {one}' for name, one in packages.items() if one)}\n"
        f"- Run: `{run['command']}` at {run['date']}, commit {(run['commit'] or 'no commit')[:12]}; it took "
        f"{format_duration(result['seconds'])}\n"
    )
    table = markdown_table(columns, rows)
    command = f"`{INSTALL}`, then `python -m benchmarks.rivals --rivals FOLDER`"
    return f"## Beside sysone and decisionformer\n\n{words}\n{table}\n{command}\n"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
