"""kill -9 at random moments of a load, with a real Mosquitto: what was acknowledged is in central, once."""

import asyncio
import os
import random
import time

import asyncpg
import pytest
from publisher import Publisher, reading
from rig import make_gateway, random_device, wait_for

SEED = int(os.environ.get("TEST_SEED", "1"))


async def keys_of(central, device_id):
    connection = await asyncpg.connect(central.where["postgresql"])
    try:
        sql = "SELECT idempotency_key FROM events WHERE idempotency_key LIKE $1"
        return [row[0] for row in await connection.fetch(sql, f"{device_id}.sensor.%")]
    finally:
        await connection.close()


async def kills(folder, broker, central, number):
    rng = random.Random(SEED * 1_000 + number)
    gateway = make_gateway(folder / "gateway", broker, (central.url, central.key))
    gateway.start()
    gateway.wait_connected()
    device_id = random_device()
    password = gateway.pair_mqtt(device_id)
    broker.reload()
    publisher = Publisher(broker.port, device_id, password)
    sequence = 0
    try:
        for _ in range(number):
            until = time.monotonic() + rng.uniform(0.2, 1.5)
            while time.monotonic() < until:
                for _ in range(20):
                    sequence += 1
                    publisher.publish("sensor", reading(device_id, sequence), sequence)
                await asyncio.sleep(0.01)
            gateway.kill()
            gateway.start()
        wait_for(lambda: publisher.waiting == 0, 60, "the broker's acknowledgement")
        gateway.wait_connected()
        acknowledged = len(publisher.acknowledged)
        assert acknowledged == sequence
        deadline = time.monotonic() + 90
        while len(found := await keys_of(central, device_id)) < acknowledged and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
    finally:
        publisher.close()
        gateway.stop()
    assert len(found) == len(set(found)), "none counts twice"
    wanted = {f"{device_id}.sensor.1.{n}" for n in publisher.acknowledged}
    assert set(found) == wanted, f"lost: {sorted(wanted - set(found))[:5]} (TEST_SEED={SEED})"
    assert "exception" not in gateway.log


async def test_three_kills(folder, broker, central):
    await kills(folder, broker, central, 3)


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_ten_kills(folder, broker, central):
    await kills(folder, broker, central, 10)
