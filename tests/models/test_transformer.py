"""The Transformer against its own stepwise form, and against Hugging Face's MarianMT with the same weights."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from compressor.decoding.search import greedy
from compressor.errors import ModelError
from compressor.generation_config import GenerationConfig
from compressor.model_config import TransformerModelConfig
from compressor.models.base import count_parameters
from compressor.models.layers import attend, sinusoidal_positions
from compressor.models.registry import build_model
from compressor.teachers.conversion.marian import from_marian, to_marian

VOCAB, PAD, EOS = 61, 60, 0
RULES = GenerationConfig(
    start_id=PAD, eos_id=EOS, pad_id=PAD, suppressed_ids=(PAD,), forced_eos_id=EOS, max_new_tokens=12
)

MARIAN = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 40}
MARIAN |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": VOCAB}
MARIAN |= {"pad_token_id": PAD, "decoder_start_token_id": PAD, "eos_token_id": EOS}


def config(**changes: object) -> TransformerModelConfig:
    fields = {
        "vocab_size": VOCAB,
        "pad_id": PAD,
        "d_model": 16,
        "num_heads": 2,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn": 24,
        "decoder_ffn": 40,
        "max_length": 32,
    }
    return TransformerModelConfig(**(fields | changes))


def sources(batch: int = 5, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    lengths = torch.randint(1, length + 1, (batch,))
    lengths[0] = length
    mask = torch.arange(length) < lengths[:, None]
    return torch.randint(1, VOCAB - 1, (batch, length)).masked_fill(~mask, PAD), mask


def model(**changes: object):
    torch.manual_seed(1)
    built = build_model(config(**changes)).eval()
    with torch.no_grad():  # livelier than a fresh model: biases and norms must be exercised, too
        for parameter in built.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return built


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("tie_embeddings", [True, False, "target"])
@pytest.mark.parametrize("fused", [True, False])
def test_decode_equals_repeated_steps(norm: str, tie_embeddings: bool | str, fused: bool) -> None:
    net = model(norm=norm, tie_embeddings=tie_embeddings)
    net.fused_attention = fused
    memory = net.encode(*sources())
    context = torch.randint(0, VOCAB, (5, 7))
    state, stepped = net.initial_state(memory), []
    for position in range(7):
        logits, state = net.step(context[:, position], state)
        stepped.append(logits)
    torch.testing.assert_close(net.decode(memory, context), torch.stack(stepped, dim=1), atol=1e-5, rtol=0)


def test_padding_does_not_change_logits() -> None:
    net, (source, mask) = model(), sources()
    context = torch.randint(0, VOCAB, (5, 4))
    together = net.decode(net.encode(source, mask), context)
    for row in range(5):
        length = int(mask[row].sum())
        alone = net.decode(
            net.encode(source[row : row + 1, :length], mask[row : row + 1, :length]), context[row : row + 1]
        )
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", ["relu", "gelu", "swish"])
def test_marian_gives_the_same_logits_and_tokens(activation: str) -> None:
    net, (source, mask) = model(activation=activation), sources()
    marian = to_marian(net, RULES)
    context = torch.randint(0, VOCAB, (5, 7))
    theirs = marian(input_ids=source, attention_mask=mask.long(), decoder_input_ids=context).logits
    torch.testing.assert_close(net.decode(net.encode(source, mask), context), theirs, atol=1e-5, rtol=0)
    generated = marian.generate(input_ids=source, attention_mask=mask.long(), num_beams=1)[:, 1:].tolist()
    ours = greedy(net, RULES, source, mask)
    assert [row[: len(mine)] for row, mine in zip(generated, ours, strict=True)] == ours
    assert all(set(row[len(mine) :]) <= {PAD} for row, mine in zip(generated, ours, strict=True))


def test_non_marian_layouts_are_refused() -> None:
    with pytest.raises(ModelError, match="post-norm"):
        to_marian(model(norm="pre"), RULES)
    with pytest.raises(ModelError, match="starts decoding"):
        to_marian(model(), RULES.model_copy(update={"start_id": 1}))


def test_marian_checkpoint_logits_match_transformers() -> None:
    torch.manual_seed(5)
    widths = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 40, "max_position_embeddings": 32}
    marian = MarianMTModel(MarianConfig(**MARIAN | widths, activation_function="gelu", scale_embedding=True)).eval()
    with torch.no_grad():
        for name, parameter in marian.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
        marian.final_logits_bias.normal_()
        marian.model.shared.weight[PAD] = 0.0
    source, mask = sources()
    context = torch.randint(0, VOCAB, (5, 7))
    theirs = marian(input_ids=source, attention_mask=mask.long(), decoder_input_ids=context).logits
    net = from_marian(marian)
    torch.testing.assert_close(net.decode(net.encode(source, mask), context), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tie_word_embeddings": False}, "output layer is not its embedding"),
        ({"decoder_attention_heads": 4}, "different numbers of attention heads"),
        ({"activation_function": "tanh"}, "not covered: activation"),
    ],
)
def test_checkpoints_of_another_layout_are_refused(change: dict[str, object], said: str) -> None:
    marian = MarianMTModel(MarianConfig(**MARIAN | change))
    with pytest.raises(ModelError, match=said):
        from_marian(marian)


def test_sinusoids_follow_the_formula() -> None:
    table = sinusoidal_positions(11, 8)
    for position, channel in ((0, 0), (3, 1), (10, 3)):
        angle = position / 10_000 ** (2 * channel / 8)
        assert table[position, channel].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[position, 4 + channel].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_parameter_count_has_tied_weights_once_and_no_positions() -> None:
    d, enc, dec = 16, 24, 40
    attention = 4 * (d * d + d)
    encoder = attention + (d * enc + enc + enc * d + d) + 2 * 2 * d
    decoder = 2 * attention + (d * dec + dec + dec * d + d) + 3 * 2 * d
    assert count_parameters(model()) == VOCAB * d + VOCAB + 2 * encoder + 2 * decoder


def test_the_embedding_of_padding_is_zero_and_stays_zero() -> None:
    net = build_model(config())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    logits = net.decode(net.encode(*sources()), torch.full((5, 3), PAD))
    logits[..., PAD] = torch.finfo(torch.float32).min  # as the trainer does with suppressed tokens
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.ones(15, dtype=torch.int64)).backward()
    optimizer.step()
    assert net.embedding["shared"][PAD].abs().max() == 0


@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_a_search_in_bf16_is_that_of_fp32(masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, length, 64) for length in (1, 9, 9))
    mask = torch.arange(9)[None, None, None] < torch.tensor([9, 4, 1])[:, None, None, None] if masked else None
    expected = attend(query, key, value, mask, 4, fused=False)
    with torch.no_grad():
        rounded = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask, 4, fused=False)
    torch.testing.assert_close(rounded.float(), expected, rtol=0.02, atol=0.02)
