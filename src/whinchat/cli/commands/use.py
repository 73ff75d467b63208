"""Commands that use what was trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from whinchat.cli.options import ClassifierArg, Engine, JsonOption, RunArg, SetOption
from whinchat.cli.output import emit_json, out, progress_on_stderr
from whinchat.export.export_registry import DEFAULT_TOLERANCE, export_names
from whinchat.recipe.schema import MetricName
from whinchat.storage.json_records import to_json


def evaluate(
    run_folder: ClassifierArg,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SOURCE", help="Measure on every row of this source instead.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a trained run again, on its own split or on other data.

    Examples:

        whinchat evaluate runs/demo

        whinchat evaluate runs/demo --data mine.csv --set data.text_column=body --json
    """
    from whinchat.cli.summary import print_evaluation
    from whinchat.pipelines.evaluate_run import evaluate_run

    with progress_on_stderr():
        found = evaluate_run(run_folder, data, overrides or ())
    if as_json:
        emit_json(found.to_dict())
    else:
        print_evaluation(found)


def calibrate(
    run_folder: RunArg,
    metric: Annotated[MetricName | None, typer.Option(help="What answers shall be best at.")] = None,
    wanted_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help='Answer "unsure" where less is reached; 0 for never.')
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit probabilities and answers of a finished run anew, for another metric or threshold; nothing is trained.

    Examples:

        whinchat calibrate runs/demo --metric macro_recall

        whinchat calibrate runs/demo --wanted-accuracy 0.9

    What is not named stays as it is. Calibration, report and model card are written again; exports are not.
    """
    from whinchat.cli.summary import print_run
    from whinchat.pipelines.calibrate_run import calibrate_run

    with progress_on_stderr():
        record = calibrate_run(run_folder, metric, wanted_accuracy)
    if as_json:
        assert record.reliability is not None
        emit_json(to_json(record.reliability))
    else:
        print_run(record, run_folder)


def predict(  # noqa: PLR0913, PLR0917  # a command's options are its arguments
    run_folder: ClassifierArg,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; or with --out one table or folder; or standard input, one text a line."),
    ] = None,
    goal: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where the labelled table goes, or the folder of them.", metavar="OUTPUT"),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--text-column", help="Column of the texts; that of the recipe by default.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Goes before the names of the added columns.")] = "",
    engine: Annotated[Engine, typer.Option(help="ray: several processes, on one machine or many.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Processes of --engine ray; one a core by default.", min=1)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete what is at OUTPUT and start again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Label texts, or whole tables (CSV, TSV, JSONL, Parquet) of any size.

    Examples:

        whinchat predict runs/demo "what a lovely day" "meh"

        cat tweets.txt | whinchat predict runs/demo --json > labelled.jsonl

        whinchat predict runs/demo tweets.csv --out labelled.csv --text-column body

    With --json each line of the output is one JSON object, in the order of the input.

    With --out the table comes back with the columns label, unsure, one for each label's probability, and error: every
    row in its place, and what is wrong with those that could not be read. What is done is kept: the same command goes
    on where it was stopped. With --engine ray (`pip install 'whinchat[ray]'`) several processes share the work, on this
    machine or on the cluster that RAY_ADDRESS names; the result is the same, byte for byte.
    """
    if goal is not None:
        from whinchat.cli.files import print_labelled, worker
        from whinchat.hub.client import fetch_classifier

        folder = fetch_classifier(run_folder)
        work = worker(folder, engine, workers)
        print_labelled(folder, texts or (), goal, column, prefix, work, overwrite=overwrite, as_json=as_json)
        return
    from whinchat.cli.predict import print_predictions

    print_predictions(run_folder, texts, as_json)


