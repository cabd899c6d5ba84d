"""A broker that kept 20,000 messages hands them over at once: all are stored, and the daemon stays small."""

from pathlib import Path

from publisher import Publisher, reading
from rig import make_gateway, random_device, wait_for

MESSAGES = 20_000
# The budget of the design for a burst of so many
MOST_MIB = 112


def peak_mib(process):
    line = next(row for row in Path(f"/proc/{process.pid}/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_memory_is_bounded(folder, broker):
    gateway = make_gateway(folder / "gateway", broker)
    gateway.start()
    gateway.wait_connected()
    device_id = random_device()
    password = gateway.pair_mqtt(device_id)
    broker.reload()
    gateway.stop()
    publisher = Publisher(broker.port, device_id, password, inflight=2_000)
    for sequence in range(MESSAGES):
        publisher.publish("sensor", reading(device_id, sequence))
    wait_for(lambda: publisher.waiting == 0, 60, "the broker's acknowledgement")
    publisher.close()
    gateway.start()
    try:
        wait_for(
            lambda: (gateway.ask("status") or {"queue": {}})["queue"].get("sensor") == MESSAGES, 60, what="the rows"
        )
        assert peak_mib(gateway.process) < MOST_MIB
        assert gateway.ask("status")["counters"] == {"durable": MESSAGES}
    finally:
        gateway.stop()
