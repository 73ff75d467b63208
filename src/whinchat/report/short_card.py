"""Build the card of a classifier without an evaluation: what it is and how to use it, without metrics."""

from importlib.metadata import version

from huggingface_hub import ModelCard, ModelCardData

from whinchat.models.device import plan_device
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.report import tables
from whinchat.report.hub_metadata import hub_link, hub_tags
from whinchat.report.markdown import Markdown, escape, fence
from whinchat.report.rendering import render_template
from whinchat.report.snippet import python_snippet
from whinchat.report.titles import base_depth, model_title


def build_short_card(recipe: Recipe, repo_id: str, base: str) -> ModelCard:
    """Return the card of an adapter that ``recipe`` trained.

    Args:
        recipe: the recipe of the training.
        repo_id: the repository from which readers load the adapter, OWNER/NAME.
        base: hub id of the base model.
    """
    plan = plan_device(recipe.backbone)
    metadata = ModelCardData(
        library_name="peft",
        base_model=base,
        base_model_relation="adapter",
        pipeline_tag="text-classification",
        tags=hub_tags(recipe, plan.load_in, base),
        model_name=repo_id.partition("/")[2],
    )
    body = render_template(
        "short_card.md.jinja",
        escape,
        title=model_title(recipe, plan.load_in, base),
        method=method_name(recipe.adapter, plan.load_in),
        base_link=hub_link(base),
        base_depth=base_depth(recipe),
        labels="" if recipe.task.questions else tables.label_list(recipe),
        questions=", ".join(recipe.task.questions),
        version=version("whinchat"),
        run=Markdown(repo_id),  # inside a code block
        snippet=fence(python_snippet(recipe, plan.load_in, plan.compute_dtype, repo_id, base), "python"),
        recipe_yaml=fence(recipe_to_yaml(recipe), "yaml"),
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")
