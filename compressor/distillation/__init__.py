"""Imitation-learning distillation (Lin et al. 2020) and its rivals."""
