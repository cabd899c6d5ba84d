"""The link against a real Mosquitto: both protocols, TLS, refusals in words, redelivery of the unacknowledged."""

import asyncio
import contextlib
import gc
import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from publisher import Publisher, reading
from rig import random_device

from agent.demo.processes import free_port
from agent.mosquitto_files import BrokerFiles, device_access
from device_drivers.links.mqtt import MqttLink
from device_drivers.links.mqtt_connection import MqttOptions


@contextlib.asynccontextmanager
async def running(broker, *, kinds=("sensor",), **options):
    fields = {"username": "patch-gateway", "password": broker.gateway_password, "client_id": "gw-test-bulk", **options}
    link = MqttLink(MqttOptions("127.0.0.1", fields.pop("port", broker.port), **fields), kinds)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition, seconds=15):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def frames_of(link, number):
    """Batches until `number` frames are there."""
    batches, found = [], []
    async with asyncio.timeout(15):
        while len(found) < number:
            batches.append(await link.receive())
            found += batches[-1].frames
    return batches, found


@pytest.fixture
def publisher(broker):
    device_id = random_device()
    password = BrokerFiles(broker.server.passwords, broker.server.access).add(device_id, device_access(device_id))
    broker.reload()
    made = Publisher(broker.port, device_id, password)
    made.device_id = device_id
    yield made
    made.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1", None])
async def test_what_was_not_acknowledged_comes_again(broker, publisher, protocol):
    async with running(broker, protocol=protocol) as link:
        await until(lambda: link.state.connected)
        for sequence in (1, 2):
            publisher.publish("sensor", reading(publisher.device_id, sequence))
            batches, _ = await frames_of(link, 1)
            if sequence == 1:
                for batch in batches:
                    link.acknowledge(batch)
        assert link.unacknowledged == 1
    async with running(broker, protocol=protocol) as link:
        batches, found = await frames_of(link, 1)
        assert [b'"sequence": 2' in frame.payload for frame in found] == [True]
        for batch in batches:
            link.acknowledge(batch)
        await until(lambda: link.state.connected)
        await asyncio.sleep(0.2)
    async with running(broker, protocol=protocol) as link:
        await until(lambda: link.state.connected)
        await asyncio.sleep(0.3)
        assert link.state.received == 0


async def test_a_resumed_session_is_acknowledged_before_it_is_open(broker, publisher):
    """More than a window waits: the answer to SUBSCRIBE comes behind messages that must be acknowledged first."""
    async with running(broker) as link:
        await until(lambda: link.state.connected)
    for sequence in range(9_000):
        publisher.publish("sensor", reading(publisher.device_id, sequence))
    await until(lambda: publisher.waiting == 0, 60)
    seen = set()
    async with running(broker) as link:
        async with asyncio.timeout(60):
            while len(seen) < 9_000:
                batch = await link.receive()
                seen |= {frame.payload for frame in batch.frames}
                link.acknowledge(batch)
        await until(lambda: link.state.connected)
        assert link.unacknowledged == 0


async def test_an_acknowledgement_is_dropped_with_its_connection(broker, publisher):
    async with running(broker) as link:
        await until(lambda: link.state.connected)
        publisher.publish("sensor", reading(publisher.device_id, 1))
        (stale,), _ = await frames_of(link, 1)
        broker.server.stop()
        await until(lambda: not link.state.connected)
        broker.server.start()
        await until(lambda: link.state.connected)
        again, _ = await frames_of(link, 1)
        assert link.unacknowledged == 2
        link.acknowledge(stale)
        assert link.unacknowledged == 1
        await asyncio.sleep(0.3)
        assert link.state.connects == 2, "nothing was acknowledged on the new connection that belongs to the old one"
        link.acknowledge(again[-1])
        assert link.unacknowledged == 0
        assert link.state.connects == 2


async def test_a_paused_link_leaves_everything_at_the_broker(broker, publisher):
    async with running(broker) as link:
        await until(lambda: link.state.connected)
        link.pause("no room")
        await until(lambda: not link.state.connected)
        for sequence in range(50):
            publisher.publish("sensor", reading(publisher.device_id, sequence))
        await until(lambda: publisher.waiting == 0)
        link.pause("no room")
        await asyncio.sleep(0.7)
        assert (link.state.connected, link.state.reason, link.state.received) == (False, "no room", 0)
        link.pause(None)
        await frames_of(link, 50)
        await until(lambda: link.state.connects == 2)


async def test_a_full_window_that_is_not_stored_is_not_fetched_again(broker, publisher):
    """It would be held twice, and then nothing would be read any more, not even the broker's pings."""
    async with running(broker) as link:
        await until(lambda: link.state.connected)
        for sequence in range(2_000):
            publisher.publish("sensor", reading(publisher.device_id, sequence))
        batches, _ = await frames_of(link, 2_000)
        link._connection.end("for the test")
        await until(lambda: link.state.paused)
        assert "waits for room" in link.state.reason
        await asyncio.sleep(1)
        assert (link.state.connected, link.state.connects) == (False, 1)
        for batch in batches:
            link.acknowledge(batch)  # to nobody
        await until(lambda: link.state.connects == 2)
        batches, _ = await frames_of(link, 2_000)
        for batch in batches:
            link.acknowledge(batch)
        assert link.unacknowledged == 0
        assert not link.state.paused


