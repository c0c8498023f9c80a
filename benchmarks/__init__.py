"""Measurements: quality and latency of a student beside its teacher, and the cost of training it.

What the commands call::

    from benchmarks.latency import BenchConfig, run          # compress bench
    table = run(BenchConfig(bundle=Path("bundles/de-en"), teacher="DIR", source=Path("F"), reference=Path("F")))

    from benchmarks import report
    report.terminal(table)                                   # tables for people
    report.write_json(table, path)                           # whole or not at all; write_markdown, write_html likewise

    from benchmarks.evaluation import evaluate               # compress evaluate: bundle, run or teacher folder
    done = evaluate("bundles/de-en", source=Path("F"), reference=Path("F"), precision="int8")
    done.scores, done.hypotheses

Commands of their own: ``python -m benchmarks.report FILE``, ``python -m benchmarks.update_cost CONFIG``,
``python -m benchmarks.peers --json FILE`` (other engines), ``python -m benchmarks.cost --json FILE`` (how the time of a
search grows, and its share of the hardware's floor) and ``python -m benchmarks.independence BUNDLE`` (whether an output
depends on its batch).

The modules, lower never importing higher: ``timing``, ``memory`` and ``progress`` know nothing of models; ``engines``
are the ways to run one; ``worker`` gives each its own process; ``settings`` finds out who takes part; ``evaluation``
and ``latency`` make results; ``page`` and ``report`` show them; ``update_cost`` compares training updates; ``shapes``
makes models of random weights, which ``peers`` (cell by cell, ``cells``) and ``cost`` run. Of the cost of a search,
``fit`` knows nothing but numbers, ``floors`` measures a core, ``counts`` knows what a search has to do, ``cost_model``
puts these together, ``cost_table`` shows it, ``cost`` measures.
"""
