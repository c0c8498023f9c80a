"""Which clients may send requests, and how many: API keys and rate limits."""

from __future__ import annotations

import hashlib
import hmac

from serving.errors import Problem, ProblemBody
from serving.rate_limits import RateLimits
from serving.settings import ClientKey, Settings

_SCHEMES = ("bearer", "deepl-auth-key")


class RateLimited(Problem):
    """A client has sent more requests than its rate allows."""

    def __init__(self, rate: str, seconds: int) -> None:
        super().__init__(
            429, f"more requests than {rate}; try again in {seconds} s", headers={"Retry-After": str(seconds)}
        )

    def body(self) -> ProblemBody:
        """See Problem; a full queue has this status, too."""
        return super().body().model_copy(update={"error_type": "rate_limited"})


class Access:
    """Checks the keys and rates of requests.

    Args:
        settings: Keys and rates.
        limits: Counts the requests.
    """

    def __init__(self, settings: Settings, limits: RateLimits) -> None:
        self._limits = limits
        self._rate = settings.rate_limit
        self._keys = list(settings.keys)
        if settings.api_key is not None:
            digest = _sha256(settings.api_key.get_secret_value().encode())
            self._keys.append(ClientKey(name="api_key", sha256=digest))

    @property
    def needs_key(self) -> bool:
        """Whether a request must carry a key."""
        return bool(self._keys)

    def admit(self, authorization: str, address: str) -> str | None:
        """Counts a request and returns the name of its key; None if the server has no keys.

        Args:
            authorization: The header as the framework has it, decoded as latin-1; empty if there is none.
            address: Of the client, which is counted when the server has no keys.

        Raises:
            Problem: 401, the key is missing or wrong; 429, the rate is exceeded.
        """
        if not self._keys:
            self._count(self._rate, f"address {address}")
            return None
        scheme, _, token = authorization.partition(" ")
        return self.admit_key(token.strip().encode("latin-1") if scheme.lower() in _SCHEMES else b"")

    def admit_key(self, token: bytes) -> str:
        """Counts a request with this key, which may come in its body, and returns its name. Raises as ``admit``."""
        key = self._find(token)
        if key is None:
            raise Problem(
                401, "a valid key is needed: Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"}
            )
        self._count(key.rate_limit or self._rate, f"key {key.name}")
        return key.name

    def _find(self, token: bytes) -> ClientKey | None:
        """Compares with every key, so that the time says nothing of which is near."""
        digest, match = _sha256(token), None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256):
                match = key
        return match

    def _count(self, rate: str | None, client: str) -> None:
        seconds = self._limits.seconds_to_wait(rate, client) if rate else 0
        if rate and seconds:
            raise RateLimited(rate, seconds)


def _sha256(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()
