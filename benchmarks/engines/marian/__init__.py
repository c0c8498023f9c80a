"""Marian, through pymarian."""
