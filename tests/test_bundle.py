"""A bundle that is not whole, not its own or not safe is refused, and everything wrong is named at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from compressor.bundle import (
    digest,
    file_records,
    open_bundle,
    read_manifest,
)
from compressor.errors import BundleError, InputError

Damage = Callable[[Path], object]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    change(values)
    (folder / "bundle.json").write_text(json.dumps(values), encoding="utf-8")


def replace_graph(folder: Path, data: bytes) -> None:
    """Puts another graph in the place of one, with its checksum: what a forger would do."""
    name = "int8/generate.onnx"
    (folder / name).write_bytes(data)
    record = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(folder, lambda values: values["files"].update({name: record}))


def graph(
    domain: str = "", location: str = "weights.bin", offset: int = 0, length: int = 16, nested: bool = False
) -> bytes:
    """A graph with one operator of ``domain``, in a branch if ``nested``, and one external tensor."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    node = helper.make_node("Relu", ["w"], ["y"], domain=domain)
    inside = helper.make_graph([node], "branch", [], [out], [tensor])
    if nested:
        node = helper.make_node("If", ["c"], ["y"], then_branch=inside, else_branch=inside)
    body = helper.make_graph([node], "main", [], [out], [] if nested else [tensor])
    return helper.make_model(body, ir_version=10).SerializeToString()  # type: ignore[no-any-return]


def test_a_whole_bundle_opens(bundle: Path) -> None:
    manifest = open_bundle(bundle, expect_digest=digest(bundle).upper())
    assert manifest == read_manifest(bundle)
    assert set(manifest.weight_files("int8")) == {"int8/generate.onnx", "int8/weights.bin"}
    assert manifest.weight_files(None) == manifest.weight_files("int8")
    assert manifest.files == file_records(bundle)
    with pytest.raises(InputError, match="fp32, int8"):
        manifest.precision("int4")


@pytest.mark.parametrize(
    ("names", "cpu", "cuda"),
    [
        (["fp32", "int8", "int4", "mixed", "fp16"], "int8", "fp16"),
        (["int4", "mixed", "fp32"], "mixed", "fp32"),
        (["fp16", "int4", "fp32"], "fp32", "fp16"),
        (["int4", "fp16"], "int4", "fp16"),
        (["int8"], "int8", "int8"),
    ],
)
def test_what_is_taken_unasked(bundle: Path, names: list[str], cpu: str, cuda: str) -> None:
    """Never int4 where there is anything else but fp16, though its weights are the smallest."""
    manifest = read_manifest(bundle)
    manifest = manifest.model_copy(update={"precisions": dict.fromkeys(names, manifest.precisions["int8"])})
    assert manifest.default_precision == manifest.default_for("cpu") == cpu
    assert manifest.default_for("cuda") == cuda


def test_files_the_system_leaves_are_ignored(bundle: Path) -> None:
    (bundle / ".DS_Store").write_bytes(b"")
    open_bundle(bundle)


def test_everything_wrong_is_named_at_once(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    (bundle / "fp32" / "weights.bin").write_bytes(b"short")
    altered = bytearray((bundle / "int8" / "weights.bin").read_bytes())
    altered[9] ^= 1
    (bundle / "int8" / "weights.bin").write_bytes(altered)
    (bundle / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError) as error:
        open_bundle(bundle)
    for said in (
        "README.md is missing",
        "fp32/weights.bin is truncated (5 bytes, expected",
        "int8/weights.bin is altered",
        "tokenizer/tokenizer.json is not in the manifest",
    ):
        assert said in str(error.value)
    assert "\n" not in str(error.value)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "no manifest": (lambda f: (f / "bundle.json").unlink(), "not a bundle"),
    "not JSON": (lambda f: (f / "bundle.json").write_bytes(b"{"), "not valid JSON"),
    "deep JSON": (lambda f: (f / "bundle.json").write_bytes(b"[" * 200_000), "not valid JSON"),
    "not an object": (lambda f: (f / "bundle.json").write_bytes(b"[]"), "format version None"),
    "huge manifest": (lambda f: (f / "bundle.json").write_bytes(b" " * (5 << 20)), "larger than a manifest"),
    "later version": (
        lambda f: edit(f, lambda v: v.update(format_version=5)),
        "format version 5, this program reads 4",
    ),
    "unknown field": (lambda f: edit(f, lambda v: v.update(extra=1)), "extra: Extra inputs"),
    "wrong types": (
        lambda f: edit(f, lambda v: v.update(parameters="x", vocab_size=0)),
        "parameters: .*; vocab_size: ",
    ),
    "path upwards": (
        lambda f: edit(f, lambda v: v["files"].update({"../x": v["files"]["README.md"]})),
        r"'\.\./x' is not a path inside",
    ),
    "absolute path": (
        lambda f: edit(f, lambda v: v["files"].update({"/etc/passwd": v["files"]["README.md"]})),
        "'/etc/passwd' is not a path inside",
    ),
    "graph not listed": (
        lambda f: edit(f, lambda v: v["precisions"]["int8"]["graphs"].update(generate="int8/other.onnx")),
        "'int8/other.onnx' is not among the files",
    ),
    "graph missing": (lambda f: edit(f, lambda v: v["precisions"]["int8"]["graphs"].pop("encoder")), "encoder missing"),
    "tokenizer digest": (lambda f: edit(f, lambda v: v.update(tokenizer_digest="0" * 64)), "tokenizer_digest"),
    "enormous file": (
        lambda f: edit(f, lambda v: v["files"]["README.md"].update(size=1 << 60)),
        r"files\.README\.md\.size",
    ),
    "symbolic link": (
        lambda f: ((f / "README.md").rename(f.parent / "card"), (f / "README.md").symlink_to(f.parent / "card")),
        "README.md is a symbolic link",
    ),
    "linked folder": (
        lambda f: ((f / "int8").rename(f.parent / "int8"), (f / "int8").symlink_to(f.parent / "int8")),
        "int8/generate.onnx is a symbolic link",
    ),
    "foreign operators": (lambda f: replace_graph(f, graph("evil.domain")), "operators of evil.domain"),
    "foreign operators in a branch": (
        lambda f: replace_graph(f, graph("evil.domain", nested=True)),
        "operators of evil.domain",
    ),
    "weights outside": (
        lambda f: replace_graph(f, graph(location="../../etc/passwd")),
        "reads weights from '../../etc/passwd'",
    ),
    "weights outside in a branch": (
        lambda f: replace_graph(f, graph(location="/etc/passwd", nested=True)),
        "reads weights from '/etc/passwd'",
    ),
    "weights beyond the end": (lambda f: replace_graph(f, graph(offset=1 << 40)), "beyond the end of int8/weights.bin"),
    "negative offset": (lambda f: replace_graph(f, graph(offset=-8)), "beyond the end"),
    "not a graph": (lambda f: replace_graph(f, b"\x3a\xff\xff\xff\x7fabc"), "not an ONNX file"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_refused(bundle: Path, damage: Damage, said: str) -> None:
    damage(bundle)
    with pytest.raises(BundleError, match=said):
        open_bundle(bundle)


def test_another_digest_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="the manifest's digest is"):
        open_bundle(bundle, expect_digest="0" * 64)


def test_the_digest_is_that_of_the_file(bundle: Path) -> None:
    assert digest(bundle) == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
