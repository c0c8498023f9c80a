"""A narrower student starts from a teacher's layers; where its stream has room for them, it computes the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressor.model_config import TransformerModelConfig
from compressor.models.attention_copy import copy_attention
from compressor.models.layer_copy import copy_layers, copy_projected
from compressor.models.layers import CrossAttention, Residual, SelfAttention
from compressor.models.projection import Projection, stream_basis
from compressor.models.transformer import Transformer

SIZES = {"vocab_size": 41, "pad_id": 0, "max_length": 32, "encoder_layers": 2, "decoder_layers": 1}
VARIANTS = [
    {"norm": norm, "tie_embeddings": tied, "scale_embedding": scaled}
    for norm, tied, scaled in [
        ("post", True, True),
        ("pre", True, False),
        ("post", False, True),
        ("pre", False, False),
        ("post", "target", True),
    ]
]


def transformer(d_model: int, num_heads: int, ffn: int, seed: int = 0, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    shape = {"d_model": d_model, "num_heads": num_heads, "encoder_ffn": ffn, "decoder_ffn": ffn}
    model = Transformer(TransformerModelConfig(**(SIZES | shape | changes))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0.0, 0.4)
    model.zero_padding()
    return model


def logits(model: Transformer) -> Tensor:
    source = torch.arange(1, 22).view(3, 7)
    return model.decode(model.encode(source, source > 0), source[:, :5])


def basis_with_ones(wide: int, narrow: int) -> Tensor:
    """Orthonormal [wide, narrow], by QR: the vector of ones becomes a multiple of ones."""
    generator = torch.Generator().manual_seed(5)

    def frame(size: int) -> Tensor:
        columns = torch.randn(size, size, generator=generator, dtype=torch.float64)
        columns[:, 0] = 1.0
        return torch.linalg.qr(columns)[0] * torch.tensor([-1.0] + [1.0] * (size - 1))

    first, second = frame(wide), frame(narrow)
    return ((first * first[0, 0].sign())[:, :narrow] @ (second * second[0, 0].sign()).T).float()


@torch.no_grad()
def widened(narrow: Transformer, heads: int, size: int, ffn: int, basis: Tensor) -> Transformer:
    """The same function in a wider stream ``h = c P h'``, with heads, numbers of a head and hidden units that are zero.

    Its gains are 1 and its offsets 0, as those of ``narrow``.
    """
    ours = narrow.config
    ratio = math.sqrt(basis.shape[0] / basis.shape[1])
    changes = ours.model_dump(include={"norm", "tie_embeddings", "scale_embedding"})
    wide = transformer(basis.shape[0], heads, ffn, **changes)
    old_size = ours.d_model // ours.num_heads
    compensation = (size / old_size) ** 0.25  # scores are divided by the root of the size

    def heads_in(weight: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Matrix [heads * size, wide] and bias from [d, d] and [d]; only the first heads and numbers are not zero."""
        larger, offset = torch.zeros(heads, size, basis.shape[0]), torch.zeros(heads, size)
        larger[1 : 1 + ours.num_heads, :old_size] = (weight @ basis.T / ratio).view(ours.num_heads, old_size, -1)
        offset[1 : 1 + ours.num_heads, :old_size] = bias.view(ours.num_heads, old_size)
        return scale * larger.flatten(0, 1), scale * offset.flatten()

    def output(source: nn.Linear, target: nn.Linear) -> None:
        larger = torch.zeros(basis.shape[0], heads, size)
        larger[:, 1 : 1 + ours.num_heads, :old_size] = (ratio * basis @ source.weight).unflatten(
            1, (ours.num_heads, old_size)
        )
        target.weight.copy_(larger.flatten(1))
        target.bias.copy_(ratio * basis @ source.bias)

    def attention(source: nn.Module, target: nn.Module) -> None:
        if isinstance(source, SelfAttention):
            inputs, into = [(source.qkv.weight, source.qkv.bias)], [target.qkv]
        else:
            inputs = [(part.weight, part.bias) for part in (source.query, source.key_value)]
            into = [target.query, target.key_value]
        weights = torch.cat([weight for weight, _ in inputs]).chunk(3)
        biases = torch.cat([bias for _, bias in inputs]).chunk(3)
        scales = (compensation, compensation, 1.0)
        parts = [heads_in(*both, scale) for *both, scale in zip(weights, biases, scales, strict=True)]
        split = (3,) if isinstance(source, SelfAttention) else (1, 2)
        for module, count in zip(into, split, strict=True):
            module.weight.copy_(torch.cat([weight for weight, _ in parts[:count]]))
            module.bias.copy_(torch.cat([bias for _, bias in parts[:count]]))
            parts = parts[count:]
        output(source.out, target.out)

    for side in ("encoder", "decoder"):
        for source, target in zip(getattr(narrow, side), getattr(wide, side), strict=True):
            for name in ("attention", "self_attention", "cross_attention"):
                if hasattr(source, name):
                    attention(getattr(source, name), getattr(target, name))
            old, new = source.feed_forward, target.feed_forward
            for parameter in (new.expand.weight, new.expand.bias, new.contract.weight):
                parameter.zero_()
            units = old.expand.out_features
            new.expand.weight[-units:] = old.expand.weight @ basis.T / ratio
            new.expand.bias[-units:] = old.expand.bias
            new.contract.weight[:, -units:] = ratio * basis @ old.contract.weight
            new.contract.bias.copy_(ratio * basis @ old.contract.bias)
    wide.positions = ratio * narrow.positions @ basis.T
    for name, table in wide.embedding.items():
        read = narrow.embedding[name] @ basis.T
        table.copy_(read / ratio if name == "output" else read * ratio * narrow.scale / wide.scale)
    wide.output_bias.copy_(narrow.output_bias)
    if ours.tie_embeddings:  # its output layer is another multiple of the embedding than it should be
        gain = wide.scale / (narrow.scale * ratio**2)
        norm = wide.decoder_norm if ours.norm == "pre" else wide.decoder[-1].feed_forward.frame.norm
        norm.weight.fill_(gain)
    return wide


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_that_was_widened_comes_back(variant: dict[str, object]) -> None:
    """Half the width, two heads of four with half of their size, half of the hidden units; the basis is computed."""
    narrow = transformer(12, 2, 10, **variant)
    wide = widened(narrow, heads=4, size=6, ffn=20, basis=basis_with_ones(24, 12))
    torch.testing.assert_close(logits(wide), logits(narrow), atol=1e-4, rtol=1e-4)
    student = transformer(12, 2, 10, seed=9, **variant)
    copy_layers(wide, student)
    torch.testing.assert_close(logits(student), logits(narrow), atol=2e-3, rtol=1e-3)


