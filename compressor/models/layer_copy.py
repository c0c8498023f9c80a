"""A model's start from another one: its embeddings, or its layers cut down to the new shape.

A short training has no time to find what the teacher knows already. Shapes: vocab, d = the student's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError
from compressor.models.layers import FeedForward

EQUAL_FIELDS = ("d_model", "num_heads", "norm", "activation", "scale_embedding", "tie_embeddings")
"""Fields in which teacher and student must agree for layers to be copied."""
SHRINKING_FIELDS = ("encoder_layers", "decoder_layers", "encoder_ffn", "decoder_ffn")
"""Fields in which the student must not be larger than the teacher."""


@torch.no_grad()
def copy_embeddings(table: Tensor, parameter: Tensor, pad_id: int) -> None:
    """Fills embeddings [vocab, d] from others [vocab, any width], in place.

    They become the first d principal components, which keep most of the distances between tokens, at the usual scale.
    """
    table, d = table.float(), parameter.shape[1]
    real = torch.ones(table.shape[0], dtype=torch.bool)
    real[pad_id] = False
    centred = table - table[real].mean(dim=0)
    _, _, directions = torch.linalg.svd(centred[real], full_matrices=False)
    projected = centred @ directions[:d].T
    projected *= d**-0.5 / projected[real].std()
    parameter[:, : projected.shape[1]] = projected
    parameter[pad_id] = 0.0


@torch.no_grad()
def copy_layers(teacher: Any, student: Any) -> None:
    """Copies embeddings, norms and evenly spaced layers; feed-forward layers keep their largest hidden units.

    Modules that only the student has keep their fresh weights, as the cells of a recurrent decoder.

    Args:
        teacher, student: Both ``EncoderDecoder``; the student is filled in place.

    Raises:
        ConfigError: the layers do not fit; lists every field.
    """
    _check_fit(teacher.config, student.config)
    student.output_bias.copy_(teacher.output_bias)
    for name in ("embedding", "encoder_norm", "decoder_norm"):
        student.get_submodule(name).load_state_dict(teacher.get_submodule(name).state_dict())
    for theirs, ours in ((teacher.encoder, student.encoder), (teacher.decoder, student.decoder)):
        for index, layer in zip(spaced(len(theirs), len(ours)), ours, strict=True):
            _copy_layer(theirs[index], layer)


def _copy_layer(source: nn.Module, target: nn.Module) -> None:
    """Copies the modules that both layers have under one name."""
    given = dict(source.named_children())
    for name, module in target.named_children():
        match given.get(name), module:
            case None, _:
                continue
            case FeedForward() as theirs, FeedForward() as ours:
                _copy_largest_units(theirs, ours)
            case theirs, ours if type(theirs) is type(ours):
                ours.load_state_dict(theirs.state_dict())


def spaced(given: int, wanted: int) -> list[int]:
    """Indices of ``wanted`` layers of ``given``, evenly spaced from the first to the last.

    One layer is the last: what reads its output (the output layer, or cross-attention) was trained with it. Measured on
    German-English after 250 updates of a 2+1-layer student: 21.8 BLEU against 19.2 with the first.
    """
    return [given - 1] if wanted == 1 else [round(i * (given - 1) / (wanted - 1)) for i in range(wanted)]


def _copy_largest_units(source: FeedForward, target: FeedForward) -> None:
    """Copies the hidden units of a feed-forward layer that can change its output most.

    For an input of norm one, a unit adds at most the product of the norms of its two weight vectors.
    """
    weight = source.expand.weight.norm(dim=1) * source.contract.weight.norm(dim=0)
    units = weight.topk(target.expand.out_features).indices.sort().values
    target.frame.load_state_dict(source.frame.state_dict())
    target.expand.weight.copy_(source.expand.weight[units])
    target.expand.bias.copy_(source.expand.bias[units])
    target.contract.weight.copy_(source.contract.weight[:, units])
    target.contract.bias.copy_(source.contract.bias)


def _check_fit(theirs: Any, ours: Any) -> None:
    """Raises ConfigError, with all reasons, if the student cannot hold the teacher's layers."""
    without = [
        f"{name}: {config.architecture}, has no layers of a Transformer"
        for name, config in (("teacher", theirs), ("student", ours))
        if not config.copies_layers
    ]
    if without:
        raise ConfigError("training.initialization: the teacher's layers do not fit the student", without)
    problems = [
        f"student.{name}: {getattr(ours, name)}, the teacher's is {getattr(theirs, name)}"
        for name in EQUAL_FIELDS
        if getattr(ours, name) != getattr(theirs, name)
    ]
    problems += [
        f"student.{name}: {getattr(ours, name)} is more than the teacher's {getattr(theirs, name)}"
        for name in SHRINKING_FIELDS
        if getattr(ours, name) > getattr(theirs, name)
    ]
    if theirs.positions != "sinusoidal" or theirs.embedding_norm:
        problems.append("teacher: its embedding has no Marian layout")
    if problems:
        raise ConfigError("training.initialization: the teacher's layers do not fit the student", problems)
