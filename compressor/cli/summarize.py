"""``compress summarize``: standard input to standard output, a text a line, a JSON record, or the whole input."""

from __future__ import annotations

from compressor.cli import textstream

EXAMPLE = "compress summarize bundles/titles --document < abstract.txt"

command = textstream.command_of("summarization", "Summarize the texts of standard input.")
