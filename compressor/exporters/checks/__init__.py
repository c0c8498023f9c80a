"""Checks that an export must pass before it is published."""
