"""Ways to run a model: a folder each, with a descriptor, a ``load`` function and, where needed, a converter."""
