"""The power of the whole machine is cut while BLE and MQTT are under load. Broker, patches and central live outside."""

import random
import threading
import time

import pytest
from clinic import Clinic
from lines import PATIENCE
from publisher import Publisher, reading
from station import CUTS, MQTT, SEED

from agent.mosquitto_files import BrokerFiles, device_access

INTEGRITY = (
    "import sqlite3; d = sqlite3.connect('file:/var/lib/patch-gateway/buffer.db?mode=ro', uri=True);"
    "print(d.execute('PRAGMA integrity_check').fetchone()[0])"
)


class Load:
    """A patch that publishes, and patches that take a record every 50 ms, from `start` to `stop`."""

    def __init__(self, clinic, publisher, device_id):
        self.clinic, self.publisher, self.device_id = clinic, publisher, device_id
        self.published = 0
        self._stop = threading.Event()
        self._thread = None

    def start(self):
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            for _ in range(10):
                self.published += 1
                self.publisher.publish("sensor", reading(self.device_id, self.published), self.published)
            for patch in self.clinic.ward.patches:
                self.clinic.ward.do(patch.measure(max(patch.sensor.records) + 1))
            time.sleep(0.05)

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def clinic(vm, central, broker):
    made = Clinic(vm, central)
    for index in (1, 2):
        made.ward.add(index, passkey=123456)
    vm.put("/etc/patch-gateway/mqtt-password", broker.gateway_password)
    made.start(more=MQTT.format(port=broker.port), enable=True)
    made.pair(*made.ward.patches)
    made.wait_complete(*made.ward.patches)
    yield made
    made.close()


@pytest.mark.timeout(PATIENCE * (150 + 120 * CUTS))
def test_every_acknowledged_record_is_there_once(clinic, broker):
    rng = random.Random(SEED)
    device_id = clinic.pair_mqtt()
    password = BrokerFiles(broker.server.passwords, broker.server.access).add(device_id, device_access(device_id))
    broker.reload()
    publisher = Publisher(broker.port, device_id, password)
    load = Load(clinic, publisher, device_id)
    for _ in range(CUTS):
        load.start()
        time.sleep(rng.uniform(1.5, 5))
        print(f"resident under BLE and MQTT load: {(used := memory(clinic)):.1f} MiB")
        assert used < 112
        clinic.vm.power_cut()
        load.stop()
        recover(clinic, load)
    assert clinic.audit("sequence_gap") == []
    publisher.close()


def memory(clinic):
    """Resident MiB of the daemon."""
    pid = "$(systemctl show --property MainPID --value patch-gateway)"
    return int(clinic.vm.run(f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status").ok()) / 1024


def recover(clinic, load):
    """The machine is switched on: all that patches and broker had is at central, once."""
    clinic.vm.power_cut_and_boot()
    clinic.ward.attach()
    clinic.wait_for(lambda: clinic.vm.run("systemctl is-active patch-gateway").out == "active\n", 60)
    assert clinic.vm.run(f'python3 -c "{INTEGRITY}"').ok() == "ok\n"
    clinic.wait_complete(*clinic.ward.patches, seconds=100)
    clinic.wait_for(lambda: load.publisher.waiting == 0, 30)
    wanted = {f"{load.device_id}.sensor.1.{sequence}" for sequence in load.publisher.acknowledged}
    clinic.wait_for(lambda: len(clinic.keys_of(load.device_id, "sensor")) >= len(wanted), 60)
    found = clinic.keys_of(load.device_id, "sensor")
    assert len(found) == len(set(found))
    assert set(found) == wanted, f"TEST_SEED={SEED}"
