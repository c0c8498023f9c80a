"""The loss of every method, computed from the teacher's and the student's modules; rollouts; pieces of a batch."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.config import Recipe, TokenizerConfig
from compressor.data.batching import Batch
from compressor.data_config import AugmentationConfig
from compressor.decoding.search import greedy
from compressor.distillation import context_writer, output_loss
from compressor.distillation import contexts as contexts_module
from compressor.distillation import evaluation as evaluation_module
from compressor.distillation.checkpoint import Progress
from compressor.distillation.context_writer import examples_of
from compressor.distillation.contexts import Contexts, build_contexts, cut_by_length
from compressor.distillation.evaluation import dev_outputs
from compressor.distillation.rollout import SampleKey, rollout
from compressor.distillation.sampling import sample_top_k
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.method_config import RolloutConfig


def first_batch(trainer: Trainer, share: float) -> tuple[Batch, Contexts]:
    group = next(trainer.groups(Progress()))
    return group[0], trainer.write_contexts(group, share)[0]


def log_probs(model, trainer: Trainer, batch: Batch, contexts: Contexts) -> Tensor:
    """[batch, context_len, vocab], suppressed tokens left out; written without the trainer's own code."""
    logits = model.decode(model.encode(batch.source, batch.source_mask), contexts.tokens).detach()
    logits[..., list(trainer.setup.generation.suppressed_ids)] = -torch.inf
    return logits.log_softmax(dim=-1)


def expected_loss(trainer: Trainer, batch: Batch, contexts: Contexts, full: bool) -> float:
    """The paper's losses, position by position."""
    student = log_probs(trainer.student, trainer, batch, contexts)
    teacher = log_probs(trainer.setup.teacher.model, trainer, batch, contexts).exp()
    terms = []
    for row, column in contexts.loss_mask.nonzero().tolist():
        ours, probabilities = student[row, column], teacher[row, column]
        if full:
            terms.append(-sum(p * q for p, q in zip(probabilities.tolist(), ours.tolist(), strict=True) if p > 0))
        elif contexts.from_data[row]:
            terms.append(-ours[contexts.labels[row, column]].item())
        else:
            terms.append(-ours[probabilities.argmax()].item())
    return sum(terms) / len(terms)


@pytest.mark.parametrize("method", ["vanilla", "vanilla+full", "imitkd", "imitkd+full"])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_loss_matches_the_papers_formula(make_recipe: Callable[..., Recipe], method: str, share: float) -> None:
    trainer = Trainer(set_up(make_recipe(method)))
    batch, contexts = first_batch(trainer, share)
    student_share = 1.0 - contexts.from_data.float().mean().item()
    expected_share = {1.0: 0.0, 0.5: pytest.approx(0.5, abs=0.3), 0.0: 1.0}[share]
    assert student_share == expected_share or method.startswith("vanilla")
    assert trainer.loss(batch, contexts).item() == pytest.approx(
        expected_loss(trainer, batch, contexts, method.endswith("+full")), rel=1e-4
    )


def test_outputs_of_the_teacher_need_labels(make_recipe: Callable[..., Recipe]) -> None:
    trainer = Trainer(set_up(make_recipe("seqkd")))
    with pytest.raises(RuntimeError, match="give Trainer the signal of prepare_signal"):
        trainer.write_contexts([trainer.batches.collate([0, 1])], 1.0)


def written_out_term(method: dict[str, Any], teacher: Tensor, student: Tensor, label: int, given: bool) -> float:
    """The loss at one position, in float64, from log-probabilities [vocab] and the context's own next token."""
    allowed = teacher > -torch.inf
    temperature, weight = method.get("temperature", 1.0), method.get("reference_weight", 0.0) if given else 0.0
    softened = [(one[allowed].double() / temperature).softmax(dim=0).tolist() for one in (teacher, student)]
    if count := method.get("teacher_top_k"):
        best = sorted(range(len(softened[0])), key=lambda column: -softened[0][column])[:count]
        softened = [[*(one[column] for column in best), 1 - sum(one[column] for column in best)] for one in softened]

    def kl(first: list[float], second: list[float]) -> float:
        return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True) if p > 0)

    def mixture(share: float) -> list[float]:
        return [share * p + (1 - share) * q for p, q in zip(p_teacher, p_student, strict=True)]

    p_teacher, p_student = softened
    match method.get("divergence", "forward_kl"):
        case "forward_kl":
            value = -sum(p * math.log(q) for p, q in zip(p_teacher, p_student, strict=True) if p > 0)
        case "reverse_kl":
            value = kl(p_student, p_teacher)
        case "jensen_shannon":
            share = method["jsd_weight"]
            value = share * kl(p_teacher, mixture(share)) + (1 - share) * kl(p_student, mixture(share))
        case "skew_kl":
            value = kl(p_teacher, mixture(0.1))
    return (1 - weight) * temperature**2 * value - weight * student[label].item()


