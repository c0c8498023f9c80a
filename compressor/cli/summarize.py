"""``compress summarize``: standard input to standard output, a line at a time."""

from __future__ import annotations

from compressor.cli import textstream

EXAMPLE = "compress summarize bundles/titles < source.txt > target.txt"

command = textstream.command_of("summarization", "Summarize standard input, a text a line.")