def test_heads_of_the_same_size_come_back() -> None:
    narrow = transformer(12, 2, 10)
    wide = widened(narrow, heads=4, size=6, ffn=10, basis=basis_with_ones(24, 12))
    student = transformer(12, 2, 10, seed=9)
    copy_layers(wide, student)
    torch.testing.assert_close(logits(student), logits(narrow), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_full_rotation_changes_nothing(variant: dict[str, object]) -> None:
    teacher, student = (transformer(16, 2, 24, seed=seed, **variant) for seed in (1, 2))
    basis = basis_with_ones(16, 16)
    copy_projected(teacher, student, Projection(basis))
    student.positions = teacher.positions @ basis
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-4, rtol=1e-4)


def test_at_the_teachers_width_the_copy_is_exact() -> None:
    teacher, student = (transformer(16, 2, 24, seed=seed) for seed in (1, 2))
    with torch.no_grad():
        for module in teacher.modules():
            if isinstance(module, Residual):
                module.norm.weight.uniform_(0.5, 2.0)
                module.norm.bias.normal_()
    copy_layers(teacher, student)
    for name, weight in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], weight), name


def test_the_basis_is_orthonormal_and_keeps_ones_and_positions() -> None:
    teacher, student = transformer(64, 4, 8), transformer(32, 4, 8)
    with torch.no_grad():
        teacher.embedding["shared"].mul_(0.01)  # so that the principal directions are those of the positions
    basis = stream_basis(teacher, student)
    torch.testing.assert_close(basis.T @ basis, torch.eye(32), atol=1e-5, rtol=0)
    torch.testing.assert_close(basis @ torch.ones(32), torch.ones(64) / math.sqrt(2), atol=1e-5, rtol=1e-5)
    moved = teacher.positions @ basis / math.sqrt(2)
    error = (moved - student.positions).norm() / student.positions.norm()
    assert error < 0.35  # the student's table has every second wavelength of the teacher's
    unaligned = (teacher.positions[:, :32] / math.sqrt(2) - student.positions).norm() / student.positions.norm()
    assert error < unaligned / 2


def test_gains_become_the_diagonal_of_the_rotated_matrix() -> None:
    basis = basis_with_ones(16, 8)
    source, target = nn.LayerNorm(16), nn.LayerNorm(8)
    with torch.no_grad():
        source.weight.uniform_(0.5, 2.0)
        source.bias.normal_()
        Projection(basis).copy_norm(source, target)
    matrix, gains = basis.double().numpy(), source.weight.detach().double().numpy()
    expected = np.diag(matrix.T @ np.diag(gains) @ matrix)
    np.testing.assert_allclose(target.weight.detach().numpy(), expected, rtol=1e-5)
    offset = matrix.T @ source.bias.detach().double().numpy() / math.sqrt(2)
    np.testing.assert_allclose(target.bias.detach().numpy(), offset, rtol=1e-5, atol=1e-6)


def test_a_smaller_head_has_the_largest_singular_values() -> None:
    """Scores and outputs of each head are the best approximations of rank 2, by numpy."""
    torch.manual_seed(3)
    source, target = CrossAttention(12, 2), CrossAttention(12, 6)  # heads of 6, and of 2
    target.heads = 2
    target.query, target.key_value, target.out = nn.Linear(12, 4), nn.Linear(12, 8), nn.Linear(4, 12)
    with torch.no_grad():
        copy_attention(source, target, Projection(torch.eye(12)))
    for head in range(2):
        for left, right in ((0, 1), (3, 2)):
            before, after = (_product(module, head, left, right) for module in (source, target))
            u, s, v = np.linalg.svd(before)
            expected = (u[:, :2] * s[:2]) @ v[:2]
            np.testing.assert_allclose(after, expected, atol=1e-5)


def _product(module: CrossAttention, head: int, left: int, right: int) -> np.ndarray:
    """Query by key over the root of the size, or output by value; inputs have a last number 1 for the bias."""
    inputs = [(module.query.weight, module.query.bias)]
    inputs += zip(module.key_value.weight.chunk(2), module.key_value.bias.chunk(2), strict=True)
    parts = [torch.cat([w, b[:, None]], dim=1).chunk(module.heads)[head].detach().numpy().T for w, b in inputs]
    parts.append(module.out.weight.chunk(module.heads, dim=1)[head].detach().numpy())
    scale = parts[0].shape[1] ** -0.5 if left == 0 else 1.0
    return np.asarray(scale * parts[left] @ parts[right].T)
