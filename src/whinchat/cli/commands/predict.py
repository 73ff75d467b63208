"""Commands that use a trained classifier."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from rich.text import Text
from typer import Argument, Option

import whinchat
from whinchat.cli.options import ClassifierArg, JsonOption, out_option, parse_run_names
from whinchat.cli.output import err, print_line, print_result, progress_on_stderr
from whinchat.cli.printing.predictions import print_labelled_files, print_predictions
from whinchat.data.formats.table_registry import find_table_format
from whinchat.errors import DataError
from whinchat.fast_start import no_garbage_collection, skip_compiler, wait_without_spinning
from whinchat.server.api_key import read_api_key


def predict_command(  # noqa: PLR0913, PLR0917  # a command's options are its arguments
    run_folder: ClassifierArg,
    texts: Annotated[
        list[str] | None,
        Argument(
            help="Texts to label; by default, or for -, each line of standard input. With --out, a table or a folder.",
            metavar="[TEXTS...]",
        ),
    ] = None,
    output: Annotated[
        Path | None, out_option("Label a table, or each table in a folder, into this path.", "OUTPUT")
    ] = None,
    text_column: Annotated[
        str | None, Option(metavar="NAME", help="Column with the texts.  [default: as in the recipe]")
    ] = None,
    prefix: Annotated[str, Option(help="Prefix for the names of the added columns.")] = "",
    engine: Annotated[Literal["local", "ray"], Option(help="Label in this process, or with Ray in several.")] = "local",
    workers: Annotated[
        int | None, Option(help="Processes for --engine ray.  [default: one for each core or GPU]", min=1)
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Delete OUTPUT first, and label all rows again.")] = False,
    safe_csv: Annotated[
        bool, Option("--safe-csv", help="Put an apostrophe before CSV cells that spreadsheets run as formulas.")
    ] = False,
    no_student: Annotated[
        bool, Option("--no-student", help="Ask the model alone, where `whinchat distill` made a student.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Label texts, or tables of any size (CSV, TSV, JSONL, Parquet).

    Examples:

        whinchat predict runs/demo "what a lovely day" "meh"

        cat tweets.txt | whinchat predict runs/demo --json > labelled.jsonl

        whinchat predict runs/demo tweets.csv --out labelled.csv --text-column body

    With --json, texts give one JSON object a line, in the order of the texts. An empty text, and a text that the
    model's chat template refuses, have an error in place of a label. A text that is the name of an existing
    table is refused: to label the rows of the table, add --out.

    With --out, the labelled table has the rows of the input in their order, and additional columns: label, unsure, the
    probability of each label, and error, which says why a row could not be read. Finished parts are kept: the same
    command continues where it was stopped. With `--engine ray` (`pip install 'whinchat[ray]'`) several processes share
    the work, on this machine or on the cluster that RAY_ADDRESS names; the output is the same, byte for byte.
    """
    from whinchat.cli.early_checks import check_classifier  # loads the hub's client

    saved = check_classifier(run_folder, student=not no_student)
    if output is None:
        if texts and texts != ["-"]:
            _check_for_files(texts)
        else:
            texts = _read_lines()
        if not texts:
            raise DataError("predict: no texts; give them as arguments, or one a line on standard input")
        if not any(map(str.strip, texts)):
            raise DataError(f"predict: {_EMPTY}; its label would mean nothing")
        if len(texts) <= _FEW_TEXTS:
            wait_without_spinning()
        if saved.recipe.backbone.load_in != "nf4":
            skip_compiler()
        with no_garbage_collection():
            predictor = whinchat.load_predictor(run_folder, student=not no_student)
        faults = [predictor.fault(text) if text.strip() else _EMPTY for text in texts]
        if all(faults):
            raise DataError(f"predict: {faults[0]}")
        predictions = predictor.predict([text for text, fault in zip(texts, faults, strict=True) if not fault])
        print_predictions(texts, faults, predictions, as_json)
        return
    if texts is None or len(texts) != 1:
        count = len(texts or ())
        raise DataError(f"--out: takes one table or folder to label, not {count}; leave --out away to label texts")
    started = time.perf_counter()
    with progress_on_stderr():
        counts = whinchat.predict_file(
            run_folder,
            texts[0],
            output,
            text_column=text_column,
            prefix=prefix,
            engine=engine,
            workers=workers,
            overwrite=overwrite,
            safe_csv=safe_csv,
            student=not no_student,
        )
    print_labelled_files(counts, f"{prefix}error", time.perf_counter() - started, as_json)


