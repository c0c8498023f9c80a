"""Sessions: options, devices, and the errors when a session cannot be opened."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import onnx_ir as ir
import pytest

from compressor.errors import BundleError, DependencyError, InputError
from compressor.runtime import session
from compressor.runtime.session import (
    check_onnxruntime,
    open_session,
    probe_device,
    session_options,
    warn_if_slow,
)


def installed(*names: str) -> object:
    def version(name: str) -> str:
        if name not in names:
            raise metadata.PackageNotFoundError(name)
        return "1.32.0"

    return version


def test_two_onnxruntime_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", installed("onnxruntime", "onnxruntime-gpu"))
    with pytest.raises(DependencyError, match=r"pip uninstall -y onnxruntime onnxruntime-gpu, then pip install"):
        check_onnxruntime()


def test_missing_onnxruntime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", installed())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        DependencyError, match=r"pip install '\.\[serve-cpu\]' in the checkout, or 'FILE\.whl\[serve-cpu\]'"
    ):
        check_onnxruntime()


@pytest.mark.parametrize("version", ["1.27.2", "1.9.0"])
def test_old_onnxruntime_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__=version))
    with pytest.raises(DependencyError, match=rf"ONNX Runtime {version} is too old .* 'onnxruntime>=1.28'"):
        check_onnxruntime()


def test_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"a\.onnx: ONNX Runtime cannot load it"):
        open_session(tmp_path / "a.onnx")


class WithoutGpu:
    """A fake GPU package on a machine without a GPU: it lists the provider, but its sessions do not use it."""

    class Session:
        def __init__(self, *arguments: object, **more: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    class SessionOptions:
        def add_session_config_entry(self, key: str, value: str) -> None: ...

    __version__ = "1.32.0"
    InferenceSession = Session

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_cuda_without_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", WithoutGpu)
    open_session(tmp_path / "a.onnx")
    for opened in (lambda: open_session(tmp_path / "a.onnx", device="cuda"), lambda: probe_device("cuda")):
        with pytest.raises(DependencyError, match="device cuda: ONNX Runtime found no GPU"):
            opened()
    monkeypatch.setattr(WithoutGpu, "get_available_providers", staticmethod(lambda: ["CPUExecutionProvider"]))
    with pytest.raises(DependencyError, match=r"no CUDAExecutionProvider; it takes .*onnxruntime-gpu"):
        open_session(tmp_path / "a.onnx", device="cuda")


def test_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device is 'tpu': give cpu or cuda"):
        open_session(tmp_path / "a.onnx", device="tpu")  # type: ignore[arg-type]


def test_cpu_device_passes_the_probe() -> None:
    probe_device("cpu")


def test_probe_graph_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU provider replaces CUDA, so that the bytes of the probe graph are loaded."""
    monkeypatch.setitem(session._PROVIDERS, "cuda", "CPUExecutionProvider")
    probe_device("cuda")


@pytest.mark.parametrize(
    ("domain", "operator"), [("com.microsoft", "NoSuchProduct"), ("", "NoSuchAttention")], ids=["contrib", "standard"]
)
def test_missing_operator_is_named(tmp_path: Path, domain: str, operator: str) -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    node = ir.node(operator, [value], domain=domain)
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "y", value.type, value.shape
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 23, "com.microsoft": 1}, name="graph")
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "a.onnx")
    with pytest.raises(DependencyError, match=rf"lacks the operator .*{operator}; it takes 1\.28 or later with all"):
        open_session(tmp_path / "a.onnx")


@pytest.fixture
def no_warnings_yet() -> Iterator[None]:
    warn_if_slow.cache_clear()
    yield
    warn_if_slow.cache_clear()


@pytest.mark.usefixtures("no_warnings_yet")
@pytest.mark.parametrize(
    ("precision", "device", "features", "said"),
    [
        ("fp32", "cpu", ["sse4_2"], None),
        ("int8", "cpu", ["sse4_2"], None),
        ("fp16", "cpu", ["avx2"], "fp16 is for GPUs"),
        ("fp16", "cuda", ["avx2"], None),
        ("int4", "cpu", ["sse4_2", "avx2"], None),
        ("int4", "cpu", ["asimd"], None),
        ("int4", "cpu", ["sse4_2", "avx"], "int4: without AVX2"),
        ("mixed", "cpu", ["sse4_2"], "mixed: without AVX2"),
        ("int8", "cuda", ["avx2"], "int8: .* fp16 is for GPUs"),
    ],
)
def test_slow_precision_is_warned_about_once(
    precision: str,
    device: session.Device,
    features: list[str],
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(session, "cpu", lambda: {"features": features})
    with caplog.at_level(logging.WARNING):
        warn_if_slow(precision, device)
        warn_if_slow(precision, device)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (0 if said is None else 1) and all(re.search(said or "", text) for text in messages)


def test_session_options_set_threads_and_spinning() -> None:
    options = session_options(intra_threads=3, spinning=False)
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.enable_mem_pattern) == (3, 1, False)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_serialized_graph_can_be_opened() -> None:
    assert [value.name for value in open_session(session._PROBE).get_outputs()] == ["y"]
