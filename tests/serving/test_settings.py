"""Where settings come from: options before the environment before the file before the defaults."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

import serving.workers
from compressor.cli import app
from compressor.errors import ConfigError
from serving.settings import Settings, bundle_name
from serving.workers import share

KEY = hashlib.sha256(b"secret").hexdigest()
YAML = f"bundles: [a, b]\nport: 1\nqueue_items: 100\nkeys: [{{name: shop, sha256: {KEY}, rate_limit: 5/second}}]\n"
TOML = f'bundles = ["a", "b"]\nport = 1\nqueue_items = 100\n[[keys]]\nname = "shop"\nsha256 = "{KEY}"\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.mark.parametrize(("name", "text"), [("s.yaml", YAML), ("s.toml", TOML)])
def test_the_environment_comes_before_the_file_and_arguments_before_both(
    write: Any, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    file = write(name, text)
    monkeypatch.setenv("COMPRESS_PORT", "2")
    monkeypatch.setenv("COMPRESS_CORS_ORIGINS", "https://a.example, https://b.example")
    settings = Settings(config=file, host="h")  # type: ignore[call-arg]
    assert (settings.host, settings.port, settings.queue_items) == ("h", 2, 100)
    assert settings.bundles == [Path("a"), Path("b")]
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert [(key.name, key.sha256) for key in settings.keys] == [("shop", KEY)]
    assert Settings(config=file, port=3).port == 3  # type: ignore[call-arg]
    monkeypatch.setenv("COMPRESS_CONFIG", str(file))
    assert Settings(bundles=[Path("x")]).queue_items == 100


WRONG_FILES = [
    ("s.yaml", "port: [", "not valid YAML"),
    ("s.toml", "port = ", "not valid TOML"),
    ("s.yaml", "- port", "write names and values"),
    ("s.yaml", "prot: 1", "there is no setting prot"),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG_FILES)
def test_wrong_files_are_config_errors(write: Any, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(config=write(name, text))  # type: ignore[call-arg]


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Settings(config=tmp_path / "none.yaml")  # type: ignore[call-arg]


WRONG = [
    ({"rate_limit": "5"}, "rate_limit"),
    ({"rate_limit": "0/second"}, "rate_limit"),
    ({"keys": ({"name": "a b", "sha256": KEY},)}, "name"),
    ({"keys": ({"name": "a", "sha256": "secret"},)}, "sha256"),
    ({"keys": ({"name": "a", "sha256": KEY}, {"name": "b", "sha256": KEY})}, "same sha256"),
    ({"workers": 8}, "cannot exceed queue_items of each of 8 workers"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(bundles=[Path("x")], **values)


def test_the_command_gives_only_what_was_written(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(serving.workers, "serve_with_workers", served.append)
    run = CliRunner().invoke
    assert run(app, ["serve", "--config", str(write("s.yaml", YAML)), "--no-docs"]).exit_code == 0
    assert run(app, ["serve", "one", "two", "--port", "5", "--api-key", "k"]).exit_code == 0
    assert (served[0].bundles, served[0].port, served[0].docs, served[0].metrics) == (
        [Path("a"), Path("b")],
        1,
        False,
        True,
    )
    assert (served[1].bundles, served[1].port, served[1].docs) == ([Path("one"), Path("two")], 5, True)
    assert served[1].api_key is not None and served[1].api_key.get_secret_value() == "k"


def test_a_link_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "de-en").symlink_to(tmp_path / "v2")
    assert bundle_name(tmp_path / "de-en") == "de-en"
    assert bundle_name(tmp_path / "v2" / ".." / "v3") == "v3"


def test_each_worker_has_its_part_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.workers, "available_cpus", lambda: 8)
    settings = Settings(bundles=[Path("x")], workers=3)
    assert share(settings).threads == 2
    assert share(settings.model_copy(update={"threads": 5})).threads == 5
