"""One gateway in the guest, its patches on the air, and the central service on the host that counts what arrives."""

import asyncio
import json
import secrets
import time
from urllib.parse import urlsplit

import asyncpg
from lines import PATIENCE
from rig import BATCH, PATIENT
from ward import Ward

SETTINGS = """\
[gateway]
id = "{gateway}"

[upstream]
url = "http://10.0.2.2:{port}"
api_key_file = "/etc/patch-gateway/api-key"
retry_first_seconds = 0.2
retry_most_seconds = 1
deadline_seconds = 120

[ble]
{ble}

{more}
"""


class Clinic:
    """`central` is None for tests that need none."""

    def __init__(self, vm, central):
        self.vm, self._central = vm, central
        self.ward = Ward(vm)
        self.gateway = f"gw-{secrets.token_hex(4)}"
        self.devices = {}

    def start(self, ble="", more="", enable=False):
        """Settings, adapter, daemon."""
        port = urlsplit(self._central.url).port if self._central else 9
        text = SETTINGS.format(gateway=self.gateway, port=port, ble=ble, more=more)
        self.vm.put("/etc/patch-gateway/gateway.toml", text)
        key = self._central.key if self._central else "none"
        self.vm.put("/etc/patch-gateway/api-key", key)
        self.vm.run("chmod 644 /etc/patch-gateway/api-key").ok()
        self.ward.attach()
        self.vm.run("until hciconfig >/dev/null 2>&1 || [ -e /sys/class/bluetooth/hci0 ]; do sleep .1; done").ok()
        command = "systemctl enable --now patch-gateway && sync" if enable else "systemctl start patch-gateway"
        self.vm.run(command, timeout=90).ok()

    # commands

    def ask(self, *requests):
        """Results of the daemon's commands, in order; a refusal is a failed test."""
        asked = [{"command": name, "arguments": arguments} for name, arguments in requests]
        answers = json.loads(self.vm.run("python3 -I -S /src/guest/ask.py", 90, json.dumps(asked)).ok())
        for answer in answers:
            assert answer["ok"], answer
        return [answer["result"] for answer in answers]

    def status(self):
        return self.ask(("status", {}))[0]

    def pair(self, *patches, passkeys=None):
        """As at the bedside, all at once; the answers of `pair`."""
        requests = []
        for index, patch in enumerate(patches):
            device_id = self.devices.setdefault(patch, "NFLX_" + secrets.token_hex(4).upper())
            claims = {"device_id": device_id, "batch_number": BATCH, "device_type": "diagnostic_sensor"}
            claims |= {"address": patch.address, "patient": PATIENT}
            claims["passkey"] = passkeys[index] if passkeys else 123456
            requests.append(("pair", claims))
        return self.ask(*requests)

    def pair_mqtt(self):
        """A patch that publishes; its device id."""
        device_id = "NFLX_" + secrets.token_hex(4).upper()
        claims = {"device_id": device_id, "batch_number": BATCH, "device_type": "diagnostic_sensor"}
        self.ask(("pair", claims | {"transport": "mqtt", "patient": PATIENT}))
        return device_id

    def radio(self, patch):
        """What `status` says of one patch's radio."""
        rows = {row["device_id"]: row for row in self.status()["patches"]}
        return rows[self.devices[patch]].get("radio")

    def link(self):
        (link,) = [link for link in self.status()["links"] if link["link"].startswith("ble")]
        return link

    # what arrived

    def keys(self, patch):
        """Idempotency keys at central of one glucose patch's records."""
        return self.keys_of(self.devices[patch], "cgm")

    def keys_of(self, device_id, stream):
        pattern = f"{device_id}.{stream}.%"
        return [
            row[0] for row in self._rows("SELECT idempotency_key FROM events WHERE idempotency_key LIKE $1", pattern)
        ]

    def events(self, patch, stream):
        """Events at central of a patch's streams that begin so."""
        sql = "SELECT idempotency_key, occurred_at, data_json FROM events WHERE idempotency_key LIKE $1"
        rows = self._rows(sql, f"{self.devices[patch]}.{stream}%")
        return [dict(row) | {"data": json.loads(row["data_json"])} for row in rows]

    def audit(self, kind):
        """Data of the gateway's own audit events of one kind."""
        sql = "SELECT data_json FROM events WHERE producer = $1 AND type = 'audit_trail'"
        return [data for (text,) in self._rows(sql, self.gateway) if (data := json.loads(text)).get("kind") == kind]

    def _rows(self, sql, *arguments):
        async def fetch():
            connection = await asyncpg.connect(self._central.where["postgresql"])
            try:
                return await connection.fetch(sql, *arguments)
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def offsets(self, patch):
        return sorted(int(key.rpartition(".")[2]) for key in self.keys(patch))

    def wait_complete(self, *patches, seconds=90):
        """Every record of every patch is at central, once."""
        self.wait_for(
            lambda: all(len(self.offsets(patch)) >= len(patch.sensor.records) for patch in patches),
            seconds,
            lambda: {p.address: (len(self.offsets(p)), len(p.sensor.records), self.radio(p)) for p in patches},
        )
        for patch in patches:
            assert self.offsets(patch) == sorted(patch.sensor.records)

    @staticmethod
    def wait_for(condition, seconds=60, shown=lambda: ""):
        """`seconds` are times PATIENCE."""
        deadline = time.monotonic() + seconds * PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, f"it did not happen within {seconds * PATIENCE} s: {shown()}"
            time.sleep(0.3)
        return found

    def close(self):
        self.ward.close()
