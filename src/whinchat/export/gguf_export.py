"""Export format "gguf": float16 and Q8_0 files for llama.cpp and Ollama, with a ``Modelfile``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whinchat.export.exporter import ClassifierOutline, ExportJob, FileProof, QuestionExporter, QuestionsExportJob
from whinchat.export.gguf_reader import gguf_question_scores, gguf_reader_name, gguf_scores
from whinchat.export.gguf_writer import TokenizerFamily, gguf_paths, require_convertible, write_gguf
from whinchat.export.merged import merge
from whinchat.export.modelfile import PromptFrame, modelfile, prompt_frame, require_quotable
from whinchat.export.question_prompts import QuestionPrompts
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.models.forward import Engine
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.question import TEXT_SLOT
from whinchat.recipe.schema import Recipe
from whinchat.storage.atomic import write_text


class GgufExporter(QuestionExporter):
    """Writes the merged model as GGUF, the prompt as a ``Modelfile``, and the calibration for readers of logits.

    All questions stand in ``prompts.json`` with their calibrations; the ``Modelfile`` holds what their prompts share.
    """

    name = "gguf"

    def check(self, outline: ClassifierOutline) -> None:
        """Raise ModelError unless llama.cpp knows architecture and tokenizer and a Modelfile can hold the prompt."""
        require_quotable(outline.recipe.task.instruction)
        _family_and_frame(outline.recipe, outline.config, outline.template)

    def write(self, job: ExportJob) -> None:
        """Write both GGUF files, the ``Modelfile`` and the calibration."""
        _write_files(job, [job.predictor.engine], *_of_predictor(job.predictor))
        job.predictor.calibrator.save(job.folder)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Score the texts with llama.cpp or transformers; calibrate the scores as the classifier does."""
        _, frame = _of_predictor(job.predictor)
        proofs = []
        for path in gguf_paths(job.saved.recipe.name, job.folder):
            scores = gguf_scores(path, frame, job.predictor, job.texts)
            read = Predictions.from_scores(scores, job.predictor.calibrator)
            proofs.append(_compare(job, path, read, scores))
        return tuple(proofs)

    def write_questions(self, job: QuestionsExportJob) -> None:
        """Write both GGUF files, the ``Modelfile``, and the prompt and the calibration of each decision."""
        _write_files(job, job.predictor.engines, *_of_questions(job.predictor))
        QuestionPrompts.of(job.predictor).save(job.folder)

    def prove_questions(self, job: QuestionsExportJob) -> tuple[FileProof, ...]:
        """Ask the questions of ``prompts.json`` with llama.cpp or transformers, and calibrate as the file says."""
        _, frame = _of_questions(job.predictor)
        prompts, template = QuestionPrompts.read(job.folder), job.predictor.engines[0].template
        # Without llama.cpp, the token ids come from whinchat and not from the file.
        prompts.require_alike(job.predictor.engines, job.texts, template.chat_tokenizer())
        asked = prompts.decisions
        proofs = []
        for path in gguf_paths(job.saved.recipe.name, job.folder):
            found = gguf_question_scores(path, frame, asked, job.predictor, job.texts)
            for own, decision, scores in zip(job.decisions, asked, found, strict=True):
                proofs.append(_compare(own, path, decision.predictions(scores), scores))
        return tuple(proofs)


def _write_files(
    job: ExportJob | QuestionsExportJob, engines: Sequence[Engine], family: TokenizerFamily, frame: PromptFrame
) -> None:
    """Write both GGUF files, and the ``Modelfile`` for the answers of ``engines``."""
    model, _ = merge(job.saved)
    name, template = job.saved.recipe.name, engines[0].template
    paths = write_gguf(model, template, family, frame.chat_template, name, job.folder)
    longest = max(len(answer) for engine in engines for answer in engine.template.answers)
    write_text(job.folder / "Modelfile", modelfile(template, frame, name, paths[-1].name, longest))


def _compare(job: ExportJob, path: Path, read: Predictions, scores: NDArray[np.float32]) -> FileProof:
    """Compare the predictions that were read from a file, and the labels of its plain scores, (N, K)."""
    flipped = int((scores.argmax(axis=1) != job.predictions.label_indices).sum())
    return job.compare(
        path.name, gguf_reader_name(), read.label_names, read.probabilities, flipped_uncalibrated=flipped
    )


EXPORTER = GgufExporter()


def _of_predictor(predictor: Predictor) -> tuple[TokenizerFamily, PromptFrame]:
    return _family_and_frame(predictor.recipe, predictor.engine.model.config, predictor.engine.template)


def _of_questions(predictor: QuestionPredictor) -> tuple[TokenizerFamily, PromptFrame]:
    """Return the frame of a whole user message: text and question, and the instruction where that is part of it."""
    engine, task = predictor.engines[0], predictor.recipe.task
    plain = task.of_decision(task.decisions[0]).model_copy(update={"user_template": TEXT_SLOT})
    template = engine.template.for_task(plain, engine.template.max_prompt_tokens)
    family, frame = _family_and_frame(predictor.recipe, engine.model.config, template)
    return family, frame if template.system_role else replace(frame, between="", takes_instruction=False)


def _family_and_frame(recipe: Recipe, config: Any, template: PromptTemplate) -> tuple[TokenizerFamily, PromptFrame]:
    family = require_convertible(config, template, recipe.backbone.model)
    return family, prompt_frame(template, family)