@pytest.mark.parametrize("pieces", [2**20, 300])
@pytest.mark.parametrize(
    "method",
    [
        {"divergence": "reverse_kl"},
        {"divergence": "jensen_shannon", "jsd_weight": 0.2},
        {"divergence": "skew_kl"},
        {"temperature": 2.0},
        {"teacher_top_k": 4},
        {"reference_weight": 0.3},
        {"divergence": "skew_kl", "temperature": 0.5, "teacher_top_k": 6, "reference_weight": 0.6},
    ],
    ids=lambda method: "-".join(method),
)
def test_settings_of_the_distribution_change_the_loss_as_written_out(
    make_recipe: Callable[..., Recipe], method: dict[str, Any], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_loss.PIECE, "cpu", pieces)
    monkeypatch.setitem(output_loss.IN_CACHE, "cpu", pieces // 2)
    trainer = Trainer(set_up(make_recipe("imitkd+full", method_section=method)))
    batch, contexts = first_batch(trainer, 0.5)
    assert 0 < contexts.from_data.sum() < len(batch.indices)
    student = log_probs(trainer.student, trainer, batch, contexts)
    teacher = log_probs(trainer.setup.teacher.model, trainer, batch, contexts)
    terms = [
        written_out_term(
            method, teacher[place], student[place], int(contexts.labels[place]), bool(contexts.from_data[place[0]])
        )
        for place in map(tuple, contexts.loss_mask.nonzero().tolist())
    ]
    loss = trainer.loss(batch, contexts)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in trainer.student.parameters())


def test_rollouts_are_the_students_greedy_output(make_recipe: Callable[..., Recipe]) -> None:
    trainer = Trainer(set_up(make_recipe("imitkd")))
    batch, contexts = first_batch(trainer, 0.0)
    outputs = greedy(trainer.student.eval(), trainer.setup.generation, batch.source, batch.source_mask, 24)
    for row, output in enumerate(outputs):
        before = [token for token in output if token != trainer.setup.generation.eos_id]
        assert contexts.tokens[row, 1 : 1 + len(before)].tolist() == before
        assert contexts.loss_mask[row].sum() == 1 + len(before)


@pytest.mark.parametrize("background", [False, True])
def test_rollouts_of_training_in_bf16_are_those_of_its_rounded_weights(
    make_recipe: Callable[..., Recipe], background: bool
) -> None:
    rollouts = {"rollout": {"batches": 1, "background": background}}
    trainer = Trainer(set_up(make_recipe("imitkd", method_section=rollouts, training={"precision": "bf16"})))
    for group in itertools.islice(trainer.groups(Progress()), 1 if background else 2):
        rounded = copy.deepcopy(trainer.student).bfloat16().eval()
        (batch,), (contexts,) = group, trainer.write_contexts(group, 0.0)
        outputs = greedy(rounded, trainer.setup.generation, batch.source, batch.source_mask, 24)
        expected = build_contexts(outputs, [False] * len(outputs), trainer.setup.generation)
        assert torch.equal(contexts.tokens, expected.tokens)
        if not background:
            trainer.train_group(group, 0)


