"""The client against servers that misbehave on the wire, and against the real central service."""

import asyncio
import contextlib
import json

import pytest
import zstandard
from samples import envelope

from schemas.envelope import ENVELOPE
from schemas.wire import to_wire
from uploader.base import Accepted, Refused, Retry
from uploader.ingest_api import IngestApi


def events(*keys, **changes):
    return [
        to_wire(ENVELOPE.validate_json(json.dumps(envelope("sensor_reading", idempotency_key=k, **changes))))
        for k in keys
    ]


async def against(answer, sent, *, deadline=5.0, seen=None):
    """Send to a server that answers each request by `answer(writer, count)`; its requests are in `seen`."""
    seen = [] if seen is None else seen

    async def serve(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            seen.append(await reader.readexactly(length))
            await answer(writer, len(seen))
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    api = IngestApi(f"http://127.0.0.1:{port}", "key", deadline=deadline, compression="none")
    try:
        return await api.send(sent), seen
    finally:
        await api.close()
        server.close()


async def test_a_cut_answer_is_no_answer():
    async def cut(writer, _):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
        await writer.drain()

    found, _ = await against(cut, events("a.b.1"))
    assert isinstance(found[0], Retry)


async def test_a_server_that_says_nothing():
    async def silent(_writer, _):
        await asyncio.sleep(3)

    found, _ = await against(silent, events("a.b.1"), deadline=0.2)
    assert found == [Retry("no answer within 0 s")]


async def test_nobody_listens():
    api = IngestApi("http://127.0.0.1:9", "key", deadline=2)
    assert isinstance((await api.send(events("a.b.1")))[0], Retry)
    await api.close()


async def test_a_proxy_that_refuses_everything_is_asked_once():
    async def portal(writer, _):
        writer.write(b"HTTP/1.1 400 X\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>")
        await writer.drain()

    found, seen = await against(portal, events("a.b.1", "a.b.2", "a.b.3"))
    assert all(isinstance(outcome, Retry) for outcome in found)
    assert len(seen) == 1


async def test_413_splits_until_the_event_stands_alone():
    async def too_large(writer, _):
        writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()

    found, seen = await against(too_large, events("a.b.1", "a.b.2", "a.b.3"))
    assert all(isinstance(outcome, Refused) for outcome in found)
    assert len(seen) == 5


@pytest.mark.parametrize("packed", [True, False])
async def test_an_answer_is_not_read_without_end(packed):
    body = zstandard.ZstdCompressor().compress(bytes(64 << 20)) if packed else bytes(8 << 20)

    async def huge(writer, _):
        encoding = b"content-encoding: zstd\r\n" if packed else b""
        writer.write(b"HTTP/1.1 200 X\r\n%scontent-length: %d\r\n\r\n" % (encoding, len(body)) + body)
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    found, _ = await against(huge, events("a.b.1"))
    assert found == [
        Retry("the answer " + ("is packed, which was not asked for" if packed else "has more than 4194304 octets"))
    ]


def answering(status):
    return b"HTTP/1.1 %d X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status


async def test_one_event_that_makes_the_service_fail_is_found_and_the_others_are_taken():
    sent = events(*(f"a.b.{n}" for n in range(8)))
    seen = []

    async def fails(writer, count):
        keys = [event["idempotency_key"] for event in json.loads(seen[count - 1])["events"]]
        if "a.b.2" in keys:
            writer.write(answering(500))
        else:
            results = [{"index": n, "idempotency_key": key, "status": "ingested"} for n, key in enumerate(keys)]
            body = json.dumps({"results": results}).encode()
            head = b"HTTP/1.1 200 X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            writer.write(head + body)
        await writer.drain()

    found, _ = await against(fails, sent, seen=seen)
    assert [isinstance(outcome, Accepted) for outcome in found] == [n != 2 for n in range(8)]
    assert found[2] == Retry("HTTP 500")


async def test_a_batch_that_is_halved_is_not_halved_over_a_dead_line():
    """Each request would wait for a deadline of its own."""

    async def too_large_then_silent(writer, count):
        if count > 3:
            await asyncio.sleep(3)
        writer.write(answering(413))
        await writer.drain()

    found, seen = await against(too_large_then_silent, events(*(f"a.b.{n}" for n in range(8))), deadline=0.2)
    assert len(seen) == 5
    assert found == [Retry("no answer within 0 s")] * 8


async def test_a_service_that_always_fails_is_not_asked_for_each_event():
    async def fails(writer, _):
        writer.write(answering(500))
        await writer.drain()

    found, seen = await against(fails, events(*(f"a.b.{n}" for n in range(64))))
    assert found == [Retry("HTTP 500")] * 64
    assert len(seen) == 8


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
async def test_against_central(central, compression):
    api = IngestApi(central.url, central.key, deadline=20, compression=compression)
    keys = [f"up.{compression}.{n}" for n in range(3)]
    assert await api.send(events(*keys)) == [Accepted()] * 3
    assert await api.send(events(*keys)) == [Accepted(deduped=True)] * 3
    stranger = IngestApi(central.url, "cgk_wrong", deadline=20)
    assert all(isinstance(o, Retry) and o.unauthorised for o in await stranger.send(events(*keys)))
    await api.close()
    await stranger.close()


async def test_one_refused_event_does_not_hold_the_others(central):
    api = IngestApi(central.url, central.key, deadline=20)
    far = "2199-01-01T00:00:00Z"
    found = await api.send([*events("up.mixed.1"), *events("up.mixed.2", occurred_at=far), *events("up.mixed.3")])
    await api.close()
    assert [type(outcome) for outcome in found] == [Accepted, Refused, Accepted]
    assert "range" in found[1].problem
