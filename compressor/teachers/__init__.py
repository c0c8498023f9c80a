"""Models that give advice: Hugging Face checkpoints and the project's own."""
