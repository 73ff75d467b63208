"""Texts and classifiers that the tests of exports share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers import tiny_models
from whinchat.evaluation.calibrator import Calibrator
from whinchat.inference.predictor import Predictor

TEXTS = list(tiny_models.toy_rows(40, tiny_models.ONE_TOKEN, 11)[0])


def texts_file(folder: Path, texts: list[str] = TEXTS) -> Path:
    """Write the table that the proof of an export is made on."""
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def predictor_of(model: Path, labels: tuple[str, ...], **task: Any) -> Predictor:
    """An untrained classifier, which answers through no calibration."""
    recipe = tiny_models.tiny_recipe(model, task={"labels": labels, **task})
    return Predictor(recipe, tiny_models.engine_of(tiny_models.load(model), labels, **task), Calibrator(labels))
