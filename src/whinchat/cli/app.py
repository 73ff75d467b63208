"""The program: its commands, what they all do first, and its exit codes."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from whinchat import __version__
from whinchat.cli import recipes
from whinchat.cli.commands import look, publish, train, use
from whinchat.cli.output import err, out
from whinchat.errors import WhinchatError
from whinchat.training.launch import process_rank, world_size

app = typer.Typer(
    help="Turn a small chat model into a text classifier that can be trusted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `whinchat run demo`: it needs no model hub and takes minutes on two cores.",
)
app.add_typer(recipes.app, name="recipes")
for panel, group in (("Train", train), ("Use", use), ("Publish", publish), ("Look", look)):
    for command in group.COMMANDS:
        app.command(rich_help_panel=panel)(command)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"whinchat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the libraries log.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    if not verbose:
        # Notes that libraries print for their own developers; --verbose shows them.
        logging.captureWarnings(True)
        for name in ("py.warnings", "transformers", "bitsandbytes", "kernels"):
            logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        # A log is no place for bars of files that are loaded; transformers and the hub's client both look here.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if world_size() > 1:
        if context.invoked_subcommand != "train":
            raise WhinchatError(
                f"accelerate launch: only `whinchat train` runs in several processes; start `whinchat "
                f"{context.invoked_subcommand}` without it"
            )
        # One voice for all of them.
        if process_rank() > 0:
            out.quiet = True
            os.environ["TQDM_DISABLE"] = "1"


# What typer turns Ctrl-C into.
_INTERRUPTED = 130
_RESUMED = "What is stored is kept: the same command with --resume goes on from there."
# What becomes of the work that Ctrl-C stops, by command; the others keep nothing.
_KEPT = dict.fromkeys(("run", "train", "review"), _RESUMED) | dict.fromkeys(
    ("arena", "predict"), "What is done is kept: the same command goes on from there."
)


def main() -> None:
    """Entry point: exit code 0, 2 for a mistake that can be mended, 130 for Ctrl-C."""
    try:
        app()
    except WhinchatError as fault:
        err.print(f"[bold red]error:[/] {escape(str(fault))}", soft_wrap=True)
        sys.exit(fault.exit_code)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:
            command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
            err.print(f"Stopped. {_KEPT.get(command, '')}".strip(), soft_wrap=True)
        raise
