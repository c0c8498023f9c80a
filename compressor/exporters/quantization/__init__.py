"""From fp32 graphs to int8, int4 and mixed ones."""
