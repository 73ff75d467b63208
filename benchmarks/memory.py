"""Compare the estimated memory of training with the measured peak, in a process of its own for each recipe.

    python -m benchmarks.memory smollm2-lora-tweeteval --data FOLDER --set backbone.load_in=float32

The measured process scores, and then trains two steps on, the longest texts of the recipe's data.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whinchat.data.sources import load_corpus
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.models.memory import peak_memory_bytes
from whinchat.models.training_memory import BatchShape, estimate_training_bytes
from whinchat.prompts.batching import shared_prefix
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import Recipe
from whinchat.training.trainer import AnswerTrainer, training_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line with the estimate, the measured peak and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Estimate and peak of training.")
    parser.add_argument("recipe", help="a shipped recipe or a file")
    parser.add_argument("--data", help="a TweetEval folder instead of the recipe's data")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override the recipe")
    options = parser.parse_args(arguments)
    source = [f"data.source={options.data}", "data.format=tweeteval", "data.config=null"] if options.data else []
    json.dump(compare(load_recipe(options.recipe, [*source, *options.set])), sys.stdout)
    print()
    return 0


def compare(recipe: Recipe) -> dict[str, Any]:
    """Return the estimate for the longest batch of ``recipe``, and the peak of this process after training on it."""
    rows = load_corpus(recipe).train
    backbone = load_backbone(recipe.backbone)
    template = backbone.tokenizer.template(recipe)
    size = recipe.train.per_device_train_batch_size
    lengths = [len(prompt.ids) for prompt in template.encode(rows.texts)]
    longest = rows.take(sorted(range(len(rows)), key=lambda row: -lengths[row])[:size])
    prompts = template.encode(longest.texts)
    prefix = shared_prefix([prompt.ids for prompt in prompts])
    text = round(sum(len(prompt.ids) - prefix for prompt in prompts) / len(prompts))
    shape = BatchShape(len(prompts), prefix, text)
    estimate = estimate_training_bytes(backbone.model, backbone.plan, recipe.adapter, shape)
    engine = Engine.build(attach_adapter(backbone.model, recipe.adapter, recipe.train.seed), backbone.plan, template)
    score_prompts(engine, prompts, recipe.evaluate.per_device_eval_batch_size)
    short = {"max_steps": 2, "gradient_accumulation_steps": 1, "eval_steps": None, "keep": "last"}
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=short)})
    with tempfile.TemporaryDirectory() as folder:
        settings = training_arguments(recipe, backbone.plan, Path(folder))
        settings.set_save(strategy="no")
        AnswerTrainer(engine, recipe, longest, None, args=settings).train()
    peak = peak_memory_bytes()
    return {
        "recipe": recipe.name, "load_in": backbone.plan.load_in, "compute_dtype": backbone.plan.compute_dtype,
        "rows": size, "prefix_tokens": prefix, "text_tokens": text, "estimated_gb": round(estimate / 1e9, 2),
        "measured_gb": round(peak / 1e9, 2), "ratio": round(estimate / peak, 2),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
