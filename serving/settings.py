"""Settings of a server: bundles, address, access and limits, from options, the environment and a file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from compressor.errors import ConfigError

_PREFIX = "COMPRESS_"


def _split(value: Any) -> Any:
    """Returns the parts of a text with commas, as the environment has lists."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
_RATE = r"^[1-9]\d*/(\d+ ?)?(second|minute|hour|day)s?$"


def bundle_name(path: Path) -> str:
    """Returns the name of a bundle's model: that of its folder, or of the symbolic link that was given."""
    return Path(os.path.abspath(path)).name


class ClientKey(BaseModel):
    """A key that a client may send. The file has its SHA-256, not the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w.-]{1,64}$", description="Stands for the client in the log.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="`printf %s KEY | sha256sum`.")
    rate_limit: str | None = Field(default=None, pattern=_RATE, description="In place of the server's `rate_limit`.")


class Settings(BaseSettings):
    """Settings of one server. A request over a limit is refused with the limit and the actual value.

    A value comes from the first of: arguments; the environment (``COMPRESS_PORT``; lists with commas); the file
    ``config`` (YAML or TOML); the default.

    Raises:
        ConfigError: the file cannot be read.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=_PREFIX)

    config: Path | None = Field(default=None, description="File with settings, YAML or TOML (docs/serving.md).")
    bundles: Annotated[list[Path], NoDecode, BeforeValidator(_split)] = Field(
        min_length=1, description="Bundle folders; a model's name is its folder's name."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 is every address.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    engine: Literal["local", "ray"] = Field(
        default="local", description="Serve from this machine, or as a Ray Serve application; needs the extra ray."
    )
    min_replicas: int = Field(default=1, ge=1, description="With Ray: replicas that always run.")
    max_replicas: int = Field(default=4, ge=1, description="With Ray: most replicas, each with `threads` processors.")
    replica_requests: float = Field(
        default=16.0, gt=0, description="With Ray: requests at a time that a replica should have; more start another."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Server processes; they share the queue and, unless `threads` is given, the processors.",
    )
    precision: str | None = Field(
        default=None, description="Precision to load; default: int8 if the bundle has it, else mixed or fp32."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Batches that run at the same time, with one thread each, of all models; default: one a processor.",
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where inference runs; cuda takes an NVIDIA GPU.")
    expect_digest: str | None = Field(
        default=None, description="SHA-256 that the manifest must have; for a server of one bundle."
    )
    api_key: SecretStr | None = Field(
        default=None, description="Bearer token that requests must carry; probes and the page's files need none."
    )
    page: bool = Field(default=True, description="Show the page at /, on which people try the models.")
    keys: Annotated[tuple[ClientKey, ...], NoDecode] = Field(
        default=(), description="Keys of several clients, by SHA-256; in the file only."
    )
    rate_limit: str | None = Field(
        default=None,
        pattern=_RATE,
        description="Requests of each key, or without keys of each address, such as 100/minute; more are a 429.",
    )
    cors_origins: Names = Field(default=(), description="Origins whose pages may send requests; * is every origin.")
    trusted_proxies: Names = Field(
        default=(), description="Addresses or networks of proxies whose X-Forwarded-For and -Proto are believed."
    )
    metrics: bool = Field(default=True, description="Whether there is /metrics.")
    docs: bool = Field(default=True, description="Whether there are /docs and /openapi.json.")
    log_format: Literal["text", "json"] = Field(default="text", description="Lines of the log, on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged; requests are info, probes debug."
    )
    tracing: bool = Field(
        default=False, description="OpenTelemetry spans, sent as the OTEL_* environment says; needs the extra otel."
    )

    max_items: int = Field(default=64, ge=1, description="Texts in one request.")
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Bytes in one request body.")
    max_header_bytes: int = Field(default=32_768, ge=1024, description="Bytes of a request before its body.")
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Output tokens a text; None is the model's own limit."
    )
    max_num_beams: int = Field(default=8, ge=1, description="Beams of one search.")
    queue_items: int = Field(
        default=256, ge=1, description="Texts admitted and not yet answered; a request over it is a 429."
    )
    queue_tokens: int = Field(
        default=65_536, ge=1, description="Source tokens admitted and not yet answered; a request over it is a 429."
    )
    batch_tokens: int = Field(
        default=1024, ge=1, description="Source tokens of a batch, padding included; a longer sentence runs alone."
    )
    timeout_ms: int = Field(default=30_000, ge=1, description="Deadline of a request without timeout_ms.")
    max_timeout_ms: int = Field(default=300_000, ge=1, description="Longest deadline that a request may ask for.")
    receive_seconds: float = Field(
        default=20.0, gt=0, description="Time in which the head of a request, and then its body, must have arrived."
    )
    send_seconds: float = Field(
        default=30.0, gt=0, description="Time in which a client must take some of an answer that waits for it."
    )
    keep_alive_seconds: float = Field(
        default=30.0, gt=0, description="Time after an answer in which a connection may be idle."
    )
    stuck_seconds: float = Field(default=300.0, gt=0, description="An inference that runs longer makes /healthz fail.")
    grace_seconds: float = Field(
        default=5.0, ge=0, description="Time after SIGTERM in which the server is not ready but still answers."
    )
    drain_seconds: float = Field(
        default=30.0, gt=0, description="Time after the grace period to finish admitted requests."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns where values come from, the first that counts at the front."""
        file = init_settings().get("config") or os.environ.get(f"{_PREFIX}CONFIG")
        values = _read_file(Path(file), settings_cls) if file else {}
        return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[ClientKey, ...]) -> tuple[ClientKey, ...]:
        for values in ([key.name for key in keys], [key.sha256 for key in keys]):
            if len(set(values)) < len(values):
                raise ValueError("two keys have the same name or the same sha256")
        return keys

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [bundle_name(path) for path in self.bundles]
        if len(set(names)) < len(names):
            raise ValueError(f"two bundles have the same folder name ({', '.join(sorted(names))}): rename one")
        if self.expect_digest is not None and len(self.bundles) > 1:
            raise ValueError("expect_digest checks one bundle, and several are served")
        if self.engine == "ray" and self.workers > 1:
            raise ValueError("workers are for engine local; Ray starts replicas: set min_replicas, max_replicas")
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) cannot exceed max_replicas ({self.max_replicas})")
        if self.api_key is not None and not self.api_key.get_secret_value():
            raise ValueError("api_key is empty: set a key, or leave it out to serve without one")
        if self.max_items > self.queue_items // self.workers:
            share = f" of each of {self.workers} workers" if self.workers > 1 else ""
            raise ValueError(
                f"max_items ({self.max_items}) cannot exceed queue_items{share} ({self.queue_items // self.workers})"
            )
        return self


def _read_file(path: Path, settings: type[BaseSettings]) -> dict[str, Any]:
    """Returns the settings of a file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{{config}} {path}: {error.strerror}", options=["config"]) from None
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        raise ConfigError(
            f"{{config}} {path} is not valid {kind}: {' '.join(str(error).split())}", options=["config"]
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{{config}} {path}: write names and values, such as port: 8000", options=["config"])
    unknown = sorted(set(map(str, values)) - set(settings.model_fields))
    if unknown:
        raise ConfigError(f"{{config}} {path}: there is no setting {', '.join(unknown)}", options=["config"])
    return values
