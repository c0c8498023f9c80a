"""To Marian's own form: ``python -m benchmarks.converters.marian MODEL FOLDER``.

The words of its vocabulary are token ids (``w17``), so that it takes and gives what every other engine does. Names of
parameters and settings are those that Marian writes for ``--type transformer --tied-embeddings-all``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from benchmarks.converters.about import MODEL
from benchmarks.converters.describe import describe
from compressor.errors import ModelError
from compressor.exporters.checkpoints import load_exportable
from compressor.models.weights import Run

NPZ, VOCABULARY = "model.npz", "vocab.yml"
SUPPRESSED = -1e9

_NORMS = {"frame": "self_Wo", "self_frame": "self_Wo", "cross_frame": "context_Wo", "feed_forward.frame": "ffn_ffn"}
_PRODUCTS = {
    "attention.out": "self_{}o",
    "self_attention.out": "self_{}o",
    "cross_attention.query": "context_{}q",
    "cross_attention.out": "context_{}o",
    "feed_forward.expand": "ffn_{}1",
    "feed_forward.contract": "ffn_{}2",
}
_FUSED = {"attention.qkv": ("self", "qkv"), "self_attention.qkv": ("self", "qkv"),
          "cross_attention.key_value": ("context", "kv")}  # fmt: skip


def convert(source: Path, folder: Path) -> None:
    """Writes the converted folder.

    Raises:
        ModelError: the layout is not Marian's, or padding is not the last token.
    """
    run = load_exportable(source)
    (folder / MODEL).mkdir(parents=True)
    np.savez(folder / MODEL / NPZ, **parameters(run))
    words = {f"w{index}": index for index in range(run.model.config.vocab_size - 1)}
    special = {"</s>": run.generation.eos_id, "<unk>": _unknown(run)}
    words = special | {word: index for word, index in words.items() if index not in special.values()}
    text = "".join(f'"{word}": {index}\n' for word, index in sorted(words.items(), key=lambda item: item[1]))
    (folder / MODEL / VOCABULARY).write_text(text, encoding="utf-8")
    describe(run, folder)


def parameters(run: Run) -> dict[str, Any]:
    """Marian's arrays by name; products are [inputs, outputs], biases [1, outputs]."""
    config, rules = run.model.config, run.generation
    if rules.pad_id != config.vocab_size - 1 or rules.start_id != rules.pad_id or config.norm != "post":
        raise ModelError("only a post-norm model whose last token is padding, where decoding starts, is Marian's")
    state = run.model.state_dict()
    bias = state["output_bias"].clone()
    bias[list(rules.suppressed_ids)] = SUPPRESSED
    found = {"Wemb": _array(state["embedding.shared"][:-1]), "decoder_ff_logit_out_b": _array(bias[None, :-1])}
    for name, value in state.items():
        side, _, rest = name.partition(".")
        if side in ("encoder", "decoder"):
            layer, _, rest = rest.partition(".")
            found |= {f"{side}_l{int(layer) + 1}_{key}": array for key, array in _layer(rest, value).items()}
    found["special:model.yml"] = np.frombuffer(yaml.safe_dump(_settings(run)).encode() + b"\0", np.int8)
    return found


def _layer(name: str, value: Tensor) -> dict[str, Any]:
    module, _, kind = name.rpartition(".")
    letter = "W" if kind == "weight" else "b"
    if module.endswith(".norm"):
        norm = _NORMS[module.removesuffix(".norm")]
        return {f"{norm}_ln_{'scale' if kind == 'weight' else 'bias'}": _array(value[None])}
    if module in _FUSED:
        place, parts = _FUSED[module]
        pieces = zip(parts, value.chunk(len(parts)), strict=True)
        return {f"{place}_{letter}{part}": _product(piece) for part, piece in pieces}
    return {_PRODUCTS[module].format(letter): _product(value)}


def _product(value: Tensor) -> Any:
    return _array(value.T if value.dim() == 2 else value[None])


def _array(value: Tensor) -> Any:
    return np.ascontiguousarray(value.detach().float().numpy())


def _unknown(run: Run) -> int:
    """Marian wants a word for what is unknown: any token that is neither the end nor padding will do."""
    return next(index for index in range(2) if index != run.generation.eos_id)


def _settings(run: Run) -> dict[str, Any]:
    config = run.model.config
    return {
        "type": "transformer",
        "version": "v1.12.0",
        "dim-vocabs": [config.vocab_size - 1] * 2,
        "dim-emb": config.d_model,
        "lemma-dim-emb": 0,
        "enc-depth": config.encoder_layers,
        "dec-depth": config.decoder_layers,
        "transformer-heads": config.num_heads,
        "transformer-dim-ffn": config.encoder_ffn,
        "transformer-decoder-dim-ffn": config.decoder_ffn,
        "transformer-ffn-depth": 2,
        "transformer-decoder-ffn-depth": 2,
        "transformer-ffn-activation": config.activation,
        "transformer-preprocess": "",
        "transformer-postprocess": "dan",
        "transformer-postprocess-emb": "d",
        "transformer-postprocess-top": "",
        "transformer-decoder-autoreg": "self-attention",
        "transformer-train-position-embeddings": False,
        "transformer-depth-scaling": False,
        "transformer-no-projection": False,
        "transformer-pool": False,
        "transformer-dim-aan": 2048,
        "transformer-aan-depth": 2,
        "transformer-aan-activation": "swish",
        "transformer-aan-nogate": False,
        "transformer-tied-layers": [],
        "transformer-guided-alignment-layer": "last",
        "tied-embeddings": False,
        "tied-embeddings-src": False,
        "tied-embeddings-all": True,
        "skip": False,
        "input-types": [],
        "ulr": False,
        "ulr-dim-emb": 0,
        "ulr-trainable-transformation": False,
        "layer-normalization": False,
        "right-left": False,
    }


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
