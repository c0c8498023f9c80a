"""Settings of a server: bundles, address and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Settings(BaseModel):
    """Settings of one server. A request over a limit is refused with the limit and the actual value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: list[Path] = Field(min_length=1, description="Bundle folders; a model's name is its folder's name.")
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 is every address.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
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
        default=None, description="Bearer token that every request but health checks must carry."
    )
    page: bool = Field(default=True, description="Show the page at /, on which people try the models.")

    max_items: int = Field(default=64, ge=1, description="Texts in one request.")
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Bytes in one request body.")
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
    stuck_seconds: float = Field(default=300.0, gt=0, description="An inference that runs longer makes /healthz fail.")
    grace_seconds: float = Field(
        default=5.0, ge=0, description="Time after SIGTERM in which the server is not ready but still answers."
    )
    drain_seconds: float = Field(
        default=30.0, gt=0, description="Time after the grace period to finish admitted requests."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [path.resolve().name for path in self.bundles]
        if len(set(names)) < len(names):
            raise ValueError(f"two bundles have the same folder name ({', '.join(sorted(names))}): rename one")
        if self.expect_digest is not None and len(self.bundles) > 1:
            raise ValueError("expect_digest checks one bundle, and several are served")
        if self.api_key is not None and not self.api_key.get_secret_value():
            raise ValueError("api_key is empty: set a key, or leave it out to serve without one")
        if self.max_items > self.queue_items:
            raise ValueError(f"max_items ({self.max_items}) cannot exceed queue_items ({self.queue_items})")
        return self
