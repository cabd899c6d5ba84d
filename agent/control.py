"""The control socket: `control.sock` (0600), peer credentials checked, one JSON line each way."""

import asyncio
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from agent.commands import Commands, Failed
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


async def serve(path: Path, commands: Commands) -> asyncio.Server:
    """Listen. A socket file left by a killed daemon is replaced: the buffer's lock already says we are the only one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - before anything else runs
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(
            lambda reader, writer: _client(reader, writer, commands), path, limit=_MAX_LINE
        )
    finally:
        os.umask(before)


async def _client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commands: Commands) -> None:
    try:
        async with asyncio.timeout(CLIENT_SECONDS):
            if not _allowed(writer):
                log.warning("control: a stranger was refused")
                return
            answer = await _answer(await reader.readline(), commands)
            writer.write(answer.to_json() + b"\n")
            await writer.drain()
    except (TimeoutError, ValueError, ConnectionError):
        log.warning("control: a client sent no request of ours")
    finally:
        writer.close()


async def _answer(line: bytes, commands: Commands) -> Answer:
    try:
        request = Request.model_validate_json(line)
    except ValidationError:
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
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(CLIENT_SECONDS)
        try:
            sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning from None
        except PermissionError:
            return Answer(ok=False, error=f"You may not use {path}: run this with sudo.")
        try:
            sock.sendall(Request(command=command, arguments=arguments).to_json() + b"\n")
            with sock.makefile("rb") as stream:
                line = stream.readline()
            return Answer.model_validate_json(line)
        except (OSError, ValidationError):
            return Answer(ok=False, error="The daemon did not answer; `systemctl status patch-gateway` says more.")
