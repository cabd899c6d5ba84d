"""`patch-central serve` and `patch-central api-key create`."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from central.app import Api
from central.auth import SCOPES, Keys
from central.clickhouse import ClickHouse
from central.embedded import EmbeddedError, clickhouse_problem, start_clickhouse, start_postgresql
from central.forwarder import Forwarder
from central.postgresql import PostgreSQL

log = logging.getLogger(__name__)

# A gateway that vanished in the middle of its request does not keep the service from stopping.
_STOP_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `patch-central`."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("central").setLevel(logging.INFO)
    try:
        asyncio.run(arguments.run(arguments))
    except (EmbeddedError, OSError) as error:
        print(f"patch-central: {error}", file=sys.stderr)
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """No abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="patch-central", description="Reference ingestion service of patch-gateway.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="the service; without DSNs on embedded PostgreSQL and ClickHouse")
    serve.set_defaults(run=_serve)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8_440, help="0: any free port")
    serve.add_argument(
        "--make-key", type=Path, metavar="FILE", help="write a key of tenant `demo` with all scopes to FILE"
    )
    keys = commands.add_parser("api-key", help="API keys").add_subparsers(required=True, metavar="ACTION")
    create = keys.add_parser("create", help="make a key and print it once")
    create.set_defaults(run=_create_key)
    create.add_argument("--tenant", required=True)
    create.add_argument("--service", required=True, help="who will use it")
    create.add_argument("--scope", action="append", choices=SCOPES, default=None)
    for command in (serve, create):
        command.add_argument("--state", type=Path, default=Path("patch-central"), help="folder of the embedded engines")
        command.add_argument("--postgresql", metavar="DSN", help="use this PostgreSQL instead")
    serve.add_argument("--clickhouse", metavar="URL", help="use this ClickHouse (user and password in the environment)")
    return parser


@dataclass(frozen=True, slots=True)
class Stores:
    """Both engines, and why there is no ClickHouse where there is none."""

    postgresql: PostgreSQL
    dsn: str
    clickhouse: ClickHouse | None
    clickhouse_url: str | None
    note: str | None


@asynccontextmanager
async def _stores(arguments: argparse.Namespace) -> AsyncIterator[Stores]:
    embedded: Any = None if arguments.postgresql else start_postgresql(arguments.state / "postgresql")
    engine = None
    url, note = arguments.clickhouse, None
    if url is None and arguments.postgresql is None:
        note = clickhouse_problem()
        if note is None:
            engine = start_clickhouse(arguments.state / "clickhouse")
            url = engine.url
    dsn = arguments.postgresql or embedded.get_uri()
    store = await PostgreSQL.connect(dsn)
    user = os.environ.get("PATCH_CENTRAL_CLICKHOUSE_USER", "default")
    clickhouse = ClickHouse(url, user, os.environ.get("PATCH_CENTRAL_CLICKHOUSE_PASSWORD", "")) if url else None
    try:
        if clickhouse:
            await clickhouse.create_schema()
        yield Stores(store, dsn, clickhouse, url, note)
    finally:
        await store.close()
        if clickhouse:
            await clickhouse.close()
        if engine:
            engine.stop()
        if embedded:
            embedded.cleanup()


async def _serve(arguments: argparse.Namespace) -> None:
    async with _stores(arguments) as stores:
        forwarder = Forwarder(stores.postgresql.pool, stores.clickhouse) if stores.clickhouse else None
        api = Api(stores.postgresql, stores.clickhouse, forwarder)
        if arguments.make_key:
            _write_secret(arguments.make_key, await api.keys.create("demo", "demo", list(SCOPES)))
        config = uvicorn.Config(
            api.application(), arguments.host, arguments.port, log_level="warning", access_log=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )  # fmt: skip
        server = _Server(config)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        serving = asyncio.create_task(server.serve())
        forwarding = asyncio.create_task(forwarder.run()) if forwarder else None
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if server.started:
            _announce(server, stores)
        await asyncio.wait({serving, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        if forwarding:
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)


class _Server(uvicorn.Server):
    """Leaves the signals to us: the engines must outlive the last request."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _announce(server: uvicorn.Server, stores: Stores) -> None:
    """One JSON line on stdout: where everything is."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    line = {
        "url": f"http://{host}:{port}",
        "postgresql": stores.dsn,
        "clickhouse": stores.clickhouse_url,
        "note": stores.note,
    }
    print(json.dumps(line), flush=True)


async def _create_key(arguments: argparse.Namespace) -> None:
    embedded: Any = None if arguments.postgresql else start_postgresql(arguments.state / "postgresql")
    store = await PostgreSQL.connect(arguments.postgresql or embedded.get_uri())
    try:
        print(await Keys(store.pool).create(arguments.tenant, arguments.service, arguments.scope or ["ingest"]))
    finally:
        await store.close()
        if embedded:
            embedded.cleanup()


def _write_secret(path: Path, secret: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(secret + "\n")
