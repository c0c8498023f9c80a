"""Writes pairs that teach a model to read: three sentences of an abstract, and one of them.

A model that learns titles from 48,000 pairs alone takes long to look at its source at all. To find one sentence again
among three and to copy it is learned in one pass. Needs no data but the abstracts:

    python configs/titles_sentences.py ../shared/data/acl_titles/train.jsonl.gz runs/sentences.jsonl.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path

from sentencex import segment

TOGETHER = 3
"""Sentences of a source."""


def main() -> None:
    """Reads JSON lines with ``source``, writes JSON lines with ``source`` and ``target``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("abstracts", type=Path, help="JSON lines, gzip")
    parser.add_argument("out", type=Path, help="JSON lines, gzip")
    options = parser.parse_args()
    draws = random.Random(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(options.abstracts, "rt", encoding="utf-8") as abstracts, gzip.open(options.out, "wt") as out:
        for line in abstracts:
            sentences = [text.strip() for text in segment("en", json.loads(line)["source"]) if text.strip()]
            first = draws.randrange(max(1, len(sentences) - TOGETHER + 1))
            chosen = sentences[first : first + TOGETHER]
            if len(chosen) > 1:
                pair = {"source": " ".join(chosen), "target": draws.choice(chosen)}
                out.write(json.dumps(pair, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
