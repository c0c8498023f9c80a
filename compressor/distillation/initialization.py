"""What a student starts from: fresh weights, the teacher's embeddings, or the teacher's layers cut down to its shape.

A short training has no time to find what the teacher knows already. Shapes: vocab, d = student's width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressor.config import Initialization
from compressor.errors import ConfigError
from compressor.models.base import Seq2SeqModel
from compressor.models.layers import FeedForward
from compressor.models.transformer import Transformer
from compressor.teachers.base import Teacher

SAME = ("d_model", "num_heads", "norm", "activation", "scale_embedding", "tie_embeddings")
"""Fields in which teacher and student must agree for layers to be copied."""


def initialize(student: Seq2SeqModel, teacher: Teacher, start: Initialization) -> None:
    """Fills the student in place. Raises ConfigError if the teacher's layers do not fit it."""
    if start == "teacher_embeddings":
        copy_embeddings(teacher.embeddings(), student)
    if start == "teacher_layers":
        copy_layers(*_fitting(teacher, student))


@torch.no_grad()
def copy_embeddings(table: Tensor, student: Seq2SeqModel) -> None:
    """Starts from embeddings [vocab, any width] on their first d principal components, at the usual scale.

    Principal components keep most of the distances between tokens.
    """
    table, config = table.float(), student.config
    keep = torch.ones(table.shape[0], dtype=torch.bool)
    keep[config.pad_id] = False
    centred = table - table[keep].mean(dim=0)
    _, _, directions = torch.linalg.svd(centred[keep], full_matrices=False)
    projected = centred @ directions[: config.d_model].T
    projected *= config.d_model**-0.5 / projected[keep].std()
    for name, parameter in student.named_parameters():
        if name.startswith("embedding."):
            parameter[:, : projected.shape[1]] = projected
            parameter[config.pad_id] = 0.0


@torch.no_grad()
def copy_layers(teacher: Transformer, student: Transformer) -> None:
    """Copies embeddings, norms and evenly spaced layers; feed-forward layers keep their largest hidden units."""
    student.output_bias.copy_(teacher.output_bias)
    for name in ("embedding", "encoder_norm", "decoder_norm"):
        student.get_submodule(name).load_state_dict(teacher.get_submodule(name).state_dict())
    for theirs, ours in ((teacher.encoder, student.encoder), (teacher.decoder, student.decoder)):
        for index, layer in zip(spaced(len(theirs), len(ours)), ours, strict=True):
            for name, module in layer.named_children():
                source = theirs[index].get_submodule(name)
                if isinstance(source, FeedForward) and isinstance(module, FeedForward):
                    _copy_largest_units(source, module)
                else:
                    module.load_state_dict(source.state_dict())


def spaced(given: int, wanted: int) -> list[int]:
    """Indices of ``wanted`` layers of ``given``, evenly spaced from the first to the last.

    One layer is the last: what reads its output (the output layer, or cross-attention) was trained with it. Measured on
    German-English after 250 updates of a 2+1-layer student: 21.8 BLEU against 19.2 with the first.
    """
    return [given - 1] if wanted == 1 else [round(i * (given - 1) / (wanted - 1)) for i in range(wanted)]


def _copy_largest_units(source: FeedForward, target: FeedForward) -> None:
    """A unit adds at most the product of its two norms to the output, for an input of norm one."""
    weight = source.expand.weight.norm(dim=1) * source.contract.weight.norm(dim=0)
    units = weight.topk(target.expand.out_features).indices.sort().values
    target.frame.load_state_dict(source.frame.state_dict())
    target.expand.weight.copy_(source.expand.weight[units])
    target.expand.bias.copy_(source.expand.bias[units])
    target.contract.weight.copy_(source.contract.weight[:, units])
    target.contract.bias.copy_(source.contract.bias)


def _fitting(teacher: Teacher, student: Seq2SeqModel) -> tuple[Transformer, Transformer]:
    model = teacher.transformer()
    where = f"training.initialization: the layers of teacher {teacher.name} do not fit the student"
    own = model is not None and model.config.positions == "sinusoidal" and not model.config.embedding_norm
    if model is None or not own or not isinstance(student, Transformer):
        raise ConfigError(f"{where}: only native and Marian layouts can be copied; teacher_embeddings always can")
    ours, theirs = student.config.model_dump(), model.config.model_dump()
    problems = [
        f"student.{name}: {ours[name]}, the teacher's is {theirs[name]}" for name in SAME if ours[name] != theirs[name]
    ]
    problems += [
        f"student.{name}: {ours[name]} is more than the teacher's {theirs[name]}"
        for name in ("encoder_layers", "decoder_layers", "encoder_ffn", "decoder_ffn")
        if ours[name] > theirs[name]
    ]
    if problems:
        raise ConfigError(where, problems)
    return model, student
