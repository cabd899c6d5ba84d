"""Client of the central service's `POST /v1/events/batch`."""

import asyncio
import gzip
import ssl
from collections.abc import Callable, Sequence
from typing import Literal

import httpx
import zstandard

from schemas.wire import WireEvent
from uploader.answers import is_refused_whole, outcomes
from uploader.base import Outcome, Retry

Compression = Literal["zstd", "gzip", "none"]


class IngestApi:
    """Keeps one connection alive. Proxies of the environment are not used."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        deadline: float,
        compression: Compression = "zstd",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url.rstrip("/") + "/v1/events/batch"
        self._deadline = deadline
        self._compression = compression
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {api_key}", "content-type": "application/json"},
            timeout=deadline,
            trust_env=False,
            verify=tls if tls is not None else True,
        )

    async def send(self, events: Sequence[WireEvent]) -> list[Outcome]:
        """Post one batch; one that is refused as a whole is split.

        The deadline is our own: httpx's do not cover name resolution.
        """
        body, encoding = _compress(b'{"events":[' + b",".join(e.body for e in events) + b"]}", self._compression)
        headers = {"content-encoding": encoding} if encoding else {}
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._client.post(self._url, content=body, headers=headers)
        except TimeoutError:
            return [Retry(f"no answer within {self._deadline:.0f} s")] * len(events)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return [Retry(f"{type(error).__name__}: {error}")] * len(events)
        if len(events) > 1 and is_refused_whole(response.status_code, response.content):
            middle = len(events) // 2
            return await self.send(events[:middle]) + await self.send(events[middle:])
        return outcomes(events, response.status_code, response.headers, response.content)

    async def close(self) -> None:
        await self._client.aclose()


def _compress(body: bytes, compression: Compression) -> tuple[bytes, str | None]:
    methods: dict[Compression, Callable[[bytes], bytes]] = {
        "zstd": zstandard.ZstdCompressor(level=3).compress,
        "gzip": lambda octets: gzip.compress(octets, 6),
    }
    method = methods.get(compression)
    return (method(body), compression) if method else (body, None)
