"""The card of a classifier that was measured nowhere: what it is and how it is used, and no figure."""

from __future__ import annotations

from importlib.metadata import version

from huggingface_hub import ModelCard, ModelCardData

from whinchat.models.device import plan_device
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe, method_name
from whinchat.report import tables
from whinchat.report.card import hub_link, tags_of
from whinchat.report.markdown import Markdown, escape, fence
from whinchat.report.rendering import render_template
from whinchat.report.snippet import python_snippet


def build_short_card(recipe: Recipe, repo_id: str, base: str) -> ModelCard:
    """The card of the adapter that ``recipe`` made, in the repository ``repo_id``.

    Args:
        recipe: how it was trained.
        repo_id: what readers load it by.
        base: hub id of its base model.
    """
    plan = plan_device(recipe.backbone)
    metadata = ModelCardData(
        library_name="peft",
        base_model=base,
        base_model_relation="adapter",
        pipeline_tag="text-classification",
        tags=tags_of(recipe, plan.load_in, base),
        model_name=repo_id.partition("/")[2],
    )
    body = render_template(
        "short_card.md.jinja",
        escape,
        name=metadata.model_name,
        method=method_name(recipe.adapter, plan.load_in),
        base_link=hub_link(base),
        labels=tables.label_list(recipe),
        version=version("whinchat"),
        run=Markdown(repo_id),  # inside a code block
        snippet=fence(python_snippet(recipe, plan.load_in, plan.compute_dtype, repo_id, base), "python"),
        recipe_yaml=fence(recipe_to_yaml(recipe), "yaml"),
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")
