"""``compress inspect``, ``export``, ``evaluate`` and ``bench`` on a tiny run and its bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from compressor import cli, errors
from compressor.bundle import digest
from compressor.cli.errors import EXIT_CODES
from compressor.cli.folders import describe


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_inspect_describes_a_run(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", tiny_run, "--json") == 0
    description = json.loads(capsys.readouterr().out)
    tensors = load_file(tiny_run / "model.safetensors").values()
    assert description["kind"] == "run" and description["task"] == "translation"
    assert description["parameters"] == sum(tensor.numel() for tensor in tensors)


def test_inspect_describes_a_bundle(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", tiny_bundle) == 0
    fields = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert fields["kind"] == "bundle" and fields["digest"] == digest(tiny_bundle)
    assert "fp32 (size_mb" in fields["precisions"] and "int8 (size_mb" in fields["precisions"]


def test_inspect_counts_long_lists(capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Path(__file__).parents[2] / "examples" / "de-en"
    slices = json.loads((bundle / "bundle.json").read_text())["robustness"]["slices"]
    assert run("inspect", bundle) == 0
    assert f"slices {len(slices)} records (--json), " in capsys.readouterr().out


def test_describe_reads_a_checkpoint(tmp_path: Path) -> None:
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=40, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8,
        encoder_attention_heads=1, decoder_attention_heads=1, pad_token_id=39, decoder_start_token_id=39,
        eos_token_id=0, forced_eos_token_id=None, max_position_embeddings=16,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(tmp_path)
    description = describe(tmp_path)
    assert (description["kind"], description["model_type"], description["d_model"]) == ("checkpoint", "marian", 8)
    tensors = load_file(tmp_path / "model.safetensors").values()
    assert description["parameters"] == sum(tensor.numel() for tensor in tensors)


def test_describe_refuses_other_folders(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(errors.ModelError, match="neither a run"):
        describe(tmp_path)
    with pytest.raises(errors.ModelError, match="no such folder"):
        describe(tmp_path / "missing")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_run, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(errors.ModelError, match=r"unfinished run \(model.safetensors missing\)"):
        describe(broken)


def test_a_run_given_to_translate_is_to_be_exported(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("translate", tiny_run) == EXIT_CODES[errors.BundleError]
    told = f"{tiny_run}: a run, not a bundle; export it first: `compress export {tiny_run} --out DIR`"
    assert told in capsys.readouterr().err


def test_a_bundle_given_as_teacher_is_refused(
    tiny_recipe: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--set", f"teacher.path={tiny_bundle}", "--label-engine", "torch", "--out", tmp_path / "run"]
    assert run("distill", tiny_recipe, *given) == EXIT_CODES[errors.ModelError]
    assert "give the run or the checkpoint that it was exported from" in capsys.readouterr().err


def test_describe_refuses_a_truncated_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 12)
    with pytest.raises(errors.ModelError, match="truncated"):
        describe(tmp_path)


def test_export_refuses_an_existing_folder(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    assert run("export", tiny_run, "--out", tmp_path) == EXIT_CODES[errors.OutputExistsError]
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_export_refuses_an_unknown_precision(tiny_run: Path, tmp_path: Path) -> None:
    assert (
        run("export", tiny_run, "--out", tmp_path / "b", "--precision", "fp32,int3") == EXIT_CODES[errors.ConfigError]
    )
    assert not (tmp_path / "b").exists()


def test_evaluate_agrees_between_run_and_bundle(
    tiny_run: Path, tiny_bundle: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    test_set = ["--source", tiny_corpus / "dev.de", "--reference", tiny_corpus / "dev.en"]
    for model, name in ((tiny_run, "run.json"), (tiny_bundle, "bundle.json")):
        assert run("evaluate", model, *test_set, "--precision", "fp32", "--json", tmp_path / name) == 0
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("run.json", "bundle.json"))
    assert one["bleu"] == other["bleu"] > 20 and one["signature"] == other["signature"]
    assert (one["engine"], other["engine"]) == ("torch", "onnx")


@pytest.mark.parametrize("command", ["evaluate", "bench"])
def test_unwritable_result_files_are_refused_before_any_work(
    command: str, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(command, tiny_bundle, "--source", tmp_path / "none", "--json", tmp_path / "missing" / "x.json")
    assert code == EXIT_CODES[errors.StorageError] and "does not exist" in capsys.readouterr().err


def test_bench_writes_json_markdown_and_html(tiny_bundle: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    files = {form: tmp_path / f"table.{form}" for form in ("json", "markdown", "html")}
    arguments = [word for form, path in files.items() for word in (f"--{form}", path)]
    test_set = ["--source", tiny_corpus / "dev.de", "--reference", tiny_corpus / "dev.en"]
    small = ["--batch-size", "1,2", "--sentences", "4", "--repeats", "1", "--warmup", "0", "--precision", "int8"]
    assert run("bench", tiny_bundle, *test_set, *small, *arguments) == 0
    rows = json.loads(files["json"].read_text())["rows"]
    assert [(row["engine"], row["precision"], row["batch_size"]) for row in rows] == [
        ("onnx", "int8", 1),
        ("onnx", "int8", 2),
    ]
    assert "| onnx | int8 |" in files["markdown"].read_text() and "<svg" in files["html"].read_text()


@pytest.mark.parametrize("text", ["", "1,x", "0"])
def test_number_lists_reject_other_text(text: str) -> None:
    from compressor.cli.options import numbers

    with pytest.raises(errors.ConfigError):
        numbers(text)
