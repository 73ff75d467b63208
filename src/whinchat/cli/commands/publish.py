"""Commands that hand a classifier on: exports to other formats, and the Hugging Face hub."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer import Argument, Option

import whinchat
from whinchat.cli.options import ClassifierArg, JsonOption, RunArg, out_option
from whinchat.cli.output import err, print_result, progress_on_stderr
from whinchat.cli.printing.predictions import print_export, print_push
from whinchat.errors import BadResultError
from whinchat.export.export_registry import DEFAULT_TOLERANCE, export_names
from whinchat.export.exported_decision import folder_suffix


def export_command(
    run_folder: ClassifierArg,
    kind: Annotated[str, Option("--to", help=f"Format: {', '.join(export_names())}.", metavar="FORMAT")],
    out_folder: Annotated[
        Path | None,
        out_option(
            "New folder to write to.  [default: RUN/export/FORMAT, with -QUESTION for --question; NAME-FORMAT for a "
            "run on the hub]"
        ),
    ] = None,
    question: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Of a classifier with questions, export this one alone: NAME, or NAME/OPTION of a multi question.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        Option(metavar="TABLE", help="Table of texts to check the export on.  [default: the validation split]"),
    ] = None,
    tolerance: Annotated[
        float, Option(min=0, max=1, help="Share of labels that may differ from the classifier's own.")
    ] = DEFAULT_TOLERANCE,
    as_json: JsonOption = False,
) -> None:
    """Export a classifier to another format, and check that it gives the same answers.

    Examples:

        whinchat export runs/demo --to merged

        whinchat export runs/demo --to classifier --out sentiment

        whinchat export runs/demo --to gguf && cd runs/demo/export/gguf && ollama create demo -f Modelfile

        whinchat export runs/tickets --to onnx --question team

        whinchat export runs/tickets --to merged --question tags/refund

        whinchat export runs/demo --to student

    Formats:

    **merged**: one model without an adapter. Every command that takes a trained classifier also takes this folder.

    **classifier**: for transformers' `pipeline("text-classification", FOLDER)` and any server of such models.

    **onnx**: the classifier as `model.onnx` with its tokenizer, for onnxruntime (`pip install 'whinchat[export]'`).

    **gguf**: for llama.cpp and Ollama, as float16 and Q8_0, with a `Modelfile`. Free generation does not use the
    calibration; `proof.json` counts separately how many labels differ because of that.

    **student**: the student that `whinchat distill` made, without the model, as a graph of a few MB for onnxruntime
    (`pip install 'whinchat[export]'`). `README.md` in the folder has the code that runs it.

    The export labels up to 500 texts, or fewer where it holds several questions. `proof.json` says how many labels and
    how much the probabilities differ from the classifier's own. If more labels differ than --tolerance allows, the
    export fails and leaves no folder.

    Of a classifier with questions, **merged** and **gguf** hold all of them: `prompts.json` says how to ask each
    question, and `proof.json` counts the differences for each. **classifier** and **onnx** hold one decision, which
    --question names. With --question, every format writes an ordinary classifier with labels, except for **student**,
    which always holds all questions.
    """
    from whinchat.cli.early_checks import check_export  # loads the hub's client

    # Not RUN's own name alone: a folder called OWNER/NAME would be taken for the repository from then on.
    name = kind if question is None else f"{kind}-{folder_suffix(question)}"
    default = run_folder / "export" / name if run_folder.is_dir() else Path(f"{run_folder.name}-{name}")
    folder = out_folder or default
    with progress_on_stderr():
        check_export(run_folder, kind, folder, question, data)
        proof = whinchat.export_run(run_folder, kind, folder, question=question, data=data, tolerance=tolerance)
    print_result(as_json, {"out": str(folder), **asdict(proof)}, lambda: print_export(proof, folder))


def push_command(
    run_folder: RunArg,
    repo_id: Annotated[str, Argument(help="Repository on the hub: OWNER/NAME.", metavar="REPO_ID")],
    private: Annotated[bool, Option("--private", help="Create the repository as private.")] = False,
    base: Annotated[
        str | None,
        Option(metavar="OWNER/NAME", help="Base model on the hub, if the run loaded it from a local folder."),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="List the files without contacting the hub.")] = False,
    yes: Annotated[
        bool,
        Option(
            "--yes", "-y", help="Push without asking, even a run with a bad result such as one label for all texts."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Push a finished run to the Hugging Face hub: adapter, model card, figures, report and results.

    Examples:

        whinchat push runs/demo ann/tweet-sentiment --dry-run

        whinchat push runs/demo ann/tweet-sentiment --private

    All files go up in one commit, with the adapter at the root. `whinchat predict ann/tweet-sentiment "a text"`,
    `Classifier.from_pretrained("ann/tweet-sentiment")` and plain PEFT can load it from there.

    The card and the report quote a few texts of the data. The other evaluated texts (predictions.parquet) and the names
    of your folders are not uploaded. A run with a bad result, of which `whinchat run` warns, is pushed only after a
    confirmation. If the hub rejects the card, nothing is pushed. Log in with `hf auth login`, or set HF_TOKEN.
    """
    from whinchat.cli.early_checks import check_push  # loads the hub's client

    def push(accept_bad_result: bool) -> whinchat.PushResult:
        with progress_on_stderr():
            return whinchat.push_run(
                run_folder,
                repo_id,
                private=private or None,
                base_model=base,
                dry_run=dry_run,
                accept_bad_result=accept_bad_result,
            )

    check_push(run_folder, repo_id, dry_run=dry_run)
    try:
        result = push(accept_bad_result=yes)
    except BadResultError as fault:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        err.print(f"[bold red]warning:[/] {escape(str(fault))}", soft_wrap=True)
        typer.confirm(f"Push it to {repo_id}?", abort=True, err=True)
        result = push(accept_bad_result=True)
    print_result(as_json, result.to_dict(), lambda: print_push(result, repo_id))


COMMANDS = {"export": export_command, "push": push_command}
