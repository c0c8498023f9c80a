"""A model's start from another one: its embeddings, or its layers cut down to the new shape.

A short training has no time to find what the teacher knows already. Shapes: vocab, d = the student's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError
from compressor.models.attention_copy import copy_attention
from compressor.models.layers import CrossAttention, FeedForward, Residual, SelfAttention
from compressor.models.projection import Projection, stream_basis

EQUAL_FIELDS = ("norm", "activation", "scale_embedding", "tie_embeddings", "positions", "embedding_norm")
"""Fields in which teacher and student must agree for layers to be copied."""
SHRINKING_FIELDS = ("d_model", "num_heads", "encoder_layers", "decoder_layers", "encoder_ffn", "decoder_ffn")
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
    """Copies embeddings, norms and evenly spaced layers, projected to the student's width (see ``Projection``).

    Attention keeps the heads that matter most, feed-forward layers their largest hidden units. Modules that only the
    student has keep their fresh weights, as the cells of a recurrent decoder; so do cells of another width.

    Args:
        teacher, student: Both ``EncoderDecoder``; the student is filled in place.

    Raises:
        ConfigError: the layers do not fit; lists every field.
    """
    _check_fit(teacher.config, student.config)
    copy_projected(teacher, student, Projection(stream_basis(teacher, student)))


@torch.no_grad()
def copy_projected(teacher: Any, student: Any, projection: Projection) -> None:
    """Does what ``copy_layers`` says, on a given basis."""
    looked_up = teacher.scale / (projection.ratio * student.scale)
    for name, table in student.embedding.items():
        factor = projection.ratio if name == "output" else looked_up
        table.copy_(factor * (teacher.embedding[name] @ projection.basis))
    student.output_bias.copy_(teacher.output_bias)
    for side, table in student.learned_positions.items():
        table.copy_(teacher.learned_positions[side][: len(table)])
    student.embedding_norm.load_state_dict(teacher.embedding_norm.state_dict())
    for theirs, ours in ((teacher.encoder, student.encoder), (teacher.decoder, student.decoder)):
        for index, layer in zip(spaced(len(theirs), len(ours)), ours, strict=True):
            _copy_layer(theirs[index], layer, projection)
    # A matrix that is looked up and read has one scale: the layer norm before the output layer has the rest.
    gain = projection.ratio / looked_up if student.config.tie_embeddings else 1.0
    if student.config.norm == "pre":
        projection.copy_norm(teacher.encoder_norm, student.encoder_norm)
        projection.copy_norm(teacher.decoder_norm, student.decoder_norm, gain)
    elif gain != 1:
        last, ours = (model.decoder[-1].feed_forward.frame.norm for model in (teacher, student))
        projection.copy_norm(last, ours, gain)


@torch.no_grad()
def copy_to_depth(source: Any, target: Any) -> None:
    """Fills a model from one that differs in its numbers of layers alone.

    A deeper model gets each layer of the source several times, one after the other: training the first part of the way
    with fewer layers takes less time and ends as well (Gong et al. 2019, "Efficient Training of BERT by Progressively
    Stacking"; Li et al. 2020, "Shallow-to-Deep Training for Neural Machine Translation").

    Args:
        source, target: Both ``EncoderDecoder`` of one class; the target is filled in place.
    """
    stacks = ("encoder", "decoder")
    inside = tuple(f"{stack}." for stack in stacks)
    around = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith(inside)}
    target.load_state_dict(around, strict=False)
    for theirs, ours in ((getattr(source, stack), getattr(target, stack)) for stack in stacks):
        for index, layer in zip(spaced(len(theirs), len(ours)), ours, strict=True):
            layer.load_state_dict(theirs[index].state_dict())


def _copy_layer(source: nn.Module, target: nn.Module, projection: Projection) -> None:
    """Copies the modules that both layers have under one name."""
    given = dict(source.named_children())
    for name, module in target.named_children():
        match given.get(name), module:
            case Residual() as theirs, Residual() as ours:
                projection.copy_norm(theirs.norm, ours.norm)
            case (SelfAttention() as theirs, SelfAttention() as ours) | (
                CrossAttention() as theirs,
                CrossAttention() as ours,
            ):
                copy_attention(theirs, ours, projection)
            case FeedForward() as theirs, FeedForward() as ours:
                _copy_largest_units(theirs, ours, projection)
            case theirs, ours if type(theirs) is type(ours) and projection.is_identity:
                ours.load_state_dict(theirs.state_dict())


def spaced(given: int, wanted: int) -> list[int]:
    """Indices of ``wanted`` layers of ``given``, evenly spaced from the first to the last.

    One layer is the last: what reads its output (the output layer, or cross-attention) was trained with it. Measured on
    German-English after 250 updates of a 2+1-layer student: 21.8 BLEU against 19.2 with the first.
    """
    return [given - 1] if wanted == 1 else [round(i * (given - 1) / (wanted - 1)) for i in range(wanted)]


def _copy_largest_units(source: FeedForward, target: FeedForward, projection: Projection) -> None:
    """Copies the hidden units of a feed-forward layer that can change its output most.

    For an input of norm one, a unit adds at most the product of the norms of its two weight vectors.
    """
    expand, contract = projection.read(source.expand.weight), projection.write(source.contract.weight)
    weight = expand.norm(dim=1) * contract.norm(dim=0)
    units = weight.topk(target.expand.out_features).indices.sort().values
    projection.copy_norm(source.frame.norm, target.frame.norm)
    target.expand.weight.copy_(expand[units])
    target.expand.bias.copy_(source.expand.bias[units])
    target.contract.weight.copy_(contract[:, units])
    target.contract.bias.copy_(projection.write(source.contract.bias))


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
    size, most = (config.d_model // config.num_heads for config in (ours, theirs))
    if size > most:
        problems.append(
            f"student.num_heads: {ours.num_heads} makes heads of {size}, the teacher's are {most}; give more"
        )
    if theirs.embedding_norm or theirs.positions == "learned":
        if ours.d_model < theirs.d_model:
            problems.append(
                f"student.d_model: {ours.d_model} is less than the teacher's {theirs.d_model}: learned positions and a "
                "layer norm of embeddings are copied at their own width alone"
            )
        if ours.max_length > theirs.max_length:
            problems.append(
                f"student.max_length: {ours.max_length}, the teacher has {theirs.max_length} positions to copy"
            )
    if problems:
        raise ConfigError("training.initialization: the teacher's layers do not fit the student", problems)
