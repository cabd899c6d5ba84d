"""One connection to a broker, from CONNECT to its end, driven by the event loop: paho's own thread is never started.

A connection is used once, so a packet identifier of one can never be acknowledged on another.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device_drivers.links.tasks import in_daemon_thread

log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]
RECEIVE_MAXIMUM = 4_000
# The broker drops what is larger, instead of handing us again and again what we cannot hold (docs/mqtt.md).
_MAXIMUM_PACKET = 4 << 20
# Handed over at the latest when so much was read, so that the link can stop the reading; a message takes 8 KiB of
# memory as paho keeps it, whatever it holds, and a tenth of that as a frame.
_MESSAGES_AT_ONCE = 200
_OCTETS_AT_ONCE = 4 << 20
_OPEN_SECONDS = 20.0
_UNSUPPORTED_PROTOCOL, _PROTOCOL_ERROR = 0x84, 0x82
# QoS 1 or 2; a session granted QoS 0 would lose what it does not take at once
_GRANTED = (1, 2)


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """How to reach the broker. `protocol` None means MQTT 5 and, where the broker lacks it, 3.1.1."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    protocol: Protocol | None = None
    keepalive: int = 15
    session_expiry: int = 30 * 86_400
    window: int = 20


class ConnectionLost(Exception):
    """The connection could not be made or ended; the message is for a person."""


class UnsupportedProtocol(Exception):
    """The broker does not speak this version of MQTT."""


class UnreadablePacket(ConnectionLost):
    """The broker sent what paho cannot read. It sends it again at each connection, before everything behind it."""


