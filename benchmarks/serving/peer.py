"""The server that a user would write: ``pipeline("text-classification", FOLDER)`` behind FastAPI.

``python -m benchmarks.serving.peer FOLDER PORT``, with a folder of ``whinchat export --to classifier``.
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Request(BaseModel):
    texts: str


def main() -> None:
    """Serve until the process is ended."""
    folder, port = sys.argv[1:]
    classify = pipeline("text-classification", folder, dtype=torch.bfloat16, top_k=None, trust_remote_code=False)
    app = FastAPI()

    # Not `async`, so FastAPI calls it in a thread and accepts other requests meanwhile.
    @app.post("/v1/classify")
    def answer(request: Request) -> Any:
        return classify(request.texts, truncation=True)

    @app.get("/ready")
    def ready() -> str:
        return "ready"

    uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
