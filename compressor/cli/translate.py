"""``compress translate``: standard input to standard output, a line at a time or as one text."""

from __future__ import annotations

from compressor.cli import textstream

EXAMPLE = "compress translate bundles/de-en < source.txt > target.txt"

command = textstream.command_of("translation", "Translate standard input to standard output, sentence by sentence.")
