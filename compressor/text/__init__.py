"""Text without models: sentences, tokenizers and metrics."""
