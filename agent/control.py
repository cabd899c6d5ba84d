"""The control socket: `control.sock` (0600), peer credentials checked, one JSON line each way; after `record` a capture
follows the answer.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import JsonValue, ValidationError

from agent.commands import Commands, Failed
from agent.taps import Tap, Taps
from schemas.base import Model

log = logging.getLogger(__name__)

_MAX_LINE = 65_536
_CREDENTIALS = struct.Struct("3i")
CLIENT_SECONDS = 30.0


class Request(Model):
    """What a client sends."""

    command: str
    arguments: dict[str, JsonValue] = {}


class Answer(Model):
    """What it gets: a result, or why not."""

    ok: bool
    result: dict[str, JsonValue] | None = None
    error: str | None = None


class NotRunning(Exception):
    """No daemon listens on the socket."""


async def serve(path: Path, commands: Commands, taps: Taps) -> asyncio.Server:
    """Listen. A socket file left by a killed daemon is replaced: the buffer's lock already says we are the only one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - before anything else runs
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(
            lambda reader, writer: _client(reader, writer, commands, taps), path, limit=_MAX_LINE
        )
    finally:
        os.umask(before)


async def _client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commands: Commands, taps: Taps) -> None:
    try:
        async with asyncio.timeout(CLIENT_SECONDS):
            if not _allowed(writer):
                log.warning("control: a stranger was refused")
                return
            request = _request(await reader.readline())
            answer = await _answer(request, commands)
            writer.write(answer.to_json() + b"\n")
            await writer.drain()
        if answer.ok and request and request.command == "record":
            with taps.open() as tap:
                await _send(tap, reader, writer)
    except (TimeoutError, ValueError, ConnectionError):
        log.warning("control: a client sent no request of ours, or stopped reading")
    finally:
        # What a client that does not read leaves behind must not keep the connection.
        (writer.transport.abort if writer.transport.get_write_buffer_size() > _MAX_LINE else writer.close)()


async def _send(tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client goes, or does not keep up."""
    gone = asyncio.create_task(_gone(reader))
    try:
        while True:
            following = asyncio.create_task(tap.lines.get())
            await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
            line = following.result() if following.done() else None
            if line is None:
                following.cancel()
                return
            writer.write(line)
            async with asyncio.timeout(CLIENT_SECONDS):
                await writer.drain()
    finally:
        gone.cancel()


async def _gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(4_096):
        pass


def _request(line: bytes) -> Request | None:
    try:
        return Request.model_validate_json(line)
    except ValidationError:
        return None


async def _answer(request: Request | None, commands: Commands) -> Answer:
    if request is None:
        return Answer(ok=False, error="the request is not one JSON line of the form {command, arguments}")
    try:
        result = await commands.run(request.command, request.arguments)
    except Exception as error:
        log.exception("control: a command failed command=%s", request.command)
        return Answer(ok=False, error=f"the daemon could not do this ({type(error).__name__}); its log says more")
    if isinstance(result, Failed):
        return Answer(ok=False, error=result.reason)
    return Answer(ok=True, result=result)


def _allowed(writer: asyncio.StreamWriter) -> bool:
    """Only root and the daemon's own user."""
    sock: Any = writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return uid in (0, os.getuid())


def ask(path: Path, command: str, arguments: dict[str, JsonValue]) -> Answer:
    """The client's side, for the command line; NotRunning when nobody listens."""
    with asked(path, command, arguments) as (answer, _, _):
        return answer


@contextmanager
def asked(
    path: Path, command: str, arguments: dict[str, JsonValue]
) -> Iterator[tuple[Answer, socket.socket, BinaryIO]]:
    """The answer, and the connection with what follows; NotRunning when nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, sock.makefile("rb") as stream:
        yield _exchange(path, Request(command=command, arguments=arguments), sock, stream), sock, stream


def _exchange(path: Path, request: Request, sock: socket.socket, stream: BinaryIO) -> Answer:
    sock.settimeout(CLIENT_SECONDS)
    try:
        sock.connect(os.fspath(path))
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning from None
    except PermissionError:
        return Answer(ok=False, error=f"You may not use {path}: run this with sudo.")
    try:
        sock.sendall(request.to_json() + b"\n")
        return Answer.model_validate_json(stream.readline())
    except (OSError, ValidationError):
        return Answer(ok=False, error="The daemon did not answer; `systemctl status patch-gateway` says more.")