def test_sources_without_a_reference_always_use_rollouts(make_recipe: Callable[..., Recipe]) -> None:
    setup = set_up(make_recipe("imitkd+full", mono=True))
    trainer = Trainer(setup)
    mono = [index for index in range(len(setup.train.sources)) if setup.train.targets.lengths[index] == 0]
    assert [setup.tokenizer.decode_source(setup.train.sources[index].tolist()) for index in mono] == [
        "Den Baum malt der Hund.",
        "Den Arzt ruft der Mann.",
    ]
    contexts = trainer.write_contexts([trainer.batches.collate(mono)], 1.0)[0]
    assert not contexts.from_data.any()


def test_contexts_and_rollouts_are_those_of_the_augmented_text(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("imitkd")
    data = recipe.data.model_copy(update={"augmentation": AugmentationConfig(no_stop=1.0)})
    trainer = Trainer(set_up(recipe.model_copy(update={"data": data})))
    tokenizer, targets = trainer.setup.tokenizer, trainer.setup.train.targets
    batch, contexts = first_batch(trainer, 1.0)
    for row, index in enumerate(batch.indices):
        learned = tokenizer.decode([token for token in contexts.labels[row].tolist() if token])
        assert learned == tokenizer.decode(targets[index].tolist()).rstrip(".")
    given: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_writer, "rollout", lambda _, sources, *rest, **options: given.extend(sources) or sources)
        trainer.writer.roll_out(examples_of([batch]))
    read = [tokenizer.decode_source(ids.tolist()) for ids in given]
    original = [tokenizer.decode_source(trainer.setup.train.sources[index].tolist()) for index in batch.indices]
    assert read == [text.rstrip(".") for text in original] != original


def test_dev_sources_are_cut_at_their_end_like_training_sources(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("imitkd")
    data = recipe.data.model_copy(update={"max_source_tokens": 4, "truncate": True})
    trainer = Trainer(set_up(recipe.model_copy(update={"data": data})))
    seen: list[list[int]] = []
    monkeypatch.setattr(
        evaluation_module, "rollout", lambda _, sources, *rest, **options: seen.extend(sources) or [[2]] * len(sources)
    )
    dev_outputs(trainer.setup)
    whole = [trainer.setup.tokenizer.encode_source(example.source) for example in trainer.setup.dev]
    assert all(len(ids) > 4 for ids in whole)
    assert seen == [[*ids[:3], trainer.setup.tokenizer.eos_id] for ids in whole]


@pytest.mark.parametrize("strategy", ["greedy", "topk"])
def test_rollouts_do_not_depend_on_the_other_sources(make_recipe: Callable[..., Recipe], strategy: str) -> None:
    setup = set_up(make_recipe("imitkd"))
    config = RolloutConfig(strategy=strategy)

    def outputs(visit: int, examples: range, batch_tokens: int) -> list[list[int]]:
        sources = [setup.train.sources[index] for index in examples]
        keys = [SampleKey(1, visit, index) for index in examples]
        return rollout(
            setup.student, sources, setup.generation, config, max_new_tokens=9, batch_tokens=batch_tokens, keys=keys
        )

    whole = outputs(0, range(17), 999)
    assert whole[3:17:5] == outputs(0, range(3, 17, 5), 20)
    assert (whole == outputs(1, range(17), 999)) == (strategy == "greedy")


def test_rollouts_come_back_in_order_whatever_the_chunks(make_recipe: Callable[..., Recipe]) -> None:
    setup = set_up(make_recipe("imitkd"))
    sources = [setup.train.sources[index] for index in range(17)]
    arguments = (setup.student, sources, setup.generation, setup.recipe.method.rollout)
    assert rollout(*arguments, max_new_tokens=9, batch_tokens=20) == rollout(
        *arguments, max_new_tokens=9, batch_tokens=999
    )
    assert setup.student.training  # the rollout's eval mode was undone


def test_topk_sampling_draws_from_the_top_k() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 3.0, 2.0, -torch.inf, 1.0]]).repeat(4000, 1)
    counts = torch.bincount(sample_top_k(2, torch.rand(4000))(logits), minlength=5) / 4000
    expected = F.softmax(torch.tensor([3.0, 2.0]), dim=0)
    assert counts[[0, 3, 4]].sum() == 0
    torch.testing.assert_close(counts[1:3], expected, atol=0.04, rtol=0)


