"""Figures, model cards and HTML reports, all drawn from the stored record of a run."""
