"""What a search for settings has found: a table, sentences, and the recipe with the best settings."""

from whinchat.evaluation.metric_registry import METRICS
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import TrialSettings, tuned_recipe
from whinchat.report.formatting import format_count, format_duration, format_interval, format_number
from whinchat.report.text_table import Columns, TextTable
from whinchat.storage.tune_folder import tuned_name
from whinchat.storage.tune_record import TuneResult, TuneTrial
from whinchat.wording import counted

_NOT_JUDGED = "-"


def trials_table(result: TuneResult) -> TextTable:
    """Return a table with a row for each trial, in the order in which they were made."""
    columns: Columns[TuneTrial] = {
        "trial": lambda trial: _title(trial, result),
        "learning rate": lambda trial: f"{trial.settings.learning_rate:g}",
        "rank": lambda trial: str(trial.settings.r),
        "alpha": lambda trial: f"{trial.settings.lora_alpha:g}",
        "epochs": lambda trial: f"{trial.settings.num_train_epochs:g}",
        "log-loss": lambda trial: _number(trial.log_loss),
        METRICS[result.metric].title: lambda trial: _number(trial.metric),
        "state": _state,
        "time": lambda trial: format_duration(trial.seconds),
    }
    return TextTable.of(f"Trials on {format_count(result.validation_rows)} validation rows", result.trials, columns)


def _number(value: float | None) -> str:
    return _NOT_JUDGED if value is None else format_number(value)


def _title(trial: TuneTrial, result: TuneResult) -> str:
    notes = ["as it is"] * (trial.number == 1) + ["best"] * (trial.number == result.best)
    return f"{trial.number} ({', '.join(notes)})" if notes else str(trial.number)


def _state(trial: TuneTrial) -> str:
    if trial.state == "pruned" and trial.trained_share is not None:
        return f"stopped at {100 * trial.trained_share:.0f} %"
    return trial.state


def trial_sentence(trial: TuneTrial, metric: str) -> str:
    """Return what became of a trial, in a part of a sentence."""
    if trial.log_loss is None:
        return "diverged" if trial.state == "diverged" else f"{_state(trial)} of the training, by its validation loss"
    return f"log-loss {format_number(trial.log_loss)}, {METRICS[metric].title} {format_number(trial.metric)}"


def conclusion(result: TuneResult) -> tuple[str, ...]:
    """Return sentences that say which trial is best, by how much, and how far the result can be relied on."""
    winner, baseline, rows = result.winner, result.baseline, format_count(result.validation_rows)
    if winner is None:
        return ("No trial was completed, so there is no recipe to recommend. Search lower learning rates.",)
    if winner.number == 1:
        count = len(result.trials) - 1
        others = "There was no time for another trial" if not count else f"None of {format_count(count)} other trials"
        beaten = ", so nothing is known of other settings." if not count else " has a lower log-loss."
        sentences = [f"The recipe as it is stays the best: log-loss {_number(winner.log_loss)}. {others}{beaten}"]
    elif result.gain is None:
        sentences = [
            f"Trial {winner.number} is best: log-loss {_number(winner.log_loss)}. The recipe as it is "
            f"{trial_sentence(baseline, result.metric)}, so it has none to compare with."
        ]
    else:
        interval = result.gain_interval
        over_rows = "" if interval is None else f" (95 % interval over the rows: {format_interval(interval)})"
        sentences = [
            f"Trial {winner.number} is best: log-loss {_number(winner.log_loss)} instead of "
            f"{_number(baseline.log_loss)} with the recipe as it is, {METRICS[result.metric].title} "
            f"{_number(winner.metric)} instead of {_number(baseline.metric)}. The log-loss is lower by "
            f"{format_number(result.gain)}{over_rows}."
        ]
        if interval is None or interval.low <= 0:
            sentences.append(f"This can be chance: {rows} validation rows do not show a gain reliably.")
    if result.learned_texts:
        sentences.append(
            f"The model had learned {counted(result.learned_texts, 'validation text')} before the search, so every "
            "log-loss is too good, and the best settings may be others."
        )
    return (*sentences, *_edges(winner.settings, result))


def _edges(settings: TrialSettings, result: TuneResult) -> list[str]:
    """Return a sentence where a setting of the best trial is at the end of its range."""
    low, high = result.space.learning_rate
    ranges = {
        "--learning-rate": (settings.learning_rate, low * 1.25, high / 1.25, low < high),
        "--epochs": (
            settings.num_train_epochs, result.space.epochs[0], result.space.epochs[-1], len(result.space.epochs) > 1,
        ),
    }  # fmt: skip
    ends = {
        option: "lowest" if value <= least else "highest"
        for option, (value, least, most, searched) in ranges.items()
        if searched and (value <= least or value >= most)
    }
    return [
        f"The best value of {option} is near the {end} of its range; a search with another range may find a better one."
        for option, end in ends.items()
    ]


def tuned_recipe_yaml(recipe: Recipe, result: TuneResult) -> str:
    """Return the recipe with the settings of the best trial as YAML, with comments; empty where there is none.

    Args:
        recipe: the recipe as it is.
        result: what the search has found.
    """
    winner = result.winner
    if winner is None:
        return ""
    settings, own = winner.settings, TrialSettings.of(recipe)
    tuned = tuned_recipe(recipe, settings).model_copy(update={"name": tuned_name(recipe.name)})
    changed = {
        "  learning_rate: ": own.learning_rate != settings.learning_rate and f"{own.learning_rate:g}",
        "  num_train_epochs: ": own.num_train_epochs != settings.num_train_epochs and f"{own.num_train_epochs:g}",
        "  r: ": own.r != settings.r and str(own.r),
        "  lora_alpha: ": own.lora_alpha != settings.lora_alpha and f"{own.lora_alpha:g}",
    }
    lines = []
    for line in recipe_to_yaml(tuned).splitlines():
        key = next((key for key in changed if line.startswith(key)), None)
        if key is None:
            lines.append(line)
        else:
            was = f", was {changed[key]}" if changed[key] else ", as in the recipe"
            lines.append(f"{line}  # trial {winner.number}{was}")
    head = [
        f"Written by `whinchat tune`: the recipe {recipe.name} with the settings of trial {winner.number} of "
        f"{len(result.trials)}.",
        *conclusion(result),
        f"Every trial was trained on the same {format_count(result.train_rows)} rows and judged on the same "
        f"{format_count(result.validation_rows)} validation rows; no row of a test split was used.",
    ]
    return "".join(f"# {line}\n" for line in head) + "\n".join(lines) + "\n"