def test_batch_is_split_at_a_long_context(make_recipe: Callable[..., Recipe]) -> None:
    trainer = Trainer(set_up(make_recipe("imitkd+full")))
    group = next(trainer.groups(Progress()))
    batch, count = group[0], len(group[0].indices)
    outputs = [[5] * 3] * (count - 1) + [[5] * 600]
    contexts = build_contexts(outputs, [True] * count, trainer.setup.generation)
    pieces = list(cut_by_length(batch, contexts))
    assert [tuple(ctx.tokens.shape) for _, ctx in pieces] == [(count - 1, 4), (1, 601)]
    assert [index for part, _ in pieces for index in part.indices] == batch.indices
    assert sum(int(ctx.loss_mask.sum()) for _, ctx in pieces) == int(contexts.loss_mask.sum())


@pytest.mark.parametrize("method", ["imitkd", "imitkd+full"])
def test_gradients_of_pieces_sum_to_the_batch_gradient(
    make_recipe: Callable[..., Recipe], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts_module, "WORTH_CUTTING", 1)
    trainer = Trainer(set_up(make_recipe(method, training={"clip_norm": 1e9, "learning_rate": 1e-9})))
    batch, contexts = first_batch(trainer, 0.5)
    assert len(list(cut_by_length(batch, contexts))) > 1
    trainer.loss(batch, contexts).backward()
    whole = [parameter.grad.clone() for parameter in trainer.student.parameters()]
    trainer.optimizer.zero_grad()
    monkeypatch.setattr(trainer.optimizer, "zero_grad", lambda **_: None)
    step = trainer._update([(batch, contexts)], 0.5, 0)
    assert step.loss == pytest.approx(trainer.loss(batch, contexts).item(), rel=1e-4)
    for parameter, expected in zip(trainer.student.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-4)


def test_output_vocabulary_can_be_the_target_tokens(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("imitkd+full")
    setup = set_up(recipe.model_copy(update={"tokenizer": TokenizerConfig(output_vocabulary="targets")}))
    seen = {token for row in range(len(setup.train.targets)) for token in setup.train.targets[row].tolist()}
    characters = {index for token, index in setup.tokenizer.vocab.items() if len(token.replace("▁", "")) <= 1}
    suppressed = set(setup.generation.suppressed_ids)
    assert suppressed and suppressed.isdisjoint(seen)
    never = set(range(setup.student.config.vocab_size)) - seen - characters
    assert never <= suppressed <= never | set(set_up(recipe).generation.suppressed_ids)
    trainer = Trainer(setup)
    assert set(trainer.tokens.tolist()) == set(range(setup.student.config.vocab_size)) - suppressed
    batch, contexts = first_batch(trainer, 0.5)
    assert suppressed.isdisjoint(contexts.tokens[:, 1:][contexts.loss_mask[:, 1:]].tolist())
    expected = expected_loss(trainer, batch, contexts, True)
    assert trainer.loss(batch, contexts).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["vanilla", "vanilla+full"])
def test_accumulated_batches_have_loss_and_gradient_of_one_large_batch(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    recipe = make_recipe(method, training={"accumulation": 3, "clip_norm": 0.5})
    trainer, peer = (Trainer(set_up(recipe)) for _ in range(2))
    group = next(trainer.groups(Progress()))
    assert len({batch.indices[0] for batch in group}) == 3 and len({len(batch.indices) for batch in group}) > 1
    gradients: dict[str, torch.Tensor] = {}
    weights = dict(trainer.student.named_parameters())
    monkeypatch.setattr(
        trainer.optimizer, "step", lambda: gradients.update({name: one.grad.clone() for name, one in weights.items()})
    )
    (stats,) = trainer.train_group(group, 0)
    large = peer.batches.collate([index for batch in group for index in batch.indices])
    (contexts,) = peer.write_contexts([large], 1.0)
    loss = peer.loss(large, contexts)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(peer.student.parameters(), 0.5)
    assert norm > 0.5
    assert stats.loss == pytest.approx(loss.item(), rel=1e-6)
    assert stats.positions == int(contexts.loss_mask.sum())
    for name, parameter in peer.student.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-7, rtol=1e-4, msg=name)