class MqttConnection:
    """`on_messages` gets the messages of one wake-up together, none acknowledged."""

    def __init__(
        self,
        options: MqttOptions,
        protocol: Protocol,
        topics: Sequence[str],
        on_messages: Callable[["MqttConnection", list[MQTTMessage]], None],
    ) -> None:
        self._options, self._topics, self._on_messages = options, topics, on_messages
        self._loop = asyncio.get_running_loop()
        self._five = protocol == "5"
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._messages: list[MQTTMessage] = []
        self._octets = 0
        self._opening: asyncio.Timeout | None = None
        self._socket: Any = None
        self._reading = False
        self.session_present = False
        self._client = self._make_client()

    def _make_client(self) -> Client:
        options = self._options
        version = MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311
        client = Client(
            CallbackAPIVersion.VERSION2,
            options.client_id,
            clean_session=None if self._five else False,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if options.username is not None:
            client.username_pw_set(options.username, options.password)
        if options.tls is not None:
            client.tls_set_context(options.tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.connect_timeout = 10.0
        return client

    async def open(self) -> None:
        """Connect, resume the session and subscribe; ConnectionLost or UnsupportedProtocol."""
        try:
            async with asyncio.timeout(_OPEN_SECONDS) as self._opening:
                # Name resolution, TCP and TLS block, and no timeout of theirs covers all three.
                await in_daemon_thread(self._connect)
                self._attach()
                await self._ready
        except TimeoutError:
            raise ConnectionLost(f"no answer from {self._where} within {_OPEN_SECONDS:.0f} s") from None
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"cannot reach {self._where}: {error}") from None

    async def closed(self) -> None:
        """Returns never: raises ConnectionLost when the connection ends."""
        await self._closed

    def acknowledge(self, mid: int) -> None:
        """Send the PUBACK."""
        self._client.ack(mid, 1)

    def pause(self, pause: bool) -> None:
        """Stop or go on reading the socket."""
        if self._socket is None or pause is not self._reading:
            return
        self._reading = not pause
        if pause:
            self._loop.remove_reader(self._socket)
        else:
            self._loop.add_reader(self._socket, self._read)
            self._loop.call_soon(self._read)

    def end(self, reason: str) -> None:
        """Lose the connection on purpose."""
        self._fail(ConnectionLost(reason))

    def abandon(self) -> None:
        """Close the socket without a DISCONNECT: the session and what is unacknowledged stay with the broker."""
        self._detach()
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
        for future in (self._ready, self._closed):
            if not future.done():
                future.cancel()

    @property
    def _where(self) -> str:
        return f"the broker at {self._options.host}:{self._options.port}"

    def _connect(self) -> None:
        properties = None
        if self._five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho
            properties.SessionExpiryInterval = self._options.session_expiry
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = _MAXIMUM_PACKET
        clean: Any = {"clean_start": False} if self._five else {}
        self._client.connect(
            self._options.host, self._options.port, self._options.keepalive, properties=properties, **clean
        )

    def _attach(self) -> None:
        self._socket = self._client.socket()
        if self._socket is None:
            raise ConnectionLost(f"{self._where} closed the connection")
        self._client.on_socket_register_write = lambda _c, _u, sock: self._loop.add_writer(sock, self._write)
        self._client.on_socket_unregister_write = self._no_writer
        self._client.on_socket_close = lambda _c, _u, _sock: self._detach()
        self._reading = True
        self._loop.add_reader(self._socket, self._read)
        self._misc()
        if self._client.want_write():
            self._loop.add_writer(self._socket, self._write)

    def _detach(self) -> None:
        sock, self._socket = self._socket, None
        if isinstance(sock, socket.socket) and sock.fileno() >= 0:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _read(self) -> None:
        try:
            self._read_packets()
        except Exception as error:  # paho raises what its parser raises on packets of no known form
            log.exception("mqtt: a packet could not be read")
            self._unreadable(type(error).__name__)

    def _read_packets(self) -> None:
        """Read until nothing more is there: `loop_read` takes one packet, and TLS may hold several already."""
        while self._socket is not None and self._reading:
            before = len(self._messages)
            self._client.loop_read()
            pending = getattr(self._socket, "pending", None)
            if len(self._messages) == before and not (pending and pending()):
                break
            if len(self._messages) >= _MESSAGES_AT_ONCE or self._octets >= _OCTETS_AT_ONCE:
                self._loop.call_soon(self._read)
                break
        if self._messages:
            if self._opening is not None and not (self._ready.done() or self._opening.expired()):
                # A resumed session delivers before it answers: that is an answer, too.
                self._opening.reschedule(self._loop.time() + _OPEN_SECONDS)
            messages, self._messages, self._octets = self._messages, [], 0
            self._on_messages(self, messages)

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._messages.append(message)
        self._octets += len(message.payload)

    def _no_writer(self, _client: Client, _userdata: Any, sock: Any) -> None:
        if sock.fileno() >= 0:  # a client that was abandoned says so when it is collected
            self._loop.remove_writer(sock)

    def _write(self) -> None:
        self._client.loop_write()

    def _misc(self) -> None:
        """Keepalive: paho notices here that the broker no longer answers."""
        if self._socket is not None:
            self._client.loop_misc()
            self._loop.call_later(1.0, self._misc)

    def _on_connect(
        self, _client: Client, _userdata: Any, flags: ConnectFlags, code: ReasonCode, _properties: Any
    ) -> None:
        if code.is_failure:
            unsupported = code.value == _UNSUPPORTED_PROTOCOL or code.getName() == "Unsupported protocol version"
            self._fail(
                UnsupportedProtocol() if unsupported else ConnectionLost(f"{self._where} refuses us: {code.getName()}")
            )
            return
        self.session_present = flags.session_present
        self._client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(
        self, _client: Client, _userdata: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        if any(code.value not in _GRANTED for code in codes):
            topics = ", ".join(self._topics)
            self._fail(ConnectionLost(f"{self._where} does not let us subscribe to {topics}: check its access list"))
        elif not self._ready.done():
            self._ready.set_result(None)

    def _on_disconnect(
        self, _client: Client, _userdata: Any, flags: DisconnectFlags, code: ReasonCode, _properties: Any
    ) -> None:
        if code.value == _PROTOCOL_ERROR and not flags.is_disconnect_packet_from_server:
            self._unreadable(code.getName())
        self._fail(ConnectionLost(f"the connection to {self._where} ended: {code.getName()}"))

    def _unreadable(self, why: str) -> None:
        self._fail(UnreadablePacket(f"{self._where} sent a packet that cannot be read ({why})"))

    def _fail(self, error: Exception) -> None:
        for future in (self._ready, self._closed):
            if not future.done():
                future.set_exception(error)
                future.exception()  # one of the two may never be awaited
