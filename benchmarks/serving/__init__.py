"""Load test of ``whinchat serve`` beside transformers' ``pipeline`` behind FastAPI, with the same weights."""
