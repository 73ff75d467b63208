"""Print a training example, the runs in a folder, or what this machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

import whinchat
from whinchat.cli.output import err, out, print_facts, print_line, print_table
from whinchat.report.run_list import runs_table
from whinchat.report.text_table import TextTable


def print_example(example: whinchat.InspectedExample) -> None:
    """Print a training example with its token borders; the supervised tokens are green."""
    shown = Text()
    for position, (token, supervised) in enumerate(zip(example.tokens, example.supervised, strict=True)):
        # Alternating shades make the borders of tokens visible. A line end is drawn, and then breaks the line.
        shades = ("white on grey23", "white on grey35")
        style = "bold black on green" if supervised else shades[position % 2]
        shown.append(token.replace("\n", "⏎"), style=style)
        if token.endswith("\n"):
            shown.append("\n")
    out.print(shown, soft_wrap=True)
    supervised_tokens = sum(example.supervised)
    print_line(
        f"\nlabel {example.label}; {len(example.tokens) - supervised_tokens} tokens read, "
        f"{supervised_tokens} supervised (green)"
    )
    if example.truncated_tokens:
        print_line(f"{example.truncated_tokens} tokens of the text were cut to fit backbone.max_prompt_tokens")
    if example.escaped_control_tokens:
        print_line(f"{example.escaped_control_tokens} control tokens in the text were broken up")


def print_questions(inspected: whinchat.InspectedQuestions) -> None:
    """Print how many rows of each split answer what, and the prompts of one training text."""
    for split, counts in inspected.answers.items():
        rows = [
            (title, ", ".join(f"{label} {number:,}" for label, number in of_labels.items() if number))
            for title, of_labels in counts.items()
        ]
        print_facts(rows, f"{split}: {inspected.splits[split]:,} rows")
    for warning in inspected.warnings:
        print_line(f"warning: {warning}")
    for decision in inspected.decisions:
        answer = decision.answer or "missing in the data"
        if decision.shares:
            answer = ", ".join(f"{label} {share:.0%}" for label, share in decision.shares.items())
        print_line(f"\n{decision.title}, row {inspected.row}, answer {answer}; {decision.prompt_tokens} tokens read:")
        print_line(decision.prompt)
        if decision.truncated_tokens:
            print_line(f"{decision.truncated_tokens} tokens of the text were cut to fit backbone.max_prompt_tokens")
        if decision.escaped_control_tokens:
            print_line(f"{decision.escaped_control_tokens} control tokens in the text were broken up")
    if len(inspected.decisions) > 1:
        print_line(f"\n{inspected.shared_tokens} tokens at the beginning are in all prompts, and are computed once")


def print_runs(runs: Sequence[whinchat.RunSummary], folder: Path) -> None:
    """Print the runs in ``folder``, and why a run cannot be read."""
    print_table(runs_table(list(runs)))
    for run in runs:
        if run.problem is not None:
            print_line(run.problem)
    if not runs:
        print_line(f"{folder}: no runs; make one with `whinchat run demo`")


def print_check(check: whinchat.RecipeCheck, name: str) -> None:
    """Print what the check of the recipe called ``name`` found, errors aside; before errors, on standard error."""
    lines = [check.summary] if check.summary else []
    if check.recipe is not None and not check.errors:
        method, model = check.recipe.adapter.method, check.recipe.backbone.model
        lines.insert(0, f"{name}: good; {method} on {model}, data from {check.recipe.data.source}")
    lines += [f"warning: {warning}" for warning in check.warnings]
    lines += [f"not checked: {note}" for note in check.not_checked]
    console = err if check.errors else out
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


_WAYS = {
    "packed": "packed pass (fast)",
    "cached prefix": "the model's own pass, with the shared beginning of the prompts computed once",
    "whole sequences": "the model's own pass over each whole text",
}


def print_model(report: whinchat.ModelReport) -> None:
    """Print how whinchat works with a model, and why it refuses the model where it does."""
    share = "unknown" if report.adapted_share is None else f"{report.adapted_share:.1%} of the weights"
    facts = (
        ("architecture", report.architecture),
        ("parameters", f"{report.parameters:,}"),
        ("first layers alone", "yes (backbone.layers)" if report.shallow else "no: never tested"),
        ("weights as", report.held_as),
        ("computed by", _WAYS[report.way]),
        ("layers with an adapter", share),
        ("memory for training", f"about {report.needed_bytes / 1e9:.1f} GB (LoRA, batches of 16 short texts)"),
        *((f"export {name}", answer) for name, answer in report.exports.items()),
    )
    print_facts(facts, report.model)
    for note in report.notes:
        print_line(note)
    for reason in report.refused:
        print_line(f"refused: {reason}")


def print_machine(report: whinchat.MachineReport) -> None:
    """Print what this machine can do, and which recipes fit."""
    facts = (
        ("processor", f"{report.processor}, {report.cores} cores"),
        ("memory", f"{report.memory_bytes / 1e9:.1f} GB, {report.memory_free_bytes / 1e9:.1f} GB free"),
        ("disk free", f"{report.disk_free_bytes / 1e9:.0f} GB"),
        ("accelerator", report.accelerator or "none: models run on the CPU"),
        ("bfloat16", "fast" if report.fast_bfloat16 else "slow here: float32 is used instead"),
        ("float16", "fast" if report.fast_float16 else "slow here: bfloat16 or float32 is used instead"),
        ("4-bit (NF4)", "works" if report.four_bit else "does not work: no bitsandbytes for this machine is installed"),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    )
    print_facts(facts, "This machine")
    recipes = [("recipe", "weights as", "tokens", "needs about", "fits", "hub")]
    for fit in report.recipes:
        needed = "unknown" if fit.needed_bytes is None else f"{fit.needed_bytes / 1e9:.1f} GB"
        fits = "unknown" if fit.fits is None else "yes" if fit.fits else "no"
        hub = "yes" if fit.needs_hub else "no"
        recipes.append((fit.recipe, fit.held_as, str(fit.text_tokens), needed, fits, hub))
    print_table(TextTable("", recipes[0], tuple(recipes[1:])), title="Recipes")
    print_line("tokens: the length of the longest texts that the estimate is for; a run measures its own texts.")
    if any(fit.parameters is None for fit in report.recipes):
        print_line("unknown: the model's configuration is not on this machine yet.")
    for fit in report.recipes:
        if fit.note:
            print_line(f"{fit.recipe}: {fit.note}")


def print_probe(probe: whinchat.LayerProbe, recipe: str) -> None:
    """Print the macro-F1 that a linear classifier reaches at each depth, and the depth to begin with."""
    depths = enumerate(zip(probe.macro_f1, probe.standard_error, strict=True), 1)
    rows = tuple(
        (f"{layers}{' *' if layers == probe.layers else ''}", f"{score:.3f}", f"{error:.3f}")
        for layers, (score, error) in depths
    )
    title = f"{probe.model}: linear classifiers on what {probe.rows} texts become, cross-validated"
    print_table(TextTable(title, ("layers", "macro-F1", "standard error"), rows), title)
    every = len(probe.macro_f1)
    if probe.layers is None:
        print_line(
            f"No depth is recommended: none exceeds {probe.chance:.3f}, which chance alone reaches in one of 20 cases. "
            "The classifiers found nothing in these texts that tells the labels apart: read more of them (--rows), "
            "check the labels (whinchat inspect), or train all layers."
        )
        return
    if probe.layers == every:
        print_line(f"No smaller number of layers is within one standard error of the best, so keep all {every}.")
        return
    print_line(f"{probe.layers} of {every} layers are the fewest within one standard error of the best.")
    if not probe.can_be_cut:
        print_line("backbone.layers does not take this kind of model: it was never tested without its upper layers.")
        return
    print_line(
        f"Training changes the layers, so compare runs: whinchat run {recipe} --set backbone.layers={probe.layers}"
    )
