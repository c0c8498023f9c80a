"""Measurements: quality and latency of students beside their teacher and other engines, and the cost of training.

From Python::

    from benchmarks.latency.bench import run                 # compress bench
    from benchmarks.latency.config import BenchConfig
    table = run(BenchConfig(bundles=(Path("bundles/de-en"),), teacher="DIR", source=Path("F"), reference=Path("F")))

    from benchmarks.reports import table as tables           # terminal, write_markdown, write_html
    tables.terminal(table)

    from benchmarks.quality.config import EvaluateConfig     # compress evaluate: bundle, run or checkpoint
    from benchmarks.quality.evaluate import evaluate
    done = evaluate("bundles/de-en", EvaluateConfig(source=Path("F"), reference=Path("F"), precision="int8"))
    done.scores, done.hypotheses

Other measurements are commands: ``python -m benchmarks --help``.

``measure`` times calls and knows nothing of models. ``engines`` are the ways to run one: a folder for each, which says
all that is known of that engine, and a process for each loaded model. ``quality`` scores outputs, ``latency`` times
them, ``training`` times updates, ``serving`` loads HTTP servers, ``roofline`` compares a search with the core's limits,
and ``reports`` shows results.
"""
