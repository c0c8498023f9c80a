"""What a server is told when it starts: what it serves, where it listens, and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Settings(BaseModel):
    """Settings of one server. Every limit is here, and every refusal names the limit and the actual value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: list[Path] = Field(min_length=1, description="Bundle folders; a model's name is its folder's name.")
    host: str = Field(default="127.0.0.1", description="Address to listen on; only this machine unless told otherwise.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    precision: str | None = Field(default=None, description="Precision to load; None is the bundle's default.")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Batches of one request that run at a time, a processor each; None takes all processors.",
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where inference runs.")
    expect_digest: str | None = Field(default=None, description="Digest that the manifest of the one bundle must have.")
    api_key: SecretStr | None = Field(
        default=None, description="Bearer token that every request but health checks must carry."
    )

    max_items: int = Field(default=64, ge=1, description="Texts in one request.")
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Bytes in one request body.")
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Output tokens a text; None is the model's own limit."
    )
    max_num_beams: int = Field(default=8, ge=1, description="Beams of one search.")
    queue_items: int = Field(default=256, ge=1, description="Texts admitted and not yet answered; beyond it, 429.")
    timeout_ms: int = Field(default=30_000, ge=1, description="Deadline of a request that names none.")
    max_timeout_ms: int = Field(default=300_000, ge=1, description="Longest deadline that a request may ask for.")
    stuck_seconds: float = Field(default=300.0, gt=0, description="An inference that runs longer makes /healthz fail.")
    grace_seconds: float = Field(
        default=5.0, ge=0, description="After SIGTERM: not ready, but still serving, for this long."
    )
    drain_seconds: float = Field(default=30.0, gt=0, description="Then: time to finish what was admitted.")

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
