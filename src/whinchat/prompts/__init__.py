"""Prompts: from a text to token ids and batches."""
