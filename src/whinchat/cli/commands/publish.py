"""The command that shows a run to others."""

from __future__ import annotations

from typing import Annotated

import typer

from whinchat.cli.options import JsonOption, RunArg
from whinchat.cli.output import emit_json, out, print_table, progress_on_stderr


def push(
    run_folder: RunArg,
    repo_id: Annotated[str, typer.Argument(help="The repository on the hub: OWNER/NAME.", metavar="REPO_ID")],
    private: Annotated[bool, typer.Option("--private", help="Make it for your eyes only.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="OWNER/NAME", help="The base model on the hub, if the run took it from a folder."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and ask nobody.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a run on the Hugging Face hub: adapter, model card, figures, report, results, in one commit.

    Examples:

        whinchat push runs/demo ann/tweet-sentiment --dry-run

        whinchat push runs/demo ann/tweet-sentiment --private

    The adapter lies at the root: `whinchat predict ann/tweet-sentiment "a text"`,
    `Classifier.from_pretrained("ann/tweet-sentiment")` and plain PEFT take it from there.

    The card and the report quote a few texts of the data. The other evaluated texts (predictions.parquet) stay here,
    and so do the names of your folders. A card that the hub refuses is not pushed. The token is the hub library's own:
    `hf auth login`, or HF_TOKEN.
    """
    from whinchat.hub.client import connect_to_hub, require_repo_id, upload_files
    from whinchat.hub.repository import repository_of_run
    from whinchat.report.formatting import format_bytes
    from whinchat.report.text_table import TextTable

    require_repo_id(repo_id)
    api = None if dry_run else connect_to_hub(repo_id)
    package = repository_of_run(run_folder, repo_id, base)
    url = None
    if api is not None:
        with progress_on_stderr():
            url = upload_files(
                api, repo_id, package.files, f"whinchat push of {run_folder.resolve().name}", private or None
            )
    if as_json:
        files = [{"path": one.path, "bytes": one.size} for one in package.files]
        emit_json({"url": url, "bytes": package.size, "quoted_texts": package.quoted_texts, "files": files})
        return
    if url is None:
        print_table(TextTable("", ("file", "bytes"), tuple((one.path, f"{one.size:,}") for one in package.files)))
    done = f"Would push to {repo_id}" if url is None else f"Pushed to {url}"
    out.print(
        f"{done}: {len(package.files)} files, {format_bytes(package.size)}; they quote {package.quoted_texts} texts of "
        "the data",
        soft_wrap=True,
        markup=False,
    )


COMMANDS = (push,)
