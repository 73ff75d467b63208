"""Plan an arena's trials, run the trials without a record one after the other, and summarize all of them."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from whinchat.arena.arena_figures import arena_figures
from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.arena_results import ArenaResults, summarize_trials
from whinchat.arena.arena_tables import comparisons_table, conclusions, results_table
from whinchat.arena.spec import ArenaSpec, ResolvedArena, encoders_of, load_arena, require_encoders, resolve_arena
from whinchat.arena.subsets import arena_rows, check_rows, training_rows
from whinchat.arena.trial_process import trial_request
from whinchat.arena.trials import Trial, TrialJob, TrialRecord
from whinchat.data.dataset import Corpus
from whinchat.data.learned_texts import find_learned, read_learned
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RecipeError, RunError, WhinchatError
from whinchat.models.requirements import is_hub_model, require_backbone
from whinchat.output_files import writing
from whinchat.recipe.loader import conflicting_keys
from whinchat.report import markdown
from whinchat.report.formatting import format_bytes, format_duration, format_number
from whinchat.storage.atomic import write_json, write_text
from whinchat.wording import counted, name_rows

Notify = Callable[[str], object]
Jobs = Mapping[Trial, TrialJob]
Records = Mapping[Trial, TrialRecord]


def run_arena(
    spec: ArenaSpec | str, out: Path | None = None, *, retry: bool = False, notify: Notify = lambda line: None
) -> ArenaResults:
    """Run the trials of an arena that have no record in its folder yet, and summarize all of them.

    Each trial runs in a process of its own. A trial that fails is recorded with its error, and the others go on.
    Tables, figures and sentences are written to the folder.

    Args:
        spec: the arena, or its name, file or folder.
        out: the arena's folder; ``runs/arena/NAME`` by default.
        retry: run failed trials once more.
        notify: called with each line of progress: the plan, and the start and outcome of each trial.

    Raises:
        WhinchatError: the arena is not valid, its data cannot be read, the folder holds something else, or another
            process writes into it.
    """
    arena, folder = _resolve(spec, out)
    with folder.hold():
        return _run_trials(arena, folder, retry=retry, notify=notify)


def _run_trials(arena: ResolvedArena, folder: ArenaFolder, *, retry: bool, notify: Notify) -> ArenaResults:
    """Run the missing trials of an arena whose folder this process holds."""
    jobs = _plan_jobs(arena, folder)
    records = _kept_records(folder, jobs, retry=retry)
    missing = [trial for trial in jobs if trial not in records]
    if missing:
        _check_encoders(arena.spec, {trial.method for trial in missing})
        corpus = load_corpus(arena.base)
        check_rows(corpus, arena.base, arena.spec.rows, arena.spec.seeds)
        _check_unchanged(arena, corpus, jobs, records, folder)
        _check_learned(arena, corpus, [jobs[trial] for trial in missing], notify)
    folder.open(arena.spec)
    notify(f"{len(jobs)} trials, {len(records)} of them done; {len(missing)} to run, each in a process of its own")
    for number, trial in enumerate(missing, 1):
        notify(f"[{number}/{len(missing)}] {trial} ...")
        records[trial] = run_trial_job(jobs[trial], folder)
        notify(f"[{number}/{len(missing)}] {trial}: {_outcome(records[trial])}")
    return _write_results(summarize_trials(arena.spec, records, list(jobs)), folder)


def summarize_arena(spec: ArenaSpec | str, out: Path | None = None) -> ArenaResults:
    """Summarize the trials that an arena's folder holds so far, and run none.

    Args:
        spec: the arena, or its name, file or folder.
        out: the arena's folder; ``runs/arena/NAME`` by default.

    Raises:
        RunError: the folder holds no arena, or trials that cannot be compared, or another process writes into it.
        OutputError: the folder cannot be written.
    """
    arena, folder = _resolve(spec, out)
    if not folder.spec.is_file():
        raise RunError(f"{folder.path}: holds no arena; run it first, or name its folder with --out")
    with folder.hold():
        jobs = _plan_jobs(arena, folder)
        return _write_results(summarize_trials(arena.spec, _kept_records(folder, jobs), list(jobs)), folder)


def _resolve(spec: ArenaSpec | str, out: Path | None) -> tuple[ResolvedArena, ArenaFolder]:
    """Return the arena with its recipes, and its folder."""
    arena = resolve_arena(load_arena(spec) if isinstance(spec, str) else spec)
    return arena, ArenaFolder(out or Path("runs") / "arena" / arena.spec.name)


def _plan_jobs(arena: ResolvedArena, folder: ArenaFolder) -> Jobs:
    """Return every trial with its job."""
    jobs = plan_trials(arena)
    # All trials state one date in their prompts, so that methods can be compared that run on different days.
    earlier = [record.job.recipe.task.date for record in folder.read(list(jobs)).values()]
    day = next(filter(None, earlier), date.today())
    return {trial: replace(job, recipe=job.recipe.dated(day)) for trial, job in jobs.items()}


def plan_trials(arena: ResolvedArena) -> dict[Trial, TrialJob]:
    """Return every trial with its job, small training sets first, so that there is soon something to compare.

    A method that more rows or another seed would not change has one trial for all of them.
    """
    spec = arena.spec
    jobs = {}
    for rows, seed, method in itertools.product(sorted(spec.rows), spec.seeds, spec.methods):
        if (method.flat and rows != min(spec.rows)) or (method.seedless and seed != spec.seeds[0]):
            continue
        trial, recipe = Trial(method.name, rows, seed), arena.recipes[method.name, rows]
        train = recipe.train.model_copy(update={"seed": seed})
        jobs[trial] = TrialJob(trial, method, recipe.model_copy(update={"train": train}))
    return jobs


def run_trial_job(job: TrialJob, folder: ArenaFolder) -> TrialRecord:
    """Run one trial in a process of its own; where the process fails, write a record that says why."""
    record_path, log = folder.record(job.trial), folder.log(job.trial)
    # -P: a file in the working folder must not stand in for a library.
    command = [sys.executable, "-P", "-m", "whinchat.arena.trial_process", str(record_path)]
    with writing(log):
        # An earlier record must not be taken for the one of this process.
        record_path.unlink(missing_ok=True)
        out = log.open("w", encoding="utf-8")
    with out:
        done = subprocess.run(command, input=trial_request(job), stdout=out, stderr=out, text=True, check=False)
    if done.returncode == 0 and record_path.is_file():
        return folder.read([job.trial])[job.trial]
    record = TrialRecord(job, None, _reason(done.returncode, log))
    folder.write(record)
    return record


def _write_results(results: ArenaResults, folder: ArenaFolder) -> ArenaResults:
    """Write results, tables, sentences and figures to the folder."""
    sentences = conclusions(results)
    write_json(folder.results, results.to_dict() | {"sentences": list(sentences)})
    parts = [f"# Arena: {markdown.escape(results.name)}", *map(markdown.escape, sentences)]
    for figure in arena_figures(results):
        figure.write(folder.path)
        parts.append(f"![{markdown.escape(figure.alt)}]({figure.name}.png)")
    for standings in results.standings:
        results_of = results_table(standings, with_costs=standings is results.standings[0])
        for table in (results_of, comparisons_table(standings)):
            if table.rows:
                parts.append(f"## {table.caption}\n\n{markdown.markdown_table(table)}")
    write_text(folder.page, "\n\n".join(parts) + "\n")
    return results


def _kept_records(folder: ArenaFolder, jobs: Jobs, *, retry: bool = False) -> dict[Trial, TrialRecord]:
    """Return the records of the trials that need not be run again.

    Raises:
        RunError: a finished trial was run with other settings than it would be run with now.
    """
    kept, changed = {}, []
    for trial, record in folder.read(list(jobs)).items():
        then, now = record.job, jobs[trial]
        keys = conflicting_keys(then.recipe, now.recipe)
        keys += [key for key in ("kind", "shots", "encoder") if getattr(then.method, key) != getattr(now.method, key)]
        if record.error is None and keys:
            changed.append(f"{trial} ({', '.join(keys)})")
        if record.error is None or not (retry or keys):
            kept[trial] = record
    if changed:
        raise RunError(
            f"{folder.path}: {len(changed)} trials were run with other settings: {'; '.join(changed[:3])}"
            f"{' and so on' if len(changed) > 3 else ''}; use another --out, or delete their files in {folder.records}"
        )
    return kept


def _check_encoders(spec: ArenaSpec, methods: Collection[str]) -> None:
    """Find the encoders of ``methods``, on the hub, too, before anything long begins."""
    require_encoders(spec, methods)
    encoders = encoders_of(spec, methods)
    if any(is_hub_model(encoder.model) for encoder in encoders.values()):
        # Imports torch, which this process needs for nothing else.
        from whinchat.models.encoders import find_encoder

        for name, encoder in encoders.items():
            try:
                find_encoder(encoder.model, encoder.revision)
            except WhinchatError as fault:
                raise RecipeError(f"{spec.name}: methods: {name}: {fault}") from fault


def _check_unchanged(arena: ResolvedArena, corpus: Corpus, jobs: Jobs, kept: Records, folder: ArenaFolder) -> None:
    """Check that data and models are those of the trials that are kept, before more trials stand beside them.

    Raises:
        RunError: rows or files of a model have changed.
    """
    evaluated, source = arena_rows(corpus, arena.base).fingerprint(), arena.base.data.source
    trained: dict[tuple[int, int], str] = {}
    commits: dict[tuple[str, str | None], dict[str, Trial]] = {}
    changed = []
    for trial, record in kept.items():
        if (result := record.result) is None:
            continue
        drawn = trial.rows, trial.seed
        if drawn not in trained:
            trained[drawn] = training_rows(corpus.train, *drawn, source).fingerprint()
        if (result.evaluated_on, result.trained_on) != (evaluated, trained[drawn]):
            changed.append(str(trial))
        model = arena.model_of(record.job.method, trial.rows)
        if model is not None and result.model_commit is not None:
            commits.setdefault((model.model, model.revision), {}).setdefault(result.model_commit, trial)
    remedy = f"use another --out, or delete the old records in {folder.records}"
    if changed:
        raise RunError(
            f"arena: {source} has changed since {counted(len(changed), 'trial')} ({'; '.join(changed[:3])}"
            f"{' and so on' if len(changed) > 3 else ''}), so no other can be compared with them; {remedy}"
        )
    models = [arena.model_of(job.method, job.trial.rows) for trial, job in jobs.items() if trial not in kept]
    known = {(one.model, one.revision): one for one in models if one and (one.model, one.revision) in commits}
    if not known:
        return
    # Imports torch, which this process needs for nothing else.
    from whinchat.models.backbone import find_model

    for key, model in known.items():
        commit = find_model(model.model_copy(update={"layers": None})).commit
        if others := [trial for earlier, trial in commits[key].items() if earlier != commit]:
            raise RunError(f"arena: {model.model} has other files than when it was measured ({others[0]}); {remedy}")


def _check_learned(arena: ResolvedArena, corpus: Corpus, missing: Sequence[TrialJob], notify: Notify) -> None:
    """Check that no model has learned the rows on which all methods are measured, before anything long begins."""
    spec, evaluated = arena.spec, arena_rows(corpus, arena.base)
    for model, names in _chat_models(arena, missing).items():
        if (learned := read_learned(model)) is None:
            continue
        if measured := find_learned(learned, evaluated.texts):
            raise DataError(
                f"{spec.name}: methods: {names}: {model} has learned {counted(len(measured), 'text')} of "
                f"{evaluated.name} before ({name_rows(measured)}), on which all methods are measured; take these "
                "out of its training"
            )
        if trained := find_learned(learned, corpus.train.texts):
            notify(
                f"warning: {names}: {model} has learned {counted(len(trained), 'text')} of train before, so {names} "
                "knows more of this task than the rows of a trial say"
            )
    notify(
        f"{spec.name}: {len(spec.methods)} methods, {', '.join(f'{rows:,}' for rows in sorted(spec.rows))} of "
        f"{len(corpus.train):,} training rows, seeds {', '.join(map(str, spec.seeds))}; evaluated on "
        f"{len(evaluated):,} rows of {evaluated.name}"
    )


def _chat_models(arena: ResolvedArena, missing: Sequence[TrialJob]) -> dict[str, str]:
    """Return each chat model that trials start from, with the names of the methods that start from it.

    Raises:
        RecipeError: there is no such model folder.
    """
    names = dict[str, dict[str, None]]()
    for job in missing:
        if not job.method.has_chat_model:
            continue
        try:
            require_backbone(job.recipe.backbone)
        except WhinchatError as fault:
            raise RecipeError(f"{arena.spec.name}: methods: {job.method.name}: {fault}") from fault
        names.setdefault(job.recipe.backbone.model, {})[job.method.name] = None
    return {model: ", ".join(methods) for model, methods in names.items()}


def _outcome(record: TrialRecord) -> str:
    if (result := record.result) is None:
        return f"failed: {record.error}"
    cost = result.cost
    scores = [f"{question.headline.label} {format_number(question.score)}" for question in result.questions]
    named = (
        score if question.name is None else f"{question.name}: {score}"
        for question, score in zip(result.questions, scores, strict=True)
    )
    return (
        f"{', '.join(named)}, trained in {format_duration(cost.fit_seconds)}, answered "
        f"in {format_duration(cost.answer_seconds)}, {format_bytes(cost.peak_device_bytes or cost.peak_memory_bytes)}"
    )


def _reason(code: int, log: Path) -> str:
    """Return why a trial's process failed, in one line."""
    if code < 0:
        hint = ", which happens when a machine runs out of memory" if -code == signal.SIGKILL else ""
        return f"its process was ended by signal {-code}{hint}; its log is {log}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), f"exit code {code}; it printed nothing")
    return last.removeprefix("error: ")
