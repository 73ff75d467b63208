"""Four questions about each text: one joint pass against a pass for each question, at several lengths of text.

    python -m benchmarks.question_passes
    python -m benchmarks.question_passes --rounds 3 --texts 32 --lengths 30 150

Both ways score the same prompts with the same model and the same code, so they differ in what they share alone. Rounds
alternate, and the ratio is the median of ratios of neighbouring rounds. The last column is the largest difference
between the log-probabilities of the two ways.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.machine import machine
from whinchat.data.dataset import Split
from whinchat.evaluation.joint_scoring import decision_engines, score_questions
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.progress import Progress
from whinchat.recipe.schema import Recipe
from whinchat.training.micro_batch import take_rows
from whinchat.training.question_objective import QuestionObjective

QUESTIONS: dict[str, Any] = {
    "team": {
        "type": "choice",
        "instructions": "Which team should handle this?",
        "options": {"returns": "Refunds and damage", "billing": "Payments", "technical": "Bugs and outages"},
    },
    "angry": {"type": "yes_no", "instructions": "Is the customer angry?"},
    "urgency": {"type": "score", "instructions": "How urgent is it?", "levels": ["routine", "soon", "today"]},
    "refund": {"type": "yes_no", "instructions": "Does the customer want money back?"},
}
WORDS = """
    the order came late and the box was open so please send me a new one or give my money back today because I have
    written three times about this invoice and nobody answers while your app still shows the old address
""".split()  # noqa: SIM905  # a text to read, not a list
BATCH = 64
TRAIN_BATCH = 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--lengths", type=int, nargs="+", default=[30, 150, 400], help="tokens of a text, about")
    parser.add_argument("--model", default="package:smollm2-135m-instruct")
    parser.add_argument("--load-in", default="auto")
    options = parser.parse_args(arguments)
    recipe = Recipe.model_validate(
        {
            "name": "passes",
            "task": {"name": "tickets", "questions": QUESTIONS},
            "data": {"source": "none"},
            "backbone": {"model": options.model, "load_in": options.load_in, "max_prompt_tokens": 1024},
        }
    )
    backbone = load_backbone(recipe.backbone)
    model = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    engine = Engine.build(model, backbone.plan, backbone.tokenizer.template(recipe))
    print(f"{machine()}; weights in {backbone.plan.load_in}, products in {backbone.plan.compute_dtype}")
    print("| tokens | work | one pass | four passes | four / one | largest difference |")
    print("|---:|---|---:|---:|---:|---:|")
    for length in options.lengths:
        # Every text differs, so nothing of it is shared by chance.
        texts = tuple(
            " ".join([str(row), *(WORDS[(row + place) % len(WORDS)] for place in range(length))])
            for row in range(options.texts)
        )
        print(_line(length, "score", options.rounds, *_scoring(engine, recipe, texts)), flush=True)
        print(_line(length, "train", options.rounds, *_training(engine, recipe, texts[:TRAIN_BATCH])), flush=True)


def _scoring(engine: Engine, recipe: Recipe, texts: Sequence[str]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the two ways of scoring, each of which returns its log-probabilities."""
    engines = decision_engines(engine, recipe.task)
    prompts = [own.template.encode(texts) for own in engines]
    together = partial(score_questions, engines, prompts, BATCH, bar=Progress())

    def apart() -> list[Any]:
        return [score_prompts(own, asked, BATCH, bar=Progress()) for own, asked in zip(engines, prompts, strict=True)]

    return together, apart


def _training(engine: Engine, recipe: Recipe, texts: Sequence[str]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the two ways of one forward and backward pass, each of which returns the loss of the batch."""
    engine.model.train()

    def gradients(*objectives: QuestionObjective) -> list[Any]:
        total = 0.0
        for objective in objectives:
            inputs = objective.collate(objective.examples)
            for part in objective.parts(inputs):
                loss = objective.losses(take_rows(part, slice(None))).sum()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
                total += float(loss.detach())
        engine.model.zero_grad()
        return [np.array([total / len(texts)])]

    labels, answers = (0,) * len(texts), (tuple(0 for _ in QUESTIONS),) * len(texts)
    every = QuestionObjective(engine, recipe, Split("train", tuple(texts), labels, answers=answers))
    each = []
    for name, question in recipe.task.questions.items():
        task = recipe.task.model_copy(update={"questions": {name: question}})
        rows = Split("train", tuple(texts), labels, answers=((0,),) * len(texts))
        each.append(QuestionObjective(engine, recipe.model_copy(update={"task": task}), rows))
    return partial(gradients, every), partial(gradients, *each)


def _line(length: int, work: str, rounds: int, one: Callable[[], Any], four: Callable[[], Any]) -> str:
    """Measure both ways in turn, and return a line of the table."""
    seconds: list[tuple[float, float]] = []
    difference = max(float(np.abs(a - b).max()) for a, b in zip(one(), four(), strict=True))
    for _ in range(rounds):
        pair = []
        for way in (one, four):
            started = time.perf_counter()
            way()
            pair.append(time.perf_counter() - started)
        seconds.append((pair[0], pair[1]))
    first, second = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(b / a for a, b in seconds)
    return f"| {length} | {work} | {first:.2f} s | {second:.2f} s | {ratio:.2f} | {difference:.1e} |"


if __name__ == "__main__":
    main()
