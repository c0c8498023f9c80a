"""Scores of models on test sets, and whether an output depends on its batch."""
