"""The joined graph against PyTorch's greedy search, and what the graphs look like."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from compressor.decoding.constraints import PerSentence, search_options
from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ExportError
from compressor.exporters.graphs.search_loop import join
from compressor.exporters.graphs.tracing import trace, trace_parts
from compressor.exporters.quantization.calibration import calibrate
from compressor.exporters.quantization.rewrite import quantize
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.onnx_inspect import graph_needs
from tests.exporters.conftest import EVERY_RULE, PLAIN, VOCAB, random_model


def sources(count: int, seed: int = 0) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(1, 60) for _ in range(chance.randint(1, 17))] + [0] for _ in range(count)]


def session(path: Path | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


@torch.no_grad()
def greedy_graphs(model: Seq2SeqModel, rules: GenerationConfig) -> dict[str, ir.Model]:
    """As ``build_graphs``, without beams: tracing is slow."""
    model.fused_attention = True
    parts = trace_parts(model, rules, beams=False)
    model.fused_attention = False
    return {"encoder": parts.encoder, "decoder_step": parts.step, "generate": join(parts)}


def feeds(ids: Tensor, mask: Tensor, limit: PerSentence, rules: GenerationConfig = EVERY_RULE) -> dict[str, Any]:
    options = search_options(rules, len(ids), limit)._asdict()
    given = {"input_ids": ids, "attention_mask": mask.long(), **options}
    return {name: tensor.numpy() for name, tensor in given.items()}


def run(
    graph: Any, batch: list[list[int]], limit: PerSentence, rules: GenerationConfig = EVERY_RULE
) -> list[list[int]]:
    ids, mask = pad_sources(batch, 60)
    (output,) = graph.run(["output_ids"], feeds(ids, mask, limit, rules))
    return [row[: row.index(0) + 1] if 0 in row else row for row in output.tolist()]


@pytest.mark.parametrize("limit", [1, 2, 12, 30])
@pytest.mark.parametrize("batch", [1, 2, 7, 16])
def test_tokens_are_those_of_pytorch(model: Seq2SeqModel, folders: dict[str, Path], batch: int, limit: int) -> None:
    chosen = sources(batch, seed=batch)
    ids, mask = pad_sources(chosen, 60)
    assert run(session(folders["fp32"] / "generate.onnx"), chosen, limit) == greedy(model, EVERY_RULE, ids, mask, limit)


def test_each_sentence_has_its_own_limit(model: Seq2SeqModel, folders: dict[str, Path]) -> None:
    """With every rule, a forced end of sentence at each limit among them."""
    chosen, limits = sources(16, seed=16), [1, 30, 2, 12, 5, 7, 30, 3, 9, 4, 12, 1, 2, 6, 8, 10]
    graph = session(folders["fp32"] / "generate.onnx")
    together = run(graph, chosen, limits)
    assert together == [run(graph, [source], limit)[0] for source, limit in zip(chosen, limits, strict=True)]
    assert together == greedy(model, EVERY_RULE, *pad_sources(chosen, 60), limits)


def test_a_forced_first_token_is_not_the_beginning(tmp_path: Path) -> None:
    """What is suppressed at the beginning is so after it, as in Hugging Face; the second token would be 5 otherwise."""
    model = random_model()
    with torch.no_grad():
        model.output_bias[5] += 50.0
    rules = EVERY_RULE.model_copy(
        update={"suppressed_ids": (60,), "begin_suppressed_ids": (5,), "min_new_tokens": 0, "forced_eos_id": None}
    )
    ir.save(greedy_graphs(model, rules)["generate"], tmp_path / "generate.onnx")
    for first, second, *rest in run(session(tmp_path / "generate.onnx"), sources(8), 6, rules):
        assert first == 7 and second != 5 and (set(rest) == {5} or second == 0)


def test_outputs_end_at_different_lengths(folders: dict[str, Path]) -> None:
    """Or the test above would prove little."""
    lengths = {len(output) for output in run(session(folders["fp32"] / "generate.onnx"), sources(64), 30)}
    assert len(lengths) > 5


@pytest.mark.parametrize("name", ["generate", "generate_beams"])
def test_a_step_computes_nothing_that_is_the_same_in_every_step(graphs: dict[str, ir.Model], name: str) -> None:
    (outer,) = [node for node in graphs[name].graph if node.op_type == "Loop"]
    (inner,) = [node for node in outer.attributes["body"].as_graph() if node.op_type == "Loop"]
    body = inner.attributes["body"].as_graph()
    changing = {*body.inputs}
    for node in body:
        graphs_inside = [
            attribute for attribute in node.attributes.values() if attribute.type == ir.AttributeType.GRAPH
        ]
        assert graphs_inside or changing.intersection(node.inputs), node.name
        changing.update(node.outputs)
    assert len(changing) > 30


@pytest.mark.parametrize(
    "sizes",
    [{"norm": "pre", "tie_embeddings": False, "decoder_layers": 2, "activation": "gelu"}, {"tie_embeddings": "target"}],
    ids=["pre-norm, untied, two decoder layers", "a source embedding of its own"],
)
def test_other_layouts(sizes: dict[str, Any], tmp_path: Path) -> None:
    model = random_model(**sizes)
    path = tmp_path / "generate.onnx"
    ir.save(greedy_graphs(model, PLAIN)["generate"], path)
    chosen = sources(5)
    assert run(session(path), chosen, 9, PLAIN) == greedy(model, PLAIN, *pad_sources(chosen, 60), 9)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_many_suppressed_tokens_have_no_rows_in_the_output_layer(tmp_path: Path, precision: str) -> None:
    model, allowed = random_model(), {0, *range(7, VOCAB, 3)}  # with EOS, the forced tokens and some of the suppressed
    rules = EVERY_RULE.model_copy(update={"suppressed_ids": tuple(sorted(set(range(VOCAB)) - allowed))})
    graphs = greedy_graphs(model, rules)
    if precision == "int8":
        quantize(graphs["generate"], VOCAB, calibrate(graphs, sources(40, seed=5), 12))
    ir.save(graphs["generate"], tmp_path / "generate.onnx")
    (rows,) = {value.shape[-1] for value in graphs["decoder_step"].graph.outputs if value.name == "logits"}
    chosen = sources(16)
    written = run(session(tmp_path / "generate.onnx"), chosen, 12)
    assert rows == -(-len(allowed) // 32) * 32  # filled up to whole groups of columns
    assert {token for output in written for token in output} <= allowed
    if precision == "fp32":
        assert written == greedy(model, rules, *pad_sources(chosen, 60), 12)


def test_the_loop_stops_when_all_are_finished(folders: dict[str, Path]) -> None:
    graph = session(folders["fp32"] / "generate.onnx")
    short = [source for source in sources(40) if len(run(graph, [source], 30)[0]) < 20]
    ids, mask = pad_sources(short, 60)
    (output,) = graph.run(None, feeds(ids, mask, 30))
    ends = [row.index(0) + 1 for row in output.tolist()]
    assert output.shape == (len(short), max(ends)) and len(short) > 3
    assert all(set(row[end:]) <= {60} for row, end in zip(output.tolist(), ends, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_source_has_one_output_in_every_batch(folders: dict[str, Path], precision: str) -> None:
    graph, chosen = session(folders[precision] / "generate.onnx"), sources(48)
    alone = [run(graph, [source], 12)[0] for source in chosen]
    for size in (8, 48):
        together = [out for at in range(0, 48, size) for out in run(graph, chosen[at : at + size], 12)]
        assert together == alone


def test_padding_does_not_move_a_bit(folders: dict[str, Path]) -> None:
    """int8 rounds activations: the last bit of a sum decides, so sums must not depend on padding at all."""
    step, encoder = (session(folders["int8"] / f"{name}.onnx") for name in ("decoder_step", "encoder"))
    wanted = [argument.name for argument in step.get_inputs()]

    def logits(source: list[int], width: int) -> Any:
        ids = np.array([source + [60] * (width - len(source))])
        mask = (np.arange(width) < len(source))[None].astype(np.int64)
        names = [output.name for output in encoder.get_outputs()]
        given = feeds(torch.tensor(ids), torch.tensor(mask), 9)
        given |= dict(zip(names, encoder.run(names, {"input_ids": ids, "attention_mask": mask}), strict=True))
        given["step"] = np.array(0)
        return step.run(["logits"], {name: given[name] for name in wanted})[0]

    for source in sources(20):
        alone = logits(source, len(source))
        assert all(np.array_equal(alone, logits(source, len(source) + extra)) for extra in (1, 2, 5, 9)), source


def test_weights_are_kept_once(folders: dict[str, Path], model: Seq2SeqModel) -> None:
    largest = sum(parameter.numel() for parameter in model.parameters()) * 4 + model.positions.numel() * 4  # type: ignore[operator,union-attr]
    assert (folders["fp32"] / "weights.bin").stat().st_size < 1.3 * largest
    for path in folders["fp32"].glob("*.onnx"):
        needs = graph_needs(path.read_bytes())
        assert {external.location for external in needs.externals} == {"weights.bin"}
        assert needs.domains <= {"", "com.microsoft"}


def test_graphs_hold_no_paths_of_this_machine(folders: dict[str, Path]) -> None:
    home = str(Path(__file__).resolve().parents[2]).encode()
    for path in folders["fp32"].glob("*.onnx"):
        data = path.read_bytes()
        assert home not in data and b".py" not in data


def test_the_model_is_left_as_it_was(model: Seq2SeqModel) -> None:
    assert model.fused_attention is False and not model.training


class Untraceable(nn.Module):
    def forward(self, token: Tensor) -> Tensor:
        return token + 1 if int(token.sum()) > 9 else token


def test_a_module_that_cannot_be_traced_is_named() -> None:
    with pytest.raises(ExportError, match="Untraceable cannot be traced"):
        trace(Untraceable(), {"token": (torch.ones(2), {0: "batch"})}, ["next"])
