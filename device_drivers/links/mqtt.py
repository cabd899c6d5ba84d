"""One persistent MQTT session: QoS 1, acknowledged by hand after the commit, connected again for ever."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from paho.mqtt.client import MQTTMessage

from device_drivers.base import Frame, Refused
from device_drivers.links.base import Asked, Batch, LinkState
from device_drivers.links.mqtt_connection import (
    RECEIVE_MAXIMUM,
    ConnectionLost,
    MqttConnection,
    MqttOptions,
    Protocol,
    UnreadablePacket,
    UnsupportedProtocol,
)
from device_drivers.profiles.mqtt_topics import ROOT, parse_topic

log = logging.getLogger(__name__)

# A contract payload is under 2 KiB; a larger message is quarantined by its head.
MAX_PAYLOAD = 65_536
# Unacknowledged octets held at most: beyond it the socket is not read, and the broker keeps the rest.
_MAX_HELD = 32 << 20
# What a message takes besides its payload, from here until it is durable.
_OVERHEAD = 1_024
_BACKOFF_FIRST, _BACKOFF_MOST = 0.5, 30.0
# After so many packets of MQTT 5 that cannot be read (properties, mostly) the session goes on without such.
_UNREADABLE = 3
_STUCK = "what the broker sent before waits for room in the buffer"


class MqttBatch(Batch):
    """A batch knows its connection: an acknowledgement is dropped with the connection it belongs to."""

    __slots__ = ("connection", "mids", "octets")

    def __init__(self, connection: MqttConnection) -> None:
        super().__init__()
        self.connection = connection
        self.mids: list[int] = []
        self.octets = 0


class MqttLink:
    """A Link over one broker session that subscribes to some of our topics."""

    transport = "mqtt"

    def __init__(
        self, options: MqttOptions, kinds: Sequence[str], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._options = options
        self._topics = [f"{ROOT}/+/{kind}" for kind in kinds]
        self._clock = clock
        self._protocol: Protocol = options.protocol or "5"
        self._unreadable = 0
        self._connection: MqttConnection | None = None
        self._held = 0
        self._paused: str | None = None
        self._resumed = asyncio.Event()
        self._inbox: asyncio.Queue[MqttBatch] = asyncio.Queue()
        self.window = options.window
        self.unacknowledged = 0
        self.state = LinkState(f"mqtt {options.client_id}")

    async def run(self) -> None:
        backoff = _BACKOFF_FIRST
        while True:
            while (reason := self._must_wait()) is not None:
                self._lost(reason)
                self._resumed.clear()
                await self._resumed.wait()
            connection = MqttConnection(self._options, self._protocol, self._topics, self._on_messages)
            # Before it is open: a resumed session delivers, and wants acknowledgements, before it answers SUBSCRIBE.
            self._connection = connection
            try:
                await connection.open()
                backoff = _BACKOFF_FIRST
                self._connected(connection)
                await connection.closed()
            except UnsupportedProtocol:
                if self._options.protocol is None and self._protocol == "5":
                    log.warning("broker speaks no MQTT 5, using 3.1.1 link=%s", self.state.name)
                    self._protocol = "3.1.1"
                    continue
                self._lost(f"the broker refuses MQTT {self._protocol}")
            except ConnectionLost as error:
                self._lost(str(error))
                self._unreadable += isinstance(error, UnreadablePacket)
            finally:
                connection.abandon()
                self._connection = None
            if self._unreadable >= _UNREADABLE and self._options.protocol is None and self._protocol == "5":
                log.warning("packets of MQTT 5 cannot be read, using 3.1.1 link=%s", self.state.name)
                self._protocol = "3.1.1"
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            backoff = min(_BACKOFF_MOST, backoff * 2)

    def pause(self, reason: str | None) -> None:
        """Disconnect, for this reason: the session stays, and the broker keeps what comes. None: connect again."""
        if reason and not self._paused and self._connection is not None:
            self._connection.end(reason)
        self._paused = reason
        if reason is None:
            self._resumed.set()

    def _must_wait(self) -> str | None:
        """Why there is no use in a connection now: the broker would send a full window of the same again."""
        reason = self._paused or (_STUCK if self.unacknowledged >= RECEIVE_MAXIMUM // 2 else None)
        self.state.paused = reason is not None
        return reason

    async def receive(self) -> Batch:
        return await self._inbox.get()

    def ask(self, asked: Asked) -> None:
        """A patch that publishes is not asked for anything."""

    def acknowledge(self, batch: Batch) -> None:
        assert isinstance(batch, MqttBatch)
        # Held until durable, whichever connection brought it: or reconnects on a full disk would pile it up.
        self.unacknowledged -= len(batch.mids)
        self._held -= batch.octets
        if batch.connection is self._connection:
            for mid in batch.mids:
                batch.connection.acknowledge(mid)
        if self._connection is not None:
            self._gate(self._connection)
        self._resumed.set()

    def _on_messages(self, connection: MqttConnection, messages: list[MQTTMessage]) -> None:
        batch = MqttBatch(connection)
        now = self._clock()
        for message in messages:
            if (
                message.qos
            ):  # there is no acknowledgement of a QoS 0 message, and the broker ends a session that sends one
                batch.mids.append(message.mid)
            payload = bytes(message.payload)
            size = len(payload)
            batch.octets += min(size, MAX_PAYLOAD) + _OVERHEAD
            try:
                parsed = parse_topic(message.topic)
            except UnicodeDecodeError:
                parsed = None
            if parsed is None:
                batch.refused.append(("(no topic of ours)", Refused(payload[:MAX_PAYLOAD], "unknown topic")))
            elif size > MAX_PAYLOAD:
                reason = f"the payload has {size} octets, more than {MAX_PAYLOAD}"
                batch.refused.append((parsed[0], Refused(payload[:MAX_PAYLOAD], reason)))
            else:
                batch.frames.append(Frame(parsed[0], parsed[1], payload, now))
        if connection is self._connection:
            self._connected(connection)  # a resumed session delivers what waited before it is open
        self.state.received += len(messages)
        self.unacknowledged += len(batch.mids)
        self._held += batch.octets
        self._gate(connection)
        self._inbox.put_nowait(batch)

    def _gate(self, connection: MqttConnection) -> None:
        """Stop reading while too much is held; a broker that knows no Receive Maximum is bounded this way too."""
        connection.pause(self._held >= _MAX_HELD or self.unacknowledged >= 2 * RECEIVE_MAXIMUM)

    def _connected(self, connection: MqttConnection) -> None:
        if self.state.connected:
            return
        self.state.connected, self.state.reason = True, f"connected, MQTT {self._protocol}"
        self.state.since = self._clock()
        self.state.connects += 1
        log.info(
            "mqtt connected link=%s protocol=%s session_present=%s",
            self.state.name,
            self._protocol,
            connection.session_present,
        )

    def _lost(self, reason: str) -> None:
        if self.state.connected or self.state.reason != reason:
            log.warning("mqtt not connected link=%s reason=%s", self.state.name, reason)
        self.state.connected, self.state.reason, self.state.since = False, reason, self._clock()
