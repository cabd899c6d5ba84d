"""Everything of one demo: folders, processes, gateway, fleet; started and stopped in order."""

import asyncio
import base64
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.app import Gateway
from agent.commands import Failed
from agent.demo.budget import Budget
from agent.demo.capture_link import CaptureLink
from agent.demo.fleet import FLEET, FleetPatch, PublishingPatch
from agent.demo.processes import Central, DemoError, Mosquitto, free_port
from agent.demo.valve import Valve
from agent.labels import TEST_KID
from agent.mosquitto_files import BrokerFiles, gateway_access
from agent.setup import kek_path, open_buffer
from buffer.keys import make_key_file
from buffer.store import EventBuffer
from config.load import load
from config.settings import Settings
from device_drivers.emulated.cgm_capture import SHIPPED
from schemas.key_list import KeyList, LabelKey, sign_key_list
from schemas.pairing_label import PairingLabel, encode

_GATEWAY_USER = "patch-gateway"


@dataclass(slots=True)
class Stats:
    """Row counts of central's stores; ClickHouse's is None where it does not run."""

    postgresql: dict[str, int]
    clickhouse: dict[str, int] | None


class Scene:
    """One demo. `start` before anything else, `stop` always."""

    def __init__(self, keep: Path | None, limit: int | None, pause: Any) -> None:
        self._kept = keep is not None
        self.folder = keep.resolve() if keep else Path(tempfile.mkdtemp(prefix="patch-gateway-demo-"))
        self.budget = Budget(limit)
        self._pause = pause
        self.mosquitto = Mosquitto(self.folder / "mosquitto", free_port())
        self.central = Central(self.folder / "central")
        self.publishers: list[PublishingPatch] = []
        self.link: CaptureLink | None = None
        self.valve: Valve | None = None
        self.gateway: Gateway | None = None
        self._buffer: EventBuffer | None = None
        self._http = httpx.AsyncClient(timeout=30.0, trust_env=False)
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def keep(self) -> None:
        """Leave the folder."""
        self._kept = True

    async def start(self) -> str | None:
        """Start all of it. Returns why ClickHouse does not run, if it does not; DemoError when nothing can."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise DemoError(
                f"{self.folder} is not empty: --keep wants a new folder, so that the counts are this run's."
            )
        for folder in (self.folder, self.mosquitto.folder, self.folder / "gateway"):
            folder.mkdir(parents=True, exist_ok=True)
        # As root the embedded PostgreSQL runs as a user of its own, which must get through to its folder.
        self.folder.chmod(0o711)
        self.central.launch()
        where = await asyncio.to_thread(self.central.wait)
        address = urlsplit(where["url"])
        self.valve = Valve(str(address.hostname), address.port or 80)
        await self.valve.open()
        settings = self._settings()
        make_key_file(kek_path(settings))
        self._buffer = await open_buffer(settings)
        self.link = CaptureLink(SHIPPED, FLEET[3].device_id, self.budget, self._pause)
        self.gateway = Gateway(self._buffer, settings, [self.link])
        passwords = await self._pair()
        self.mosquitto.start()
        self._running = asyncio.create_task(self.gateway.run(self._stop))
        await self._subscribed()
        self.publishers = [
            PublishingPatch(patch, passwords[patch.device_id], self.mosquitto.port, self.budget, self._pause, seed)
            for seed, patch in enumerate(FLEET)
            if patch.transport == "mqtt"
        ]
        note: str | None = where["note"]
        return note

    async def _subscribed(self) -> None:
        """Patches begin when the gateway's sessions exist: before that a broker keeps nothing for it."""
        assert self.gateway is not None
        async with asyncio.timeout(30):
            while not all(link.state.connected for link in self.gateway.links):
                await asyncio.sleep(0.02)
                if self._running and self._running.done():
                    self._running.result()

    def _settings(self) -> Settings:
        """A settings file in the folder, so that every other command can be tried beside the demo."""
        gateway = self.folder / "gateway"
        assert self.valve is not None
        password = BrokerFiles(self.mosquitto.passwords, self.mosquitto.access).add(
            _GATEWAY_USER, gateway_access(_GATEWAY_USER)
        )
        _secret(gateway / "mqtt-password", password)
        self._root = Ed25519PrivateKey.generate()
        root_key = base64.b64encode(self._root.public_key().public_bytes_raw()).decode()
        text = f"""\
[gateway]
id = "gw-demo"
state_dir = "{gateway}"
runtime_dir = "{gateway}/run"

[mqtt]
enabled = true
port = {self.mosquitto.port}
username = "{_GATEWAY_USER}"
password_file = "{gateway}/mqtt-password"
broker_inflight = 4000
broker_password_file = "{self.mosquitto.passwords}"
broker_acl_file = "{self.mosquitto.access}"

[ble]
enabled = false

[upstream]
url = "http://127.0.0.1:{self.valve.port}"
api_key_file = "{self.central.key_file}"
retry_most_seconds = 2

[pairing]
key_list = "{gateway}/key-list.json"
root_key = "{root_key}"

[logging]
level = "warning"
format = "text"
"""
        path = self.folder / "gateway.toml"
        path.write_text(text, encoding="utf-8")
        return load(path)

    async def _pair(self) -> dict[str, str]:
        """Pair the fleet by labels signed with a test key, as a clinician would; MQTT passwords by device."""
        assert self.gateway is not None
        maker = Ed25519PrivateKey.generate()
        public = base64.b64encode(maker.public_key().public_bytes_raw()).decode()
        key = LabelKey(kid=TEST_KID, public_key=public, not_before=date(2020, 1, 1), not_after=date(2099, 12, 31))
        keys = KeyList(issued_at=datetime.now(UTC), sequence=1, keys=[key])
        (self.folder / "gateway" / "key-list.json").write_bytes(sign_key_list(keys, self._root))
        passwords = {}
        for patch in FLEET:
            asked = {
                "label": _label(patch, maker),
                "transport": patch.transport,
                "patient": patch.patient,
                "site": patch.site,
                "applied_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            result = await self.gateway.commands.run("pair", asked)
            if isinstance(result, Failed):
                raise DemoError(f"Pairing {patch.device_id} failed: {result.reason}")
            passwords[patch.device_id] = result.get("mqtt_password", "")
        return passwords

    @property
    def made(self) -> int:
        """Contract events counted by the emulated patches."""
        return sum(patch.made for patch in self.publishers) + (self.link.made if self.link else 0)

    async def fleet(self) -> None:
        """Run the publishing patches until the budget is spent and the broker has it all."""
        await asyncio.gather(*(patch.run() for patch in self.publishers))
        assert self.link is not None
        await self.link.done.wait()

    async def stats(self) -> Stats | None:
        """What central's stores hold now; None while it does not answer."""
        assert self.central.where is not None
        headers = {"authorization": f"Bearer {self.central.key_file.read_text(encoding='utf-8').strip()}"}
        with suppress(httpx.HTTPError):
            response = await self._http.get(self.central.where["url"] + "/v1/stats", headers=headers)
            if response.status_code == httpx.codes.OK:
                found = response.json()
                return Stats(found["postgresql"], found["clickhouse"])
        return None

    async def stop(self) -> None:
        """In the order in which nothing is cut off: patches, gateway, broker, central."""
        for patch in self.publishers:
            await asyncio.to_thread(patch.close)
        self._stop.set()
        if self._running:
            await asyncio.gather(self._running, return_exceptions=True)
        if self._buffer:
            await self._buffer.close()
        await self._http.aclose()
        if self.valve:
            await self.valve.cut()
        await asyncio.to_thread(self.mosquitto.stop)
        await asyncio.to_thread(self.central.stop)
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)


def _label(patch: FleetPatch, maker: Ed25519PrivateKey) -> str:
    today = datetime.now(UTC).date()
    label = PairingLabel(
        kid=TEST_KID,
        device_type=patch.device_type,
        device_id=patch.device_id,
        batch_number=f"BATCH_{today:%Y%m%d}_DEM",
        expiry=today + timedelta(days=30),
        address_type=1,
        address=bytes.fromhex("C0FFEE0000" + patch.device_id[-2:]),
        secret=os.urandom(16),
    )
    return encode(label, maker)


def _secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
