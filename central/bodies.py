"""Request bodies: inflated within bounds, split into events."""

import io
import zlib
from typing import Any

import zstandard
from pydantic_core import from_json

from central.problems import ProblemError, problem

MAX_BODY = 5 << 20
MAX_EVENTS = 1_000


def inflate(body: bytes, encoding: str) -> bytes:
    """The body without its content encoding (identity, gzip, zstd); at most 5 MiB come out. ProblemError otherwise."""
    if len(body) > MAX_BODY:
        raise ProblemError(problem("too-large", "the body is larger than 5 MiB"))
    try:
        if encoding in {"", "identity"}:
            plain = body
        elif encoding == "gzip":
            plain = zlib.decompressobj(wbits=31).decompress(body, MAX_BODY + 1)
        elif encoding == "zstd":
            plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read(MAX_BODY + 1)
        else:
            raise ProblemError(problem("unsupported-encoding", "identity, gzip and zstd are"))
    except (zlib.error, zstandard.ZstdError):
        raise ProblemError(problem("not-json", f"the body is not {encoding}")) from None
    if len(plain) > MAX_BODY:
        raise ProblemError(problem("too-large", "the inflated body is larger than 5 MiB"))
    return plain


def parse(body: bytes) -> Any:
    """JSON without NaN and infinities; ProblemError otherwise."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        raise ProblemError(problem("not-json")) from None


def events_of(body: bytes) -> list[Any]:
    """The list in `{"events": [...]}`: 1 to 1,000 entries of any kind; ProblemError otherwise."""
    parsed = parse(body)
    if not isinstance(parsed, dict) or set(parsed) != {"events"} or not isinstance(parsed["events"], list):
        raise ProblemError(problem("not-json", 'the form is {"events": [...]}'))
    events: list[Any] = parsed["events"]
    if not events:
        raise ProblemError(problem("not-json", "there is no event in it"))
    if len(events) > MAX_EVENTS:
        raise ProblemError(problem("too-large", f"more than {MAX_EVENTS} events"))
    return events
