"""A converted BART checkpoint computes the same logits as Hugging Face's."""

from __future__ import annotations

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from compressor.errors import ModelError
from compressor.generation_config import GenerationConfig
from compressor.models.transformer import Transformer
from compressor.teachers.conversion.bart import from_bart, to_bart
from compressor.teachers.conversion.marian import to_marian

SIZES = {
    "vocab_size": 50,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 12,
    "dropout": 0.0,
}


def build(scale_embedding: bool) -> BartForConditionalGeneration:
    torch.manual_seed(5)
    model = BartForConditionalGeneration(BartConfig(**SIZES, scale_embedding=scale_embedding))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no zeros and ones, which hide a mistake
    return model.eval()


@pytest.mark.parametrize("scale_embedding", [False, True])
def test_logits_match_hugging_face_up_to_the_last_position(scale_embedding: bool) -> None:
    theirs = build(scale_embedding)
    ours = from_bart(theirs)
    source, context = torch.randint(4, 50, (2, 12)), torch.randint(4, 50, (2, 12))
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 7:] = False
    with torch.no_grad():
        expected = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=context).logits
        actual = ours.decode(ours.encode(source, mask), context)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5)


def test_step_logits_match_whole_prefix_logits() -> None:
    ours = from_bart(build(False))
    source, context = torch.randint(4, 50, (1, 5)), torch.randint(4, 50, (1, 6))
    with torch.no_grad():
        memory = ours.encode(source, torch.ones(1, 5, dtype=torch.bool))
        state, steps = ours.initial_state(memory), []
        for token in context.T:
            logits, state = ours.step(token, state)
            steps.append(logits)
        whole = ours.decode(memory, context)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale_embedding", [False, True])
def test_a_model_written_back_has_the_checkpoints_weights_and_logits(scale_embedding: bool) -> None:
    theirs = build(scale_embedding)
    again = to_bart(from_bart(theirs), GenerationConfig(start_id=2, eos_id=2, pad_id=1, forced_bos_id=0))
    expected, written = theirs.state_dict(), again.state_dict()
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        skipped = 2 if "embed_positions" in name else 0  # rows before the first position, which are never read
        torch.testing.assert_close(written[name][skipped:], tensor[skipped:], atol=0, rtol=0)
    source, context = torch.randint(4, 50, (2, 9)), torch.randint(4, 50, (2, 12))
    with torch.no_grad():
        assert torch.equal(
            again(source, decoder_input_ids=context).logits, theirs(source, decoder_input_ids=context).logits
        )


def test_marians_layout_cannot_be_written_as_bart() -> None:
    marian = Transformer(from_bart(build(False)).config.model_copy(update={"positions": "sinusoidal"}))
    with pytest.raises(ModelError, match="has BART's layout"):
        to_bart(marian, GenerationConfig(start_id=2, eos_id=2, pad_id=1))


def test_bart_layout_cannot_be_exported_as_marian() -> None:
    rules = GenerationConfig(start_id=1, eos_id=2, pad_id=1)
    with pytest.raises(ModelError, match="has Marian's layout"):
        to_marian(from_bart(build(False)), rules)