def export(
    run_folder: ClassifierArg,
    kind: Annotated[str, typer.Option("--to", help=f"{', '.join(export_names())}.", metavar="KIND")],
    goal: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The new folder; RUN/export/KIND by default, NAME-KIND for a RUN on the hub."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A table of texts to prove it on; the run's validation split by default.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Share of labels that may flip.")] = DEFAULT_TOLERANCE,
    as_json: JsonOption = False,
) -> None:
    """Write the classifier in another format, and prove that it answers alike.

        Examples:

            whinchat export runs/demo --to merged

            whinchat export runs/demo --to classifier --out sentiment

            whinchat export runs/demo --to gguf && cd runs/demo/export/gguf && ollama create demo -f Modelfile

        **merged** is one model without an adapter; every command that takes a run takes it, too. **classifier** is for
    `pipeline("text-classification", FOLDER)` and every server of such models: raw text in, labels out, no whinchat.
    **onnx** is the same for onnxruntime: tokenizer, `model.onnx`, softmax (`pip install 'whinchat[onnx]'`). **gguf** is
    for llama.cpp and Ollama: float16, Q8_0 and a `Modelfile`; free answers know no calibration, and `proof.json` counts
    them apart.

    What is written is asked for the labels of 500 texts. `proof.json` says how many flip and how far probabilities
        lie apart; where more flip than --tolerance allows, nothing is left.
    """
    from whinchat.export.export_run import export_run

    # A folder called as on the hub would be taken for it from then on.
    out_folder = goal or (run_folder / "export" / kind if run_folder.is_dir() else Path(f"{run_folder.name}-{kind}"))
    with progress_on_stderr():
        proof = export_run(run_folder, kind, out_folder, data=data, tolerance=tolerance)
    if as_json:
        emit_json({"out": str(out_folder), **asdict(proof)})
    else:
        for one in proof.files:
            out.print(
                f"{out_folder / one.file}: {one.flipped} of {proof.texts} labels differ from the classifier's own, "
                f"probabilities by {one.largest_difference:.4f} at most (read with {one.reader})",
                soft_wrap=True,
                markup=False,
            )
            if one.flipped_uncalibrated is not None:
                out.print(
                    f"  as freely generated, without calibration.json: {one.flipped_uncalibrated}", soft_wrap=True
                )
        if proof.not_carried:
            out.print(f"Texts for it must come mended already: {', '.join(proof.not_carried)}", soft_wrap=True)


def serve(
    runs: Annotated[list[str], typer.Argument(help="Run folders, or names on the hub; or NAME=RUN.", metavar="RUN...")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts computed together, at most.")] = 32,
    max_chars: Annotated[int, typer.Option(min=1, help="Characters of a text, at most.")] = 20_000,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts of a request, at most.")] = 512,
    max_waiting: Annotated[int, typer.Option(min=1, help="Texts that may wait, of all requests.")] = 4096,
    as_json: JsonOption = False,
) -> None:
    """Answer over HTTP, and show a page to try it.

    Examples:

        whinchat serve runs/demo

        whinchat serve tweets=runs/demo feelings=runs/five-labels --port 8080

        curl -s localhost:8000/v1/classify --json '{"texts": ["what a lovely day", "meh"]}'

    Several runs share one backbone; the first is the default, `"model": "feelings"` asks another. Texts that come at
    the same time are computed together. `/openapi.json` describes it all, `/metrics` is for Prometheus, `/health` and
    `/ready` are for whoever watches over it. Without --host only this machine can reach it; there is no sign-in.
    """
    from whinchat.server.api_schema import Limits
    from whinchat.server.serve import parse_run_names, run_server

    limits = Limits(max_chars=max_chars, max_texts=max_texts, max_waiting=max(max_waiting, max_texts))

    def show_address(address: str) -> None:
        if as_json:
            emit_json({"address": address})
        else:
            out.print(f"{address}  (Ctrl-C ends it)", soft_wrap=True, markup=False)

    run_server(parse_run_names(runs), host, port, limits, batch_size, show_address)


COMMANDS = (evaluate, calibrate, predict, export, serve)
