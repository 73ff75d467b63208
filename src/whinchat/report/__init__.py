"""Publishing: the run folder, its figures, report and model card."""