async def test_a_link_that_is_paused_before_it_starts_does_not_connect(broker):
    link = MqttLink(MqttOptions("127.0.0.1", free_port(), client_id="gw-test-bulk"), ("sensor",))
    link.pause("no room")
    task = asyncio.create_task(link.run())
    await until(lambda: link.state.reason == "no room")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_qos_0_message_is_taken_and_not_acknowledged(broker, publisher):
    async with running(broker) as link:
        await until(lambda: link.state.connected)
        for _ in range(3):
            publisher._client.publish(f"patches/v1/{publisher.device_id}/sensor", b"{}", qos=0).wait_for_publish(5)
            batches, _ = await frames_of(link, 1)
            for batch in batches:
                link.acknowledge(batch)
            await asyncio.sleep(0.1)
        assert (link.state.connects, link.unacknowledged) == (1, 0)


async def test_refusals_are_said_in_words(broker):
    async with running(broker, password="wrong") as link:
        await until(lambda: "refuses us" in link.state.reason)
    async with running(broker, port=free_port()) as link:
        await until(lambda: "cannot reach the broker" in link.state.reason)


def named(common_name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def certificates(folder):
    """An authority and a server certificate for 127.0.0.1."""
    now = datetime.now(UTC)
    authority, server = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())

    def certificate(key, ca):
        builder = x509.CertificateBuilder().subject_name(named("authority" if ca else "broker"))
        builder = builder.issuer_name(named("authority")).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        return builder.add_extension(alternative, critical=False).sign(authority, SHA256()).public_bytes(Encoding.PEM)

    (folder / "ca.pem").write_bytes(certificate(authority, True))
    (folder / "broker.pem").write_bytes(certificate(server, False))
    pem = server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "broker.key").write_bytes(pem)
    return folder / "ca.pem"


# paho leaves the socket of a failed handshake to the garbage collector, which warns
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls(broker, folder):
    """Our authority is trusted, another is refused, and nothing speaks in clear to that listener."""
    authority = certificates(broker.server.folder)
    broker.server.stop()
    port, real = free_port(), type(broker.server)._configuration

    class Tls(type(broker.server)):
        def _configuration(self):
            files = "".join(f"{name} {self.folder}/{file}\n" for name, file in (
                ("cafile", "ca.pem"), ("certfile", "broker.pem"), ("keyfile", "broker.key")))  # fmt: skip
            return real(self) + f"listener {port} 127.0.0.1\n{files}"

    server = Tls(broker.server.folder, broker.server.port)
    server.start()
    try:
        async with running(broker, port=port, tls=ssl.create_default_context(cafile=authority)) as link:
            await until(lambda: link.state.connected)
        (folder / "other").mkdir()
        other = certificates(folder / "other")
        async with running(broker, port=port, tls=ssl.create_default_context(cafile=other)) as link:
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in link.state.reason)
        async with running(broker, port=port) as link:
            await until(lambda: link.state.reason != "not started")
            assert not link.state.connected
    finally:
        server.stop()
    gc.collect()


def test_small_messages_that_want_no_acknowledgement_are_not_read_without_end():
    """QoS 0, with little or nothing in them, while nothing can be stored."""
    link = MqttLink(MqttOptions("127.0.0.1", 1, "gw"), ("dosage",))
    paused = []
    connection = SimpleNamespace(pause=paused.append, session_present=False)
    message = SimpleNamespace(qos=0, mid=0, payload=b"", topic="patches/v1/NFLX_0A1B2C3D/dosage")
    for _ in range(400):
        link._on_messages(connection, [message] * 100)
    assert paused[0] is False
    assert paused[-1] is True
    for _ in range(400):
        link.acknowledge(link._inbox.get_nowait())
    assert link._held == 0


async def test_a_message_that_cannot_be_read_does_not_keep_those_behind_it(broker, publisher):
    """Mosquitto takes properties that paho refuses, and sends the message first at each connection."""
    other = random_device()
    password = BrokerFiles(broker.server.passwords, broker.server.access).add(other, device_access(other))
    broker.reload()
    async with running(broker) as link:
        await until(lambda: link.state.connected)
        strange = Client(CallbackAPIVersion.VERSION2, other, protocol=MQTTProtocolVersion.MQTTv5)
        strange.username_pw_set(other, password)
        strange.connect("127.0.0.1", broker.port)
        strange.loop_start()
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = ("note", "\ufeff")
        strange.publish(f"patches/v1/{other}/sensor", b"{}", qos=1, properties=properties).wait_for_publish(5)
        publisher.publish("sensor", reading(publisher.device_id, 1))
        _, frames = await frames_of(link, 2)
        assert {frame.device for frame in frames} == {other, publisher.device_id}
        strange.loop_stop()
        strange.disconnect()


async def test_a_session_that_delivers_for_long_before_it_answers_is_not_ended(broker, publisher, monkeypatch):
    """On a slow machine: connecting again would only bring the same once more."""
    async with running(broker) as link:
        await until(lambda: link.state.connected)
    for sequence in range(3_000):
        publisher.publish("sensor", reading(publisher.device_id, sequence))
    await until(lambda: publisher.waiting == 0)
    monkeypatch.setattr("device_drivers.links.mqtt_connection._OPEN_SECONDS", 0.6)
    take = MqttLink._on_messages

    def slowly(self, connection, messages):
        time.sleep(len(messages) / 2_000)
        take(self, connection, messages)

    monkeypatch.setattr(MqttLink, "_on_messages", slowly)
    async with running(broker) as link:
        _, frames = await frames_of(link, 3_000)
        await until(lambda: link._connection is not None and link._connection._ready.done())
    assert len(frames) == len({frame.payload for frame in frames}) == 3_000
