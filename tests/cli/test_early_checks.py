"""What cannot succeed is refused before torch, PEFT, scikit-learn or bitsandbytes is imported."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.helpers import finished_runs

# All cases run in one process, one after the other: none of them may import what the next ones must not have.
PROGRAM = """
import contextlib, io, json, sys
from whinchat.cli import main

HEAVY = {"torch", "transformers", "peft", "sklearn", "scipy", "bitsandbytes", "matplotlib"}
for hidden, arguments in json.load(sys.stdin):
    sys.argv, printed = ["whinchat", *arguments], io.StringIO()
    sys.modules.update(dict.fromkeys(hidden))  # None stands for a package that is not installed
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            main()
        code = 0
    except SystemExit as exiting:
        code = exiting.code
    for name in hidden:
        del sys.modules[name]
    heavy = sorted(HEAVY & set(sys.modules))
    print(json.dumps([code, printed.getvalue(), heavy]), file=sys.__stdout__)
"""


# Commands that read the data of a recipe.
COMMANDS = ("run", "train", "review", "tune", "inspect", "layers")


class Case(NamedTuple):
    command: str
    error: str
    hidden: tuple[str, ...] = ()
    code: int = 2


def test_faults_are_refused_before_a_library_of_models_is_loaded(a_run: Path, tmp_path: Path) -> None:
    data, recipe = a_run.parent / "texts.csv", tmp_path / "mine.yaml"
    recipe.write_text((a_run / "recipe.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    finished_runs.write_csv(tmp_path / "table.csv", rows=3)
    for name, method in (("gone", "{name: mine, kind: encoder, encoder: {model: ./nowhere}}"), ("pairs", "setfit")):
        arena = f"name: {name}\nrecipe: mine.yaml\nrows: [10]\nmethods: [majority, {method}]\n"
        (tmp_path / f"{name}.yaml").write_text(arena, encoding="utf-8")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.yaml").write_bytes((a_run / "recipe.yaml").read_bytes())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = [
            # A folder that is in use, a place that cannot be written.
            Case(f"run mine.yaml --out {a_run}", "already holds a run"),
            Case(f"train mine.yaml --out {a_run}", "already holds a run"),
            Case(f"run mine.yaml --out {a_run} --resume --set train.seed=9", "another recipe"),
            Case("run mine.yaml --out table.csv", "is not a run folder"),
            # A finished run is read, and nothing is loaded to go on with it.
            *(Case(f"{command} mine.yaml --out {a_run} --resume", str(a_run), code=0) for command in ("run", "train")),
            Case("run mine.yaml --out table.csv/new", "cannot be written"),
            Case(f"review mine.yaml --out {a_run}", "is no review folder"),
            Case(f"tune mine.yaml --out {a_run}", "is no tune folder"),
            Case("tune mine.yaml --learning-rate 1 0.1", "the lower first"),
            Case("tune mine.yaml --set data.validation_rows=null", "to judge settings on"),
            Case(f"arena vader-curve --out {a_run}", "is not an arena's folder"),
            Case(f"export {a_run} --to merged --out {a_run}", "exists already"),
            Case(f"export {a_run} --to merged --out table.csv/new", "cannot be written"),
            Case(f"predict {a_run} {data} --out table.csv/new.csv --prefix x_", "cannot be written"),
            Case(f"serve {a_run} --port {port}", "cannot be listened on"),
            Case(f"compare {a_run} --out table.csv/figures", "cannot be written"),
            # Runs and data that are missing, or not as they should be.
            *(Case(command, "no such run folder") for command in (
                "predict nowhere hello", "predict nowhere table.csv --out new.csv", "evaluate nowhere",
                "calibrate nowhere", "serve nowhere", "compare nowhere", "report nowhere", "export nowhere --to merged",
                "push nowhere ann/tweets",
            )),
            *(Case(command, "not finished") for command in (
                "predict begun hello", "evaluate begun", "calibrate begun", "serve begun", "compare begun",
                "report begun --rewrite", "export begun --to merged", "push begun ann/tweets",
            )),
            *(Case(f"{command} mine.yaml --set data.source=nofile.csv", "no such file") for command in COMMANDS),
            Case("run mine.yaml --set data.text_column=tweet", "no column 'tweet'"),
            Case("run mine.yaml --set task.labels=[good,bad]", "label"),
            Case("run mine.yaml --set data.validation_rows=null", "validation"),
            Case("review mine.yaml --folds 50", "use fewer folds"),
            Case("inspect mine.yaml --row 5000", "the training split has"),
            Case(f"evaluate {a_run} --data nofile.csv", "no such file or folder"),
            Case(f"evaluate {a_run} --set train.seed=1", "takes data.* and evaluate.* only"),
            Case(f"calibrate {a_run} --metric recall", "Invalid value"),
            Case("distill ./nowhere", "no such run folder"),
            Case(f"distill {a_run} --unlabelled nofile.csv", "no such file"),
            Case(f"distill {a_run} --unlabelled {data} --text-column tweet", "no column 'tweet'"),
            Case(f"predict {a_run} nofile.csv --out new.csv", "no such file"),
            Case(f"predict {a_run} {data} --out new.csv --text-column tweet", "no column 'tweet'"),
            Case(f"predict {a_run} table.csv --out new.csv", "has a column 'label' already"),
            Case(f"export {a_run} --to pdf", "there is no format 'pdf'"),
            Case(f"export {a_run} --to merged --data nofile.csv", "no such file"),
            Case(f"export {a_run} --to merged --question team", "has labels and no questions"),
            Case(f"export {a_run} --to student", "this classifier has no student"),
            Case(f"export {a_run} --to student --question team", "leave the option out"),
            Case("arena vader-curve --set data.source=nofile.csv", "no such file or folder"),
            Case(f"compare {a_run} {a_run}", "named twice"),
            Case(f"push {a_run} tweets", "write OWNER/NAME"),
            Case(f"push {a_run} ann/tweets", "there is no token"),
            Case("arena gone.yaml", "methods: mine: encoder.model: ./nowhere is neither a folder nor OWNER/NAME"),
            Case("doctor ./nowhere", "neither a folder nor OWNER/NAME"),
            Case("doctor package:nothing", "nothing"),
            Case("run mine.yaml --set backbone.model=./nowhere", "neither a folder nor OWNER/NAME"),
            # Packages that are not installed.
            Case("run mine.yaml --set backbone.load_in=nf4", "needs the package bitsandbytes", ("bitsandbytes",)),
            Case("run mine.yaml --set train.report_to=mlflow", "needs the package mlflow", ("mlflow",)),
            Case("arena pairs.yaml", "pip install 'whinchat[setfit]'", ("setfit",)),
            Case(f"export {a_run} --to onnx", "pip install 'whinchat[export]'", ("onnxruntime",)),
            Case(f"serve {a_run}", "serve: needs uvicorn; pip install 'whinchat[serve]'", ("uvicorn",)),
            Case("tune mine.yaml", "tune: needs optuna; pip install 'whinchat[tune]'", ("optuna",)),
            Case(f"predict {a_run} {data} --out new.csv --prefix x_ --engine ray", "Ray is not installed", ("ray",)),
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps([(case.hidden, case.command.split()) for case in cases]),
            cwd=tmp_path,
            env={**os.environ, "HF_TOKEN_PATH": str(tmp_path / "token"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=True,
        )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases)
    for case, (code, printed, heavy) in zip(cases, results, strict=True):
        assert (case.command, code, heavy) == (case.command, case.code, []), printed
        assert case.error in printed, case.command
    assert not (tmp_path / "runs").exists()


ONE_TEXT = """
import sys
from whinchat.cli import main

sys.argv = ["whinchat", "predict", sys.argv[1], "what a lovely day", "--json"]
try:
    main()
finally:
    unneeded = {"sklearn", "scipy.stats", "matplotlib", "datasets", "pandas", "fastapi", "torch._inductor.compile_fx"}
    print(*sorted(unneeded & set(sys.modules)), file=sys.stderr)
"""


def test_predicting_loads_no_library_of_training_or_reporting(a_run: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ONE_TEXT, str(a_run)], capture_output=True, text=True, check=True)
    assert '"label":' in done.stdout
    assert done.stderr.splitlines()[-1] == ""
