"""Export format "merged": one model without an adapter, for transformers and for every command of whinchat."""

from importlib.metadata import version
from pathlib import Path
from typing import get_args

from transformers import AutoTokenizer, PreTrainedModel

from whinchat.checksums import write_checksums
from whinchat.data.learned_texts import read_learned, write_learned
from whinchat.evaluation.calibrator import save_calibrators
from whinchat.export.exporter import ExportJob, FileProof, QuestionExporter, QuestionsExportJob
from whinchat.export.question_prompts import QuestionPrompts
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.models.adapters import load_trained_adapter, merge_adapter
from whinchat.models.backbone import Backbone, load_backbone
from whinchat.models.forward import Engine
from whinchat.progress import logger
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.task import Cleaning, Task
from whinchat.storage.locate import SavedClassifier


class MergedExporter(QuestionExporter):
    """Writes weights, tokenizer and chat template for transformers; recipe and calibration for whinchat.

    All questions stand in ``prompts.json``, too, for programs without whinchat.
    """

    name = "merged"
    carried_steps = get_args(Cleaning)

    def write(self, job: ExportJob) -> None:
        """Write the merged model in the data type that the classifier computes in."""
        # The task of the classifier in memory has the date of its prompts, also where an older run did not store one.
        _write_model(job.saved, job.predictor.engine, job.predictor.recipe.task, job.folder)
        job.predictor.calibrator.save(job.folder)
        write_checksums(job.folder)
        _carry_learned(job.saved, job.folder)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Predict with whinchat from the written folder."""
        predictions = Predictor.load(job.folder).predict(job.texts)
        reader = f"whinchat {version('whinchat')}"
        return (job.compare("model.safetensors", reader, predictions.label_names, predictions.probabilities),)

    def write_questions(self, job: QuestionsExportJob) -> None:
        """Write the same with the calibration and the prompt of each decision."""
        _write_model(job.saved, job.predictor.engines[0], job.predictor.recipe.task, job.folder)
        save_calibrators(job.predictor.calibrators, job.predictor.recipe.task.decisions, job.folder)
        QuestionPrompts.of(job.predictor).save(job.folder)
        write_checksums(job.folder)
        _carry_learned(job.saved, job.folder)

    def prove_questions(self, job: QuestionsExportJob) -> tuple[FileProof, ...]:
        """Predict with whinchat from the written folder, and make the prompts with transformers from ``prompts.json``.

        Raises:
            ModelError: the prompts are not those of the classifier.
        """
        tokenizer = AutoTokenizer.from_pretrained(job.folder, trust_remote_code=False)
        QuestionPrompts.read(job.folder).require_alike(job.predictor.engines, job.texts, tokenizer)
        predictions = QuestionPredictor.load(job.folder).predict(job.texts)
        reader = f"whinchat {version('whinchat')}"
        return tuple(
            own.compare("model.safetensors", reader, read.label_names, read.probabilities)
            for own, read in zip(job.decisions, predictions.decisions, strict=True)
        )


EXPORTER = MergedExporter()


def _write_model(saved: SavedClassifier, engine: Engine, task: Task, folder: Path) -> None:
    """Write merged weights in the data type of ``engine``, tokenizer, chat template, and a recipe with ``task``."""
    model, _ = merge(saved)
    model.to(engine.plan.torch_dtype)
    model.save_pretrained(folder)
    engine.template.chat_tokenizer().save_pretrained(folder)
    stored = {"load_in": str(model.dtype).removeprefix("torch."), "compute_dtype": "auto"}
    changed = {"task": task, "backbone": saved.recipe.backbone.model_copy(update=stored)}
    write_recipe(saved.recipe.model_copy(update=changed), folder)


def _carry_learned(saved: SavedClassifier, folder: Path) -> None:
    """Write what the classifier has learned. It has no checksum, so whoever gives the folder away may delete it."""
    if (learned := read_learned(saved.folder)) is not None:
        write_learned(folder, learned)
    else:
        logger.info(f"{saved.folder}: does not say which texts it has learned, so measurements on them go unnoticed")


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
