"""Commands while the daemon is down: the buffer is opened here, under its lock, as the user it belongs to."""

import asyncio
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Sequence
from os import environ
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from agent.commands import Commands, Failed
from agent.control import Answer, NotRunning, ask
from agent.ending import end_at_once
from agent.setup import (
    PATIENCE_SECONDS,
    credentials_directory,
    database_path,
    kek_path,
    open_buffer,
    socket_path,
)
from buffer.errors import InUseError, MediumError, StoreError
from buffer.medium import surely_missing
from buffer.store import EventBuffer
from config.settings import Settings

UNIT = "patch-gateway"
# Arguments that must not stand on another command line, in the order in which `pair` reads them from its input
SECRETS = ("label", "passkey")


def run_offline(settings: Settings, command: str, arguments: dict[str, JsonValue]) -> Answer:
    """Open, do it, close. InUseError while another process, such as a daemon that is starting, has the buffer."""
    missing = no_buffer(settings) if command != "pair" else None
    if missing:
        return Answer(ok=False, error=missing)

    async def run() -> Answer:
        buffer = await open_buffer(settings)
        doing = asyncio.create_task(Commands(buffer, settings).run(command, arguments))
        try:
            stuck = await _stuck(buffer, doing)
        finally:
            await buffer.close()
        await asyncio.wait({doing})
        if stuck and doing.exception():
            return Answer(ok=False, error=f"Not done, or not all of it: {stuck}. Mend that, then do it again.")
        result = await doing
        if isinstance(result, Failed):
            return Answer(ok=False, error=result.reason)
        return Answer(ok=True, result=result)

    try:
        return asyncio.run(run())
    except InUseError:
        raise
    except MediumError as error:
        end_at_once(error)
    except StoreError as error:
        return Answer(ok=False, error=str(error))


async def _stuck(buffer: EventBuffer, doing: "asyncio.Task[Any]") -> str | None:
    """Why nothing can be written, and has not been for some time; None when it is done."""
    went_well = time.monotonic()
    while not doing.done():
        if buffer.trouble is None:
            went_well = time.monotonic()
        elif time.monotonic() - went_well > PATIENCE_SECONDS:
            return buffer.trouble.value
        await asyncio.wait({doing}, timeout=0.1)
    return None


def no_buffer(settings: Settings) -> str | None:
    """What to say where there is none: the daemon and `pair` make one; who looks at it has mistyped, or lost it."""
    path = database_path(settings)
    if not surely_missing(path):
        return None
    return f"There is no buffer at {path}: the daemon makes it when it first starts (--config names other settings)."


def ask_or_do(settings: Settings, command: str, arguments: dict[str, JsonValue], argv: Sequence[str]) -> Answer | int:
    """Through the control socket while the daemon runs, else offline; an exit code when the command ran elsewhere."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask(socket_path(settings), command, arguments)
        except NotRunning:
            code = become_owner(settings, argv, secrets_of(arguments))
            if code is not None:
                return code
        try:
            return run_offline(settings, command, arguments)
        except InUseError as error:
            if time.monotonic() > deadline:
                return Answer(ok=False, error=str(error))
            time.sleep(0.1)


def secrets_of(arguments: dict[str, JsonValue]) -> list[str]:
    """The secrets as they are typed."""
    said = (arguments[name] for name in SECRETS if name in arguments)
    return [f"{secret:06}" if isinstance(secret, int) else str(secret) for secret in said]


def become_owner(settings: Settings, arguments: Sequence[str], secrets: Sequence[str]) -> int | None:
    """As root, act as the state folder's owner, so that no file of the daemon ends up root's.

    With a key file this process changes its user. With a key that only systemd can decrypt the command runs itself
    again as a transient unit with the daemon's credentials; then its exit code is returned.
    """
    state = settings.gateway.state_dir
    if os.geteuid() != 0 or not state.exists() or state.stat().st_uid == 0:
        return None
    if kek_path(settings).exists():
        owner = pwd.getpwuid(state.stat().st_uid)
        os.initgroups(owner.pw_name, owner.pw_gid)
        os.setgid(owner.pw_gid)
        os.setuid(owner.pw_uid)
        return None
    if credentials_directory() is not None:
        return None
    # A secret on a command line would stand in the journal, so it goes by standard input.
    hidden = [_hidden(argument, secrets) for argument in arguments]
    command = transient_unit(Path(sys.argv[0]).resolve(), hidden, _credential_lines())
    lines = "".join(f"{secret}\n" for secret in secrets)
    return subprocess.run(command, check=False, input=lines or None, text=True).returncode


def _hidden(argument: str, secrets: Sequence[str]) -> str:
    option, equals, _ = argument.partition("=")
    if argument in secrets:
        return "-"
    return f"{option}=-" if equals and option == "--passkey" else argument


def transient_unit(program: Path, arguments: Sequence[str], credentials: Sequence[str]) -> list[str]:
    """`systemd-run` with the unit's user and credentials."""
    properties = [f"--property={line}" for line in credentials]
    return [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        f"--description={UNIT} command",
        f"--working-directory={Path.cwd()}",
        *(f"--setenv={name}" for name in environ if name.startswith("PATCH_GATEWAY_")),
        f"--uid={UNIT}",
        f"--gid={UNIT}",
        *properties,
        str(program),
        *arguments,
    ]


def _credential_lines() -> list[str]:
    shown = subprocess.run(
        ["systemctl", "cat", UNIT],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    return [line.strip() for line in shown.splitlines() if line.startswith("LoadCredential")]
