"""A model in Marian's layout for other engines: ``python -m benchmarks.converters.ENGINE MODEL FOLDER``.

Every folder holds the model in the engine's form, the tokenizer, and ``about.json``: what else must be known.
"""
