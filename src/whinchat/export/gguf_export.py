"""Export format "gguf": float16 and Q8_0 files for llama.cpp and Ollama, with a ``Modelfile``."""

from typing import Any

from whinchat.export.exporter import ClassifierOutline, Exporter, ExportJob, FileProof
from whinchat.export.gguf_reader import gguf_reader_name, gguf_scores
from whinchat.export.gguf_writer import TokenizerFamily, gguf_paths, require_convertible, write_gguf
from whinchat.export.merged import merge
from whinchat.export.modelfile import PromptFrame, modelfile, prompt_frame, require_quotable
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.storage.atomic import write_text


class GgufExporter(Exporter):
    """Writes the merged model as GGUF, the prompt as a ``Modelfile``, and the calibration for readers of logits."""

    name = "gguf"

    def check(self, outline: ClassifierOutline) -> None:
        """Raise ModelError unless llama.cpp knows architecture and tokenizer and a Modelfile can hold the prompt."""
        require_quotable(outline.recipe.task.instruction)
        _family_and_frame(outline.recipe, outline.config, outline.template)

    def write(self, job: ExportJob) -> None:
        """Write both GGUF files, the ``Modelfile`` and the calibration."""
        name, template = job.saved.recipe.name, job.predictor.engine.template
        family, frame = _of_predictor(job.predictor)
        model, _ = merge(job.saved)
        paths = write_gguf(model, template, family, frame.chat_template, name, job.folder)
        write_text(job.folder / "Modelfile", modelfile(template, frame, name, paths[-1].name))
        job.predictor.calibrator.save(job.folder)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Score the texts with llama.cpp or transformers; calibrate the scores as the classifier does."""
        _, frame = _of_predictor(job.predictor)
        reader, proofs = gguf_reader_name(), []
        for path in gguf_paths(job.saved.recipe.name, job.folder):
            scores = gguf_scores(path, frame, job.predictor, job.texts)
            read = Predictions.from_scores(scores, job.predictor.calibrator)
            labels, shares = read.label_names, read.probabilities
            flipped = int((scores.argmax(axis=1) != job.predictions.label_indices).sum())
            proofs.append(job.compare(path.name, reader, labels, shares, flipped_uncalibrated=flipped))
        return tuple(proofs)


EXPORTER = GgufExporter()


def _of_predictor(predictor: Predictor) -> tuple[TokenizerFamily, PromptFrame]:
    return _family_and_frame(predictor.recipe, predictor.engine.model.config, predictor.engine.template)


def _family_and_frame(recipe: Recipe, config: Any, template: PromptTemplate) -> tuple[TokenizerFamily, PromptFrame]:
    family = require_convertible(config, template, recipe.backbone.model)
    return family, prompt_frame(template, family)
