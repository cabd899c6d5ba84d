"""A gateway whose buffer is on a disk that fails, the patch that publishes to it, and the way to central."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from clinic import SETTINGS, Clinic
from load import Load
from medium import STATE, Medium
from rig import make_broker
from vm import VM

from agent.demo.valve import Valve
from agent.mosquitto_files import BrokerFiles, device_access

CUTS = int(os.environ.get("TEST_CUTS", "1"))
SEED = int(os.environ.get("TEST_SEED", "1"))
DROP_IN = "/etc/systemd/system/patch-gateway.service.d/test.conf"
WAL_FULL = 4 << 20
MQTT = """\
[mqtt]
enabled = true
host = "10.0.2.2"
port = {port}
username = "patch-gateway"
password_file = "/etc/patch-gateway/mqtt-password"
broker_inflight = 4000
"""
MORE = MQTT + "[buffer]\n{buffer}\n"


class Station(Clinic):
    """`pipe` is the way to central: cut it, and what is acknowledged stays in the buffer. `vm`: the machine of now."""

    def __init__(self, rig, central, folder):
        self._rig = rig
        super().__init__(self._machine(), central)
        self.broker = make_broker(folder / "mosquitto")
        self.medium = Medium(folder)
        self.disk = self.medium.disk
        self.pipe = Valve("127.0.0.1", urlsplit(central.url).port)
        self.load = None
        self._buffer, self._heard = "", 0

    def _machine(self):
        return VM(self._rig.image, self._rig.stage, self._rig.snapshot).start()

    # life

    def start(self, buffer=None, unit=""):
        """The daemon; with settings of its buffer, which stay, and a drop-in for the unit."""
        self._buffer = self._buffer if buffer is None else buffer
        more = MORE.format(port=self.broker.port, buffer=self._buffer)
        text = SETTINGS.format(gateway=self.gateway, port=self.pipe.port, ble="enabled = false", more=more)
        self.vm.put("/etc/patch-gateway/gateway.toml", text)
        self.vm.put("/etc/patch-gateway/mqtt-password", self.broker.gateway_password)
        self.vm.put("/etc/patch-gateway/api-key", self._central.key)
        if unit:
            self.vm.put(DROP_IN, unit)
            self.vm.run("systemctl daemon-reload").ok()
        self.vm.run("systemctl restart patch-gateway", timeout=90).ok()

    def pair(self):
        """The patch."""
        device_id = self.pair_mqtt()
        files = BrokerFiles(self.broker.server.passwords, self.broker.server.access)
        password = files.add(device_id, device_access(device_id))
        self.broker.reload()
        self.load = Load(self.broker.port, device_id, password)

    def cut_power(self, keep=0.0, rng=None, unflushed=0):
        """What is not flushed is lost, but for a part of `keep`. How many sectors were not."""
        sectors = self.disk.cut(keep, rng, unflushed)
        self.vm.power_cut()
        self.load.stop()
        return sectors

    def move(self):
        """The disk goes into another machine, whose memory knows nothing of it: as a boot, in a fifth of the time."""
        self.vm.__exit__()
        self.vm, self._heard = self._machine(), 0
        self.disk.power_on()
        self.medium.plug_into(self.vm)
        self.start()

    def boot(self):
        """The machine is switched on, and does the rest by itself."""
        self._heard = 0
        self.disk.power_on()
        self.vm.power_cut_and_boot()

    def close(self):
        if self.load:
            self.load.close()
        self.vm.__exit__()
        self.broker.server.stop()
        self.disk.close()
        self.ward.do(self.pipe.cut())
        super().close()

    # looking

    def run(self, *arguments):
        """A command in the machine of now."""
        return self.vm.run(*arguments)

    def progress(self, *fates):
        """(Process, how many messages it acknowledged as these, or as new); (0, 0) while none answers."""
        answer = self.vm.run("python3 -I -S /src/guest/ask.py", 90, '[{"command": "status", "arguments": {}}]')
        shown = json.loads(answer.out)[0].get("result") if answer.rc == 0 else None
        return (shown["pid"], sum(shown["counters"].get(fate, 0) for fate in ("durable", *fates))) if shown else (0, 0)

    def said(self):
        """What unit and daemon wrote into the journal since `forget`, or since the machine was started."""
        return self.vm.run("journalctl -b -o cat -u patch-gateway").out[self._heard :]

    def forget(self):
        self._heard += len(self.said())

    def wait_acknowledged(self, count, seconds=60):
        """So many more, by the process that runs or by the next one."""
        pid, before = self.progress()

        def enough():
            now, acknowledged = self.progress()
            return acknowledged >= count + (before if now == pid else 0)

        self.wait_for(enough, seconds, self.said)

    def fill_wal(self):
        """Until it has the size that it keeps: where no file has to grow, a file system complains last."""
        size = f"stat -c %s {STATE}/buffer.db-wal"
        while int(self.vm.run(size).ok()) < WAL_FULL:
            self.load.publish_junk(50)
            self.wait_for(lambda: self.load.publisher.waiting == 0)

    def lost(self, seconds=90):
        """What is not at central although the last of each kind is: they were the last in every queue."""
        self.load.stop()
        self.ward.do(self.pipe.open())
        last = {self.load.publish(kind) for kind in ("alert", "sensor")}
        self.wait_for(lambda: last <= set(self.arrived()), seconds, self.status)
        found = self.arrived()
        assert len(found) == len(set(found))
        return self.load.keys - set(found)

    def arrived(self):
        return self.keys_of(self.load.device_id, "%")


@contextlib.contextmanager
def station_in(short_folder, rig, central, **options):
    """A station that runs and knows its patch; `options` are those of `start`."""
    folder = Path(tempfile.mkdtemp(dir=short_folder))
    folder.chmod(0o711)
    station = Station(rig, central, folder)
    try:
        station.ward.do(station.pipe.open())
        station.medium.plug_into(station.vm)
        station.start(**options)
        station.pair()
        yield station
    finally:
        station.close()
