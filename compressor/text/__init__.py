"""Text without models: tokenizers and metrics."""
