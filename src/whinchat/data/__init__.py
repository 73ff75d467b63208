"""The data stage: from a source to checked splits."""
