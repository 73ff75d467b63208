"""The program ``whinchat``: its commands, their common setup, and its exit codes."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape
from typer import Option

from whinchat import __version__
from whinchat.cli.commands import evaluate, explore, predict, publish, recipes, train
from whinchat.cli.output import err, out
from whinchat.errors import WhinchatError
from whinchat.progress import log_to_stderr
from whinchat.training.launch import process_rank, world_size

app = typer.Typer(
    help="Turn a small chat model into a text classifier that can be trusted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `whinchat run demo`: it needs no access to the Hugging Face hub and takes minutes on two cores.",
)
_PANELS = {"Train": train, "Evaluate": evaluate, "Predict": predict, "Publish": publish, "Explore": explore}
for panel, module in _PANELS.items():
    for name, command in module.COMMANDS.items():
        app.command(name, rich_help_panel=panel)(command)
app.add_typer(recipes.app, name="recipes", rich_help_panel="Explore")


def _print_version(value: bool) -> None:
    if value:
        out.print(f"whinchat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Show the log messages of the libraries.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    if not verbose:
        # Warnings that the libraries address to their own developers.
        logging.captureWarnings(True)
        for name in ("py.warnings", "transformers", "bitsandbytes", "kernels"):
            logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        # No bars in a log while files are loaded; transformers and the hub's client both read this variable.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if world_size() > 1:
        if context.invoked_subcommand != "train":
            raise WhinchatError(
                f"accelerate launch: only `whinchat train` runs in several processes; start `whinchat "
                f"{context.invoked_subcommand}` without it"
            )
        # The first process speaks for all.
        if process_rank() > 0:
            out.quiet = True
            os.environ["TQDM_DISABLE"] = "1"
            return
    log_to_stderr()


# The exit code into which typer turns Ctrl-C.
_INTERRUPTED = 130
_WITH_RESUME = "Finished work is kept: continue with the same command and --resume."
_AGAIN = "Finished work is kept: the same command continues."
# What to do after Ctrl-C; a command that is not listed keeps nothing.
_CONTINUE = {"run": _WITH_RESUME, "train": _WITH_RESUME, "review": _WITH_RESUME, "arena": _AGAIN, "predict": _AGAIN}


def main() -> None:
    """Run the command line; exit with 0, with 2 after an error that the user can act on, or with 130 after Ctrl-C."""
    # For the processes that libraries start, such as joblib's: the working folder is not on their paths.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        app()
    except WhinchatError as fault:
        err.print(f"[bold red]error:[/] {escape(str(fault))}", soft_wrap=True)
        sys.exit(fault.exit_code)
    except SystemExit as exiting:
        if exiting.code == _INTERRUPTED:
            command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
            err.print(f"Stopped. {_CONTINUE.get(command, '')}".strip(), soft_wrap=True)
        raise
