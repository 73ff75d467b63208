"""Training and scoring speed of variants of a recipe, such as fewer layers, side by side.

    python -m benchmarks.variants smollm2-lora-tweeteval --data FOLDER --variant backbone.layers=16 \\
        --variant backbone.layers=16,adapter.layers_to_transform=[8,9,10,11,12,13,14,15]

The first line is the recipe as it is. All variants train and score the same texts in rounds that alternate between
them; a ratio is the median of the ratios of the same round. ``python -m benchmarks.memory`` measures their memory.
"""

import argparse
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.machine import machine
from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import keep_merged_weights
from whinchat.progress import Progress
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import Recipe
from whinchat.training.micro_batch import take_rows
from whinchat.training.question_objective import make_objective


@dataclass(frozen=True)
class Variant:
    """A variant of the recipe, ready to be measured.

    Attributes:
        name: its overrides.
        recipe: its recipe.
        engine: its model with a fresh adapter.
    """

    name: str
    recipe: Recipe
    engine: Engine

    def train(self, rows: Split) -> float:
        """Return how many rows a second the forward and backward passes of their batches take."""
        self.engine.model.train()
        objective, size = make_objective(self.engine, self.recipe, rows), self.recipe.train.per_device_train_batch_size
        started = time.perf_counter()
        for start in range(0, len(rows), size):
            for part in objective.parts(objective.collate(objective.examples[start : start + size])):
                torch.autograd.backward(objective.losses(take_rows(part, slice(None))).mean())
        seconds = time.perf_counter() - started
        self.engine.model.zero_grad()
        self.engine.model.eval()
        return len(rows) / seconds

    def score(self, texts: Sequence[str]) -> float:
        """Return how many texts a second are scored."""
        prompts = self.engine.template.encode(texts)
        started = time.perf_counter()
        score_prompts(
            self.engine, prompts, self.recipe.evaluate.per_device_eval_batch_size, bar=Progress(), labels_only=True
        )
        return len(texts) / (time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a shipped recipe or a file")
    parser.add_argument("--data", help="a TweetEval folder instead of the recipe's data")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override all variants")
    parser.add_argument("--variant", action="append", default=[], metavar="KEY=VALUE,...", help="one variant")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", type=int, default=128, help="texts of a round of training")
    parser.add_argument("--texts", type=int, default=512, help="texts of a round of scoring")
    options = parser.parse_args(arguments)
    source = [f"data.source={options.data}", "data.format=tweeteval", "data.config=null"] if options.data else []
    variants = [_load(options.recipe, [*source, *options.set], variant) for variant in ("", *options.variant)]
    rows = load_corpus(variants[0].recipe).train
    trained, scored = rows.head(options.train), rows.head(options.texts).texts
    print(f"{machine()}; products in {variants[0].engine.plan.compute_dtype}")
    for variant in variants:  # what is compiled once is paid for here
        variant.train(trained)
        variant.score(scored)
    speeds = [[(own.train(trained), own.score(scored)) for own in variants] for _ in range(options.rounds)]
    print("| variant | training, texts a second | ratio | scoring, texts a second | ratio |")
    print("|---|---:|---:|---:|---:|")
    for index, variant in enumerate(variants):
        cells = []
        for work in (0, 1):
            cells.append(f"{statistics.median(found[index][work] for found in speeds):.1f}")
            ratio = statistics.median(found[index][work] / found[0][work] for found in speeds)
            cells.append(f"{ratio:.2f}")
        print(f"| {variant.name or 'as it is'} | {' | '.join(cells)} |", flush=True)


def _load(recipe: str, common: Sequence[str], variant: str) -> Variant:
    # Commas inside brackets belong to a value.
    own = [override for override in re.split(r",(?![^\[]*\])", variant) if override]
    loaded = load_recipe(recipe, [*common, *own])
    backbone = load_backbone(loaded.backbone)
    model = attach_adapter(backbone.model, loaded.adapter, loaded.train.seed)
    keep_merged_weights(model, backbone.plan)  # as a trained classifier answers
    return Variant(variant, loaded, Engine.build(model, backbone.plan, backbone.tokenizer.template(loaded)))


if __name__ == "__main__":
    main()
