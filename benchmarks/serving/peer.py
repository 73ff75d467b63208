"""What a user would write: ``pipeline("text-classification", FOLDER)`` behind FastAPI.

``python -m benchmarks.serving.peer FOLDER PORT``, with a folder of ``whinchat export --to classifier``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Asked(BaseModel):
    """A request."""

    texts: str


def main() -> None:
    """Serve until told to stop."""
    folder, port = sys.argv[1:]
    classify = pipeline("text-classification", folder, dtype=torch.bfloat16, top_k=None)
    app = FastAPI()

    # No `async`: FastAPI calls it in a thread, so that others are heard meanwhile.
    @app.post("/v1/classify")
    def answer(asked: Asked) -> Any:
        return classify(asked.texts, truncation=True)

    @app.get("/ready")
    def ready() -> str:
        return "ready"

    uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
