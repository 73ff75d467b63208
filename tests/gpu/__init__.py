"""Tests for a real accelerator; ``make test-gpu`` runs them."""
