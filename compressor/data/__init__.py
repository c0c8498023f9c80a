"""Corpora: reading, cleaning, batching, the embedded synthetic corpus, and training of a SentencePiece model."""
