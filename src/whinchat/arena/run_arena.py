"""Plan the cells, run those that are not there yet, one after the other, and sum up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from whinchat.arena.arena_figures import arena_figures
from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.arena_results import ArenaResults, summarize
from whinchat.arena.arena_tables import comparisons_table, conclusions, results_table
from whinchat.arena.spec import ArenaSpec, ResolvedArena, resolve_arena
from whinchat.arena.subsets import evaluated_rows, training_rows
from whinchat.arena.trials import Trial, TrialJob, TrialRecord, read_record
from whinchat.data.sources import load_corpus
from whinchat.errors import RunError
from whinchat.recipe.loader import differences
from whinchat.report import markdown
from whinchat.report.formatting import format_bytes, format_duration, format_number
from whinchat.storage.atomic import write_json, write_text

Say = Callable[[str], None]


def run_arena(spec: ArenaSpec, path: Path, say: Say, *, retry: bool = False) -> ArenaResults:
    """Run what is missing of ``spec`` in the folder ``path``; finished cells are kept, failed ones too.

    Args:
        spec: what to measure.
        path: the arena's folder.
        say: is told the plan and each cell's outcome.
        retry: run the cells that failed once more.

    Raises:
        WhinchatError: the arena is wrong, its data cannot be had, or the folder holds something else.
    """
    contest = resolve_arena(spec)
    folder, jobs = ArenaFolder(path), plan_trials(contest)
    records = _kept(folder.read(list(jobs)), jobs, folder, retry)
    waiting = [cell for cell in jobs if cell not in records]
    if waiting:
        _check_data(contest, say)
    folder.open(spec)
    say(f"{len(jobs)} cells, {len(records)} of them done; {len(waiting)} to run, each in a process of its own")
    for number_of, cell in enumerate(waiting, 1):
        say(f"[{number_of}/{len(waiting)}] {cell} ...")
        records[cell] = run_trial_job(jobs[cell], folder)
        say(f"[{number_of}/{len(waiting)}] {cell}: {_outcome(records[cell])}")
    results = summarize(spec, records, list(jobs))
    write_results(results, folder)
    return results


def show_arena(spec: ArenaSpec, path: Path) -> ArenaResults:
    """What the folder holds so far; nothing is run.

    Raises:
        RunError: it holds no arena, or one that cannot be summed up.
    """
    folder, jobs = ArenaFolder(path), plan_trials(resolve_arena(spec))
    if not folder.spec.is_file():
        raise RunError(f"{path}: holds no arena; run it first, or name its folder with --out")
    results = summarize(spec, _kept(folder.read(list(jobs)), jobs, folder, retry=False), list(jobs))
    write_results(results, folder)
    return results


def plan_trials(contest: ResolvedArena) -> dict[Trial, TrialJob]:
    """Every cell with its job, small training sets first, so that there is something to compare soon.

    What more rows or another seed would not change is run once.
    """
    spec = contest.spec
    jobs = {}
    for rows in sorted(spec.rows):
        for seed in spec.seeds:
            for method in spec.methods:
                if (method.flat and rows != min(spec.rows)) or (method.seedless and seed != spec.seeds[0]):
                    continue
                cell, recipe = Trial(method.name, rows, seed), contest.recipes[method.name, rows]
                train = recipe.train.model_copy(update={"seed": seed})
                jobs[cell] = TrialJob(cell, method, recipe.model_copy(update={"train": train}))
    return jobs


def run_trial_job(job: TrialJob, folder: ArenaFolder) -> TrialRecord:
    """Run one cell in a process of its own; if that fails, its record says why, and is kept, too."""
    out, log = folder.record(job.cell), folder.log(job.cell)
    # An earlier failure must not be taken for this one's record.
    out.unlink(missing_ok=True)
    # -P: what lies in the working folder must not stand in for a library.
    command = [sys.executable, "-P", "-m", "whinchat.arena.trial_process", str(out)]
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            command, input=json.dumps(job.to_dict()), stdout=stream, stderr=subprocess.STDOUT, text=True, check=False
        )
    if done.returncode == 0 and out.is_file():
        return read_record(out)
    record = TrialRecord(job, None, _reason(done.returncode, log))
    folder.write(record)
    return record


def write_results(results: ArenaResults, folder: ArenaFolder) -> None:
    """Figures, tables and sentences."""
    write_json(folder.results, results.to_dict() | {"sentences": list(conclusions(results))})
    drawn = arena_figures(results)
    for plot in drawn:
        plot.write(folder.path)
    parts = [f"# Arena: {markdown.escape(results.name)}", *map(markdown.escape, conclusions(results))]
    parts += [f"![{markdown.escape(plot.alt)}]({plot.name}.png)" for plot in drawn]
    parts += [
        f"## {content.caption}\n\n{markdown.markdown_table(content)}"
        for content in (results_table(results), comparisons_table(results))
        if content.rows
    ]
    write_text(folder.page, "\n\n".join(parts) + "\n")


def _kept(
    records: Mapping[Trial, TrialRecord], jobs: Mapping[Trial, TrialJob], folder: ArenaFolder, retry: bool
) -> dict[Trial, TrialRecord]:
    """Records that need not be run again.

    Raises:
        RunError: a finished cell was run with other settings than are asked for now.
    """
    kept, changed = {}, []
    for cell, record in records.items():
        was, now = record.job, jobs[cell]
        keys = differences(was.recipe, now.recipe)
        keys += [key for key in ("kind", "shots") if getattr(was.method, key) != getattr(now.method, key)]
        if record.error is None and keys:
            changed.append(f"{cell} ({', '.join(keys)})")
        if record.error is None or not (retry or keys):
            kept[cell] = record
    if changed:
        raise RunError(
            f"{folder.path}: {len(changed)} cells were run with other settings: {'; '.join(changed[:3])}"
            f"{' and so on' if len(changed) > 3 else ''}; use another --out, or delete their files in "
            f"{folder.path / 'cells'}"
        )
    return kept


def _check_data(contest: ResolvedArena, say: Say) -> None:
    """Have the data, and enough of it, before anything long begins."""
    spec, recipe = contest.spec, contest.base
    corpus = load_corpus(recipe)
    training_rows(corpus.train, max(spec.rows), spec.seeds[0], recipe.data.source)
    evaluated = evaluated_rows(corpus, recipe.evaluate)
    say(
        f"{spec.name}: {len(spec.methods)} methods, {', '.join(f'{rows:,}' for rows in sorted(spec.rows))} of "
        f"{len(corpus.train):,} training rows, seeds {', '.join(map(str, spec.seeds))}; measured on {len(evaluated):,} "
        f"rows of {evaluated.name}"
    )


def _outcome(record: TrialRecord) -> str:
    if (found := record.found) is None:
        return f"failed: {record.error}"
    cost = found.cost
    return (
        f"macro-F1 {format_number(found.measured.macro_f1)}, trained in {format_duration(cost.fit_seconds)}, "
        "answered in "
        f"{format_duration(cost.answer_seconds)}, {format_bytes(cost.peak_device_bytes or cost.peak_memory_bytes)}"
    )


def _reason(code: int, log: Path) -> str:
    """Why a cell's process failed, in one line."""
    if code < 0:
        hint = ", which is what a machine out of memory does" if -code == signal.SIGKILL else ""
        return f"its process was ended by signal {-code}{hint}; its log is {log}"
    lines: Sequence[str] = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), f"exit code {code}, nothing said")
    return last.removeprefix("error: ")
