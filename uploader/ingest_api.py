"""Client of the central service's `POST /v1/events/batch`."""

import asyncio
import gzip
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import httpx
import zstandard

from schemas.wire import WireEvent
from uploader.answers import is_refused_whole, outcomes
from uploader.base import Outcome, Retry

# Where one event at fault stands alone the next one tells whether it is that event, or the line.
_MOST_FAILED = 2
_MOST_ANSWER = 4 << 20

Compression = Literal["zstd", "gzip", "none"]


class Answer(NamedTuple):
    """Status, headers and body of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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
            headers={
                "authorization": f"Bearer {api_key}",
                "content-type": "application/json",
                "accept-encoding": "identity",
            },
            timeout=deadline,
            trust_env=False,
            verify=tls if tls is not None else True,
        )

    async def send(self, events: Sequence[WireEvent]) -> list[Outcome]:
        """Post one batch. One that is refused as a whole is halved until the event at fault stands alone; the rest is
        for another time where two parts in a row come to nothing, or after two deadlines.
        """
        until = time.monotonic() + 2 * self._deadline
        parts, found, failed = [events], list[Outcome](), 0
        while parts and failed < _MOST_FAILED and time.monotonic() < until:
            part = parts.pop()
            answer = await self._post(part)
            if isinstance(answer, Answer):
                if len(part) > 1 and is_refused_whole(answer.status, answer.body):
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                outcomes_of_part = outcomes(part, answer.status, answer.headers, answer.body)
            else:
                outcomes_of_part = [answer] * len(part)
            failed = failed + 1 if all(isinstance(each, Retry) for each in outcomes_of_part) else 0
            found += outcomes_of_part
        last = found[-1] if found else None
        rest = last if isinstance(last, Retry) else Retry("the rest of a batch that had to be halved")
        return found + [rest] * (len(events) - len(found))

    async def _post(self, events: Sequence[WireEvent]) -> Answer | Retry:
        """The deadline is our own: httpx's do not cover name resolution."""
        body, encoding = _compress(b'{"events":[' + b",".join(e.body for e in events) + b"]}", self._compression)
        headers = {"content-encoding": encoding} if encoding else {}
        try:
            async with asyncio.timeout(self._deadline):
                async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                    return await _read(response)
        except TimeoutError:
            return Retry(f"no answer within {self._deadline:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Retry(f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        await self._client.aclose()


async def _read(response: httpx.Response) -> Answer | Retry:
    """As it comes: a small answer that unpacks to a large one is none of ours, nor is one without end."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return Retry("the answer is packed, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > _MOST_ANSWER:
            return Retry(f"the answer has more than {_MOST_ANSWER} octets")
    return Answer(response.status_code, response.headers, bytes(body))


def _compress(body: bytes, compression: Compression) -> tuple[bytes, str | None]:
    methods: dict[Compression, Callable[[bytes], bytes]] = {
        "zstd": zstandard.ZstdCompressor(level=3).compress,
        "gzip": lambda octets: gzip.compress(octets, 6),
    }
    method = methods.get(compression)
    return (method(body), compression) if method else (body, None)
