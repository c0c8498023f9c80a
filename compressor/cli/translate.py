"""``compress translate``: standard input to standard output, a line at a time."""

from __future__ import annotations

from compressor.cli import options, textstream

EXAMPLE = "compress translate bundles/de-en < source.txt > target.txt"


def command(
    bundle: options.Bundle,
    precision: options.Precision = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    num_beams: options.NumBeams = 1,
    max_new_tokens: options.MaxNewTokens = None,
    min_new_tokens: options.MinNewTokens = None,
    no_repeat_ngram_size: options.NoRepeatNgramSize = None,
    length_penalty: options.LengthPenalty = None,
    batch_tokens: options.BatchTokens = 4096,
    truncate: options.Truncate = False,
    expect_digest: options.Digest = None,
    json: options.JsonLines = False,
) -> None:
    """Translate standard input to standard output.

    As many lines come out as go in, and a blank line stays blank. A source over the model's limit is an error, unless
    --truncate says to cut it.
    """
    textstream.run(
        bundle,
        "translation",
        load={"precision": precision, "intra_threads": threads, "expect_digest": expect_digest, "device": device},
        generate={
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "length_penalty": length_penalty,
            "batch_tokens": batch_tokens,
            "truncation": "longest_first" if truncate else "error",
        },
        as_json=json,
    )
