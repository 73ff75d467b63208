"""Fuzzing: hostile recipes, tables, texts, model files and requests, each with what must hold for the outcome.

A small sample runs with the other tests. ``python -m fuzz`` runs any number of cases and writes the table of
``docs/reliability.md``.
"""
