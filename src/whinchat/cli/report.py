"""``whinchat report``: a run's report, in the browser where there is one."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from whinchat.cli.output import emit_json, out
from whinchat.storage.run_folder import RunFolder


def open_report(path: Path, *, rewrite: bool, as_json: bool) -> None:
    """Show the report of the run in ``path``, written anew where it is missing or ``rewrite`` asks for it."""
    folder = RunFolder(path)
    if rewrite or not folder.report.is_file():
        from whinchat.report.write import write_report_files

        write_report_files(folder.read(), folder)
    opened = not as_json and _has_screen() and webbrowser.open(folder.report.resolve().as_uri())
    if as_json:
        emit_json({"report": str(folder.report), "card": str(folder.card)})
    else:
        out.print(f"{'Opened' if opened else 'Report:'} {folder.report}", soft_wrap=True, markup=False)


def _has_screen() -> bool:
    """Whether a browser can show pictures; without a screen Python would take one that runs in the terminal."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
