"""The program ``whinchat``: its commands, their common setup, and its exit codes."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer import Option

from whinchat import __version__
from whinchat.cli.commands import begin, evaluate, explore, predict, publish, recipes, train
from whinchat.cli.number_lists import NumberListsCommand
from whinchat.cli.output import err, out
from whinchat.cli.standard_output import check_standard_output
from whinchat.errors import OutputError, WhinchatError
from whinchat.progress import log_to_stderr
from whinchat.training.launch import process_rank, world_size
from whinchat.training.stop_signals import STOP_SIGNALS, on_stop_signal

app = typer.Typer(
    help="Turn a small chat model into a text classifier that can be trusted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `whinchat run demo`, which needs no access to the Hugging Face hub and takes minutes on two "
    "cores, or with `whinchat init TABLE` for texts and labels of your own.",
)
_PANELS = {
    "Begin": begin,
    "Train": train,
    "Evaluate": evaluate,
    "Predict": predict,
    "Publish": publish,
    "Explore": explore,
}
# Commands with options that take several numbers.
_CLASSES = {"tune": NumberListsCommand}
for panel, module in _PANELS.items():
    for name, command in module.COMMANDS.items():
        app.command(name, rich_help_panel=panel, cls=_CLASSES.get(name))(command)
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
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise WhinchatError(
                f"{argument}: the argument holds bytes that are not UTF-8; set the terminal to UTF-8, or rename the "
                "file"
            ) from None
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


# A program that a signal ends exits with this and the signal's number; typer turns Ctrl-C into 130.
_SIGNAL_EXIT = 128
_WITH_RESUME = "Finished work is kept: continue with the same command and --resume{}."
_AGAIN = "Finished work is kept: the same command{} continues."
# What to do after a stop; a command that is not listed keeps nothing.
_CONTINUE = {
    "run": _WITH_RESUME, "train": _WITH_RESUME, "review": _WITH_RESUME, "tune": _WITH_RESUME, "arena": _AGAIN,
    "predict": _AGAIN,
}  # fmt: skip


def main() -> None:
    """Run the command line, and exit.

    The exit code is 0, 2 after an error that the user can act on, 130 after Ctrl-C, 143 after SIGTERM, or 129 after the
    terminal was closed.
    """
    # For the processes that libraries start, such as joblib's: the working folder is not on their paths.
    os.environ["PYTHONSAFEPATH"] = "1"
    # The end of the process frees all memory at once; Python need not look for garbage in a million objects first.
    atexit.register(gc.freeze)
    check_standard_output()
    with on_stop_signal(_stop):
        try:
            try:
                _require_working_folder()
                app()
            finally:
                sys.stdout.flush()  # what cannot be written is an error, too
        except WhinchatError as fault:
            err.print(f"[bold red]error:[/] {escape(str(fault))}", soft_wrap=True)
            sys.exit(fault.exit_code)
        except SystemExit as exiting:
            if exiting.code in {_SIGNAL_EXIT + number for number in STOP_SIGNALS}:
                with suppress(OSError):  # the terminal may be gone
                    err.print(f"Stopped. {_how_to_continue(sys.argv[1:])}".strip(), soft_wrap=True)
            raise


def _require_working_folder() -> None:
    """Raise OutputError where the working folder was deleted: libraries fail there in ways that name no reason."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise OutputError("the working folder was deleted; change to a folder that is there (cd ~)") from None


def _stop(received: signal.Signals) -> None:
    """End the command as Python ends a program on Ctrl-C: by an exception, so that locks and drafts are released."""
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(_SIGNAL_EXIT + received)


def _how_to_continue(arguments: list[str]) -> str:
    command = next((word for word in arguments if not word.startswith("-")), "")
    return _CONTINUE.get(command, "").format(", without --overwrite" if "--overwrite" in arguments else "")
