"""What all tests share: one thread, no hub, the folder of real data where there is one, and a tiny model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

# Before numpy, torch or a tokenizer is imported: results and times must not depend on the machine's cores.
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
)

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
_deselected = pytest.StashKey[int]()

NOUNS = {
    "Hund": "dog",
    "Mann": "man",
    "Baum": "tree",
    "Vogel": "bird",
    "Junge": "boy",
    "Arzt": "doctor",
    "Tisch": "table",
}
VERBS = {"sieht": "sees", "sucht": "seeks", "malt": "paints", "kennt": "knows", "ruft": "calls"}

TINY_RECIPE = """
task: translation
source_language: de
target_language: en
licence: Apache-2.0
data:
  root: {root}
  train: [{{source: train.de, target: train.en}}]
  dev: [{{source: dev.de, target: dev.en}}]
  max_source_tokens: 32
  max_target_tokens: 24
tokenizer: {{vocab_size: 52, byte_fallback: false}}
student:
  d_model: 32
  encoder_layers: 1
  decoder_layers: 1
  num_heads: 2
  encoder_ffn: 64
  decoder_ffn: 64
  max_length: 32
  dropout: 0.0
method: {{name: vanilla}}
training:
  updates: 150
  batch_tokens: 400
  learning_rate: 0.01
  warmup_updates: 10
  threads: 1
  precision: fp32
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the tests that read ../shared where it is absent; the summary says how many."""
    if SHARED.is_dir():
        return
    needing = [
        item for item in items if item.get_closest_marker("shared") or "shared" in getattr(item, "fixturenames", ())
    ]
    if needing:
        chosen = set(needing)
        items[:] = [item for item in items if item not in chosen]
        config.hook.pytest_deselected(items=needing)
    config.stash[_deselected] = len(needing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(_deselected, 0)
    if count:
        terminalreporter.write_line(
            f"notice: {count} tests that read ../shared were deselected, it is absent", yellow=True
        )


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and teachers beside the repository; a test that asks for it runs only where it exists."""
    return SHARED


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.de, train.en, dev.de, dev.en: "Der Hund sieht den Baum." word by word."""
    pairs = [
        (f"Der {a} {verb} den {b}.", f"The {NOUNS[a]} {VERBS[verb]} the {NOUNS[b]}.")
        for a, verb, b in itertools.product(NOUNS, VERBS, NOUNS)
    ]
    folder = tmp_path_factory.mktemp("corpus")
    for name, chosen in {"dev": pairs[::8], "train": [pair for i, pair in enumerate(pairs) if i % 8]}.items():
        for side, language in enumerate(("de", "en")):
            text = "".join(f"{pair[side]}\n" for pair in chosen)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(tiny_corpus: Path) -> Path:
    """A recipe that trains a model of some 30,000 parameters on the tiny corpus in seconds."""
    path = tiny_corpus / "recipe.yaml"
    path.write_text(TINY_RECIPE.format(root=tiny_corpus), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a trained tiny model."""
    import compressor

    return compressor.train(tiny_recipe, tmp_path_factory.mktemp("runs") / "tiny", progress=False)


@pytest.fixture(scope="session")
def trace_once(tiny_run: Path) -> Callable[[pytest.MonkeyPatch], None]:
    """Makes exports of the tiny model take its graphs from the one time that they were traced: it takes 20 seconds."""
    from compressor.exporters import export, label_engine
    from compressor.exporters.graphs.search_loop import build_graphs
    from compressor.models.weights import load_run

    run = load_run(tiny_run)
    graphs = build_graphs(run.model, run.generation)

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (export, label_engine):
            monkeypatch.setattr(
                module, "build_graphs", lambda *_: {name: graph.clone() for name, graph in graphs.items()}
            )

    return patch


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_run: Path, trace_once: Callable[[pytest.MonkeyPatch], None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bundle of the tiny model, in fp32 and int8; ungated, since a score on 30 sentences is luck."""
    import compressor

    with pytest.MonkeyPatch.context() as monkeypatch:
        trace_once(monkeypatch)
        return compressor.export(tiny_run, tmp_path_factory.mktemp("bundles") / "tiny", ungated=True)
