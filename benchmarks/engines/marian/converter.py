"""Converts a model to Marian's own format: ``python -m benchmarks.engines.marian.converter MODEL FOLDER``.

The words of its vocabulary are token ids (``w17``), so that this engine takes and returns the ids that every other
engine does. Names of parameters and settings are those that Marian writes for ``--type transformer
--tied-embeddings-all``; the weights come from the model as a Hugging Face MarianMT checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from benchmarks.engines.converted_model import MODEL
from benchmarks.engines.converted_writer import write_description
from compressor.errors import ModelError
from compressor.exporters.checkpoints import load_exportable
from compressor.models.weights import Run
from compressor.teachers.conversion.marian import to_marian

NPZ, VOCABULARY = "model.npz", "vocab.yml"
SUPPRESSED = -1e9
"""Output bias of a token that is never generated."""

MATMULS = {
    "self_attn.q_proj": "self_{}q",
    "self_attn.k_proj": "self_{}k",
    "self_attn.v_proj": "self_{}v",
    "self_attn.out_proj": "self_{}o",
    "encoder_attn.q_proj": "context_{}q",
    "encoder_attn.k_proj": "context_{}k",
    "encoder_attn.v_proj": "context_{}v",
    "encoder_attn.out_proj": "context_{}o",
    "fc1": "ffn_{}1",
    "fc2": "ffn_{}2",
}
"""Hugging Face's module to Marian's parameter, where ``{}`` is W or b."""

NORMS = {
    "self_attn_layer_norm": "self_Wo_ln",
    "encoder_attn_layer_norm": "context_Wo_ln",
    "final_layer_norm": "ffn_ffn_ln",
}


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
    write_description(run, folder)


def parameters(run: Run) -> dict[str, Any]:
    """Marian's arrays by name: weights [inputs, outputs], biases [1, outputs], the settings as text.

    Raises:
        ModelError: the layout is not Marian's, or padding is not the last token.
    """
    rules = run.generation
    if rules.pad_id != run.model.config.vocab_size - 1:
        raise ModelError("only a model whose last token is padding can be converted to Marian")
    marian: MarianMTModel = to_marian(run.model, rules)
    state: dict[str, Tensor] = marian.state_dict()
    bias = state["final_logits_bias"].clone()
    bias[0, list(rules.suppressed_ids)] = SUPPRESSED
    arrays = {"Wemb": _array(state["model.shared.weight"][:-1]), "decoder_ff_logit_out_b": _array(bias[:, :-1])}
    for name, value in state.items():
        if ".layers." in name:
            _, side, _, layer, *module, kind = name.split(".")
            arrays[f"{side}_l{int(layer) + 1}_{_parameter('.'.join(module), kind)}"] = _matrix(value)
    arrays["special:model.yml"] = np.frombuffer(yaml.safe_dump(_settings(marian.config)).encode() + b"\0", np.int8)
    return arrays


def _parameter(module: str, kind: str) -> str:
    """Marian's name for the ``weight`` or ``bias`` of a module of a layer."""
    if module in NORMS:
        return f"{NORMS[module]}_{'scale' if kind == 'weight' else 'bias'}"
    return MATMULS[module].format("W" if kind == "weight" else "b")


def _matrix(value: Tensor) -> Any:
    """Returns a weight as [inputs, outputs], a bias as [1, outputs]."""
    return _array(value.T if value.dim() == 2 else value[None])


def _array(value: Tensor) -> Any:
    return np.ascontiguousarray(value.detach().float().numpy())


def _unknown(run: Run) -> int:
    """A token for unknown words, which Marian requires: the first that is not the end of sentence."""
    return next(index for index in range(2) if index != run.generation.eos_id)


def _settings(config: MarianConfig) -> dict[str, Any]:
    """Returns Marian's description of the architecture."""
    return {
        "type": "transformer",
        "version": "v1.12.0",
        "dim-vocabs": [config.vocab_size - 1] * 2,
        "dim-emb": config.d_model,
        "lemma-dim-emb": 0,
        "enc-depth": config.encoder_layers,
        "dec-depth": config.decoder_layers,
        "transformer-heads": config.encoder_attention_heads,
        "transformer-dim-ffn": config.encoder_ffn_dim,
        "transformer-decoder-dim-ffn": config.decoder_ffn_dim,
        "transformer-ffn-depth": 2,
        "transformer-decoder-ffn-depth": 2,
        "transformer-ffn-activation": config.activation_function,
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
