"""What is wrong when there can be no session."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from compressor.errors import BundleError, DependencyError, InputError
from compressor.runtime.session import check_onnxruntime, open_session


def installed(*names: str) -> object:
    def version(name: str) -> str:
        if name not in names:
            raise metadata.PackageNotFoundError(name)
        return "1.32.0"

    return version


def test_two_packages_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", installed("onnxruntime", "onnxruntime-gpu"))
    with pytest.raises(DependencyError, match=r"pip uninstall -y onnxruntime onnxruntime-gpu, then pip install"):
        check_onnxruntime()


def test_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", installed())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match=r"pip install 'compressor\[serve-cpu\]'"):
        check_onnxruntime()


@pytest.mark.parametrize("version", ["1.27.2", "1.9.0"])
def test_one_is_too_old(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__=version))
    with pytest.raises(DependencyError, match=rf"ONNX Runtime {version} is too old .* 'onnxruntime>=1.28'"):
        check_onnxruntime()


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"a\.onnx: ONNX Runtime cannot load it"):
        open_session(tmp_path / "a.onnx")


class WithoutGpu:
    """The GPU package on a machine without a GPU: it has the provider, and its sessions do without."""

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


def test_cuda_that_is_not_to_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", WithoutGpu)
    open_session(tmp_path / "a.onnx")
    with pytest.raises(DependencyError, match="device cuda: ONNX Runtime found no GPU"):
        open_session(tmp_path / "a.onnx", device="cuda")
    monkeypatch.setattr(WithoutGpu, "get_available_providers", staticmethod(lambda: ["CPUExecutionProvider"]))
    with pytest.raises(DependencyError, match=r"no CUDAExecutionProvider; it takes .*onnxruntime-gpu"):
        open_session(tmp_path / "a.onnx", device="cuda")


def test_a_device_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device is 'tpu': give cpu or cuda"):
        open_session(tmp_path / "a.onnx", device="tpu")  # type: ignore[arg-type]
