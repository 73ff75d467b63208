"""Export format "merged": one model without an adapter, for transformers and for every command of whinchat."""

from importlib.metadata import version
from typing import get_args

from transformers import PreTrainedModel

from whinchat.checksums import write_checksums
from whinchat.export.exporter import Exporter, ExportJob, FileProof
from whinchat.inference.predictor import Predictor
from whinchat.models.adapters import load_trained_adapter, merge_adapter
from whinchat.models.backbone import Backbone, load_backbone
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.task import Cleaning
from whinchat.storage.locate import SavedClassifier


class MergedExporter(Exporter):
    """Writes weights, tokenizer and chat template for transformers; recipe and calibration for whinchat."""

    name = "merged"
    carried_steps = get_args(Cleaning)

    def write(self, job: ExportJob) -> None:
        """Write the merged model in the data type that the classifier computes in."""
        model, _ = merge(job.saved)
        model.to(job.predictor.engine.plan.torch_dtype)
        model.save_pretrained(job.folder)
        job.predictor.engine.template.save_tokenizer(job.folder)
        stored = {"load_in": str(model.dtype).removeprefix("torch."), "compute_dtype": "auto"}
        recipe = job.saved.recipe
        # The task of the classifier in memory has the date of its prompts, also where an older run did not store one.
        changed = {"task": job.predictor.engine.template.task, "backbone": recipe.backbone.model_copy(update=stored)}
        write_recipe(recipe.model_copy(update=changed), job.folder)
        job.predictor.calibrator.save(job.folder)
        write_checksums(job.folder)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Predict with whinchat from the written folder."""
        predictions = Predictor.load(job.folder).predict(job.texts)
        reader = f"whinchat {version('whinchat')}"
        return (job.compare("model.safetensors", reader, predictions.label_names, predictions.probabilities),)


EXPORTER = MergedExporter()


def merge(saved: SavedClassifier) -> tuple[PreTrainedModel, Backbone]:
    """Add the adapter to the base weights, in float32 on the CPU; return the model and the backbone it came from.

    An adapter that was trained on NF4 weights is added to the unquantized weights, so the merged model differs from the
    trained one by the rounding of NF4.

    Raises:
        ModelError: the backbone cannot be loaded, or the adapter does not fit it, was trained on another or cannot
            be merged.
    """
    full = {"load_in": "float32", "compute_dtype": "float32", "device": "cpu"}
    backbone = load_backbone(saved.recipe.backbone.model_copy(update=full), trained=saved.folder)
    if not saved.has_adapter:
        return backbone.model, backbone
    return merge_adapter(load_trained_adapter(backbone, saved.folder)), backbone
