"""Training: a transformers.Trainer whose batches and loss are ours."""
