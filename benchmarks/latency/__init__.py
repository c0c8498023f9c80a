"""Latency, memory and quality of engines that take turns on the same batches."""
