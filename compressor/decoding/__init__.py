"""Greedy and beam search as torch modules, used by rollouts, teachers and export."""
