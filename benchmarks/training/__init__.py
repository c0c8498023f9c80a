"""The cost of training updates."""
