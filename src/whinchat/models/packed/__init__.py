"""The packed forward pass: a batch of prompts with a shared prefix as one sequence of tokens."""
