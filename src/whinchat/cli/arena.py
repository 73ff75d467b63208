"""``whinchat arena``: what a person sees of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whinchat.arena.spec import ARENAS, load_arena
from whinchat.cli.output import emit_json, err, out, print_shipped, print_table, progress_on_stderr
from whinchat.errors import RunError


def list_arenas(as_json: bool) -> None:
    """The arenas that come with whinchat."""
    print_shipped({name: load_arena(name).description for name in ARENAS.names()}, as_json)


def print_arena(
    name: str | None, overrides: Sequence[str], folder: Path | None, *, retry: bool, show: bool, as_json: bool
) -> None:
    """Run an arena, or show what is there of it."""
    from whinchat.arena.arena_folder import default_arena_folder
    from whinchat.arena.arena_tables import brief_results_table, comparisons_table, conclusions
    from whinchat.arena.run_arena import run_arena, summarize_arena

    if name is None:
        raise RunError("arena: none named; `whinchat arena --list` shows those that come with whinchat")
    if show and retry:
        raise RunError("--show and --retry: choose one; --show runs nothing")
    spec = load_arena(name, overrides)
    path = folder or default_arena_folder(spec)

    def notify(line: str) -> None:
        err.print(line, soft_wrap=True, markup=False)

    with progress_on_stderr():
        results = summarize_arena(spec, path) if show else run_arena(spec, path, retry=retry, notify=notify)
    if as_json:
        emit_json({"arena": str(path), **results.to_dict(), "sentences": list(conclusions(results))})
        return
    for content in (brief_results_table(results), comparisons_table(results)):
        print_table(content, title=content.caption)
    for sentence in conclusions(results):
        out.print(sentence, soft_wrap=True, markup=False)
    out.print(f"All results: {path / 'results.md'}", soft_wrap=True, markup=False)
