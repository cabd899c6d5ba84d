"""API keys: 256 random bits, stored as SHA-256; the key decides the tenant."""

import hashlib
import secrets
import time
from typing import NamedTuple

import asyncpg
from starlette.requests import Request

from central.problems import ProblemError, problem

SCOPES = ("ingest", "read", "read:clinical", "export", "admin")
_CACHE_SECONDS = 30.0
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="patch-central"'}


class Caller(NamedTuple):
    """Who asks."""

    tenant: str
    scopes: frozenset[str]


class Keys:
    """Looks keys up, remembering each for half a minute."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._cache: dict[bytes, tuple[float, Caller]] = {}

    async def create(self, tenant: str, service: str, scopes: list[str]) -> str:
        """A new key, shown once."""
        key = f"cgk_{secrets.token_urlsafe(32)}"
        await self._pool.execute(
            "INSERT INTO api_keys (key_hash, service, scopes, tenant_id) VALUES ($1, $2, $3, $4)",
            _hash(key),
            service,
            scopes,
            tenant,
        )
        return key

    async def caller(self, request: Request, scope: str) -> Caller:
        """The key's owner; ProblemError 401 without a valid key, 403 without the scope."""
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key:
            raise ProblemError(problem("unauthorised"), _CHALLENGE)
        caller = await self._find(_hash(key.strip()))
        if caller is None:
            raise ProblemError(problem("unauthorised", "the API key is not known"), _CHALLENGE)
        if scope not in caller.scopes:
            raise ProblemError(problem("forbidden", f"scope {scope} is needed"))
        return caller

    async def _find(self, digest: bytes) -> Caller | None:
        known = self._cache.get(digest)
        if known and known[0] > time.monotonic():
            return known[1]
        row = await self._pool.fetchrow(
            "SELECT tenant_id, scopes FROM api_keys WHERE key_hash = $1 AND rotated_at IS NULL", digest
        )
        if row is None:
            return None
        if len(self._cache) >= 10_000:
            self._cache.clear()
        caller = Caller(row["tenant_id"], frozenset(row["scopes"]))
        self._cache[digest] = (time.monotonic() + _CACHE_SECONDS, caller)
        return caller


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
