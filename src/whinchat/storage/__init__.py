"""Files on disk: run folders, review folders, predictions, and how each is written and read."""