def serve_command(  # noqa: PLR0913, PLR0917  # a command's options are its arguments
    runs: Annotated[
        list[str],
        Argument(
            help="Run folders, adapter folders, or OWNER/NAME on the Hugging Face hub. NAME=RUN sets the name "
            "that requests use.",
            metavar="RUN...",
        ),
    ],
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 for every network interface.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on; 0 for any free port.")] = 8000,
    allowed_host: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="A further name of the server in requests, such as that of a proxy; * for any. Repeatable.",
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        Option(
            metavar="ORIGIN",
            help="A site whose pages may send requests from a browser (CORS), such as https://app.example.com. "
            "Repeatable.",
        ),
    ] = None,
    api_key_env: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Environment variable with the key that every request must have; without the option, "
            "WHINCHAT_API_KEY if it is set.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, Option(metavar="FILE", help="File with the key, such as a secret of a container.")
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None,
        Option(help="Log each request to standard error: method, path, status, time and number of texts."),
    ] = None,
    batch_size: Annotated[
        int,
        Option(
            min=1,
            help="Maximum number of texts in a batch; with 1, a text gets exactly the same probabilities at any load.",
        ),
    ] = 32,
    max_chars: Annotated[int, Option(min=1, help="Maximum number of characters in a text.")] = 20_000,
    max_texts: Annotated[int, Option(min=1, help="Maximum number of texts in a request.")] = 512,
    max_waiting: Annotated[int, Option(min=2, help="Maximum number of texts in the queue.")] = 4096,
    max_tables: Annotated[int, Option(min=1, help="Maximum number of tables at a time.")] = 4,
    max_connections: Annotated[int, Option(min=1, help="Maximum number of connections at a time.")] = 512,
    grace: Annotated[int, Option(min=1, help="Seconds for accepted requests when the server stops.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Serve classifiers over HTTP, with a page to try them in the browser.

    Examples:

        whinchat serve runs/demo

        whinchat serve tweets=runs/demo feelings=runs/five-labels --port 8080

        WHINCHAT_API_KEY=secret whinchat serve runs/demo --host 0.0.0.0 --log-format json

        curl -s localhost:8000/v1/classify --json '{"texts": ["what a lovely day", "meh"]}'

    Several runs share one backbone in memory. A request chooses one with `"model": "feelings"`; the first run is the
    default. Texts of requests that arrive at the same time are computed in one batch.

    `POST /v1/systemone` answers typed questions about a text (the System One protocol), calibrated where the classifier
    was trained on the question.

    `/docs` describes the API and sends requests, `/openapi.json` is its schema, `/metrics` is for Prometheus, `/health`
    and `/ready` are for load balancers.

    With the default --host, only this machine can reach the server. With a key, requests need the header
    `Authorization: Bearer KEY`, and a browser asks for the key as a password; `/health` and `/ready` stay open.
    """
    from whinchat.cli.early_checks import check_server  # loads the hub's client

    api_key = read_api_key(api_key_env, api_key_file)
    limits = whinchat.Limits(
        max_chars=max_chars,
        max_texts=max_texts,
        max_waiting=max(max_waiting, max_texts, 2),
        max_tables=max_tables,
        max_connections=max_connections,
        grace_seconds=grace,
    )

    def print_address(address: str) -> None:
        print_result(as_json, {"address": address}, lambda: print_line(f"{address}  (press Ctrl-C to stop)"))

    named = parse_run_names(runs)
    check_server(named, host, port)
    whinchat.run_server(
        named,
        host,
        port,
        limits,
        batch_size,
        print_address,
        allowed_hosts=allowed_host or (),
        allowed_origins=allowed_origin or (),
        api_key=api_key,
        log_format=log_format,
    )


# Texts that are labelled in less time than it takes to load the classifier.
_FEW_TEXTS = 32
_EMPTY = "the text is empty"


def _check_for_files(texts: Sequence[str]) -> None:
    """Refuse the name of a table that is there, and point out any other text that may be meant as a file.

    Raises:
        DataError: a text is the name of a table.
    """
    for text in texts:
        path = Path(text)
        try:
            is_file, is_folder = path.is_file(), path.is_dir() and bool(text.strip())
        except OSError:  # too long for a name
            continue
        is_table = find_table_format(path) is not None
        if is_file and is_table:
            raise DataError(
                f"{text}: is a table; to label its rows, add --out and a name for the labelled table; to label the "
                "name itself, give it on standard input"
            )
        if is_file:
            note = f"a file; to label each of its lines, use `whinchat predict RUN < {text}`"
        elif is_folder:
            note = "a folder; to label the tables in it, add --out and a name for the folder of the labelled ones"
        elif is_table and len(text.split()) == 1:
            note = "the name of a table, but there is no such file"
        else:
            continue
        err.print(Text(f"note: {text} is labelled as a text. It is also {note}."), soft_wrap=True)


def _read_lines() -> list[str]:
    """Return the lines of standard input. Only ``\\n`` and ``\\r\\n`` end a line, not other Unicode separators."""
    if sys.stdin.isatty():
        err.print("Type texts, one a line; end with Ctrl-D.")
    raw = sys.stdin.buffer.read()
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise DataError(f"standard input:{line}: byte {fault.start} is not UTF-8; convert the text to UTF-8") from None
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


COMMANDS = {"predict": predict_command, "serve": serve_command}
