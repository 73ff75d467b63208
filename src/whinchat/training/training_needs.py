"""What training needs besides the weights of its model: splits, rows and packages, checked without loading torch."""

from collections.abc import Sequence
from importlib.util import find_spec

from whinchat.data.dataset import Corpus
from whinchat.errors import DataError, RecipeError
from whinchat.models.requirements import require_backbone
from whinchat.recipe.schema import Recipe
from whinchat.training.launch import world_size

# Trackers of transformers -> packages of which one is needed; transformers itself checks the names that are not here.
_TRACKER_PACKAGES = {
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dvclive": ("dvclive",),
    "mlflow": ("mlflow",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}


def require_trainable(recipe: Recipe, corpus: Corpus) -> None:
    """Check that ``corpus`` has the rows and splits that training needs, and that the packages for it are installed.

    Raises:
        DataError: there is no validation split to score during training, or fewer rows than processes.
        RecipeError: the package of a tracker is not installed.
        ModelError: the model cannot be looked for, or the package for its data type is not installed.
    """
    if recipe.train.eval_steps is not None and corpus.validation is None:
        raise DataError(
            f"{recipe.data.source}: has no validation split to score during training; set data.validation_rows to "
            "take one from train, or train.eval_steps=null"
        )
    if (processes := world_size()) > len(corpus.train):
        raise DataError(
            f"{recipe.data.source}: has fewer training rows ({len(corpus.train)}) than training processes "
            f"({processes}); start fewer (accelerate launch --num_processes)"
        )
    _require_trackers(recipe.train.report_to)
    require_backbone(recipe.backbone)


def _require_trackers(names: Sequence[str]) -> None:
    for name in names:
        packages = _TRACKER_PACKAGES.get(name, ())
        if packages and not any(map(find_spec, packages)):
            raise RecipeError(
                f"train.report_to: {name} cannot be used (needs the package {packages[0]}); install it or take it out"
            )
