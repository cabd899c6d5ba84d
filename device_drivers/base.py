"""What links hand to decoders and decoders hand back.

link or capture -> Frame -> Decoder.receive -> Decoded(observations, refused pieces, facts, writes)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from schemas.event_types import EventType


class Channel(NamedTuple):
    """Where a frame came from: (GATT service, characteristic) as short lower-case UUIDs, or ("mqtt", topic kind)."""

    service: str
    characteristic: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One notification, indication, read value or MQTT message. `device` is what the link knows it by."""

    device: str
    channel: Channel
    payload: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """What a patch said, in the contract's field names; `data` may still lack required fields.

    (`stream`, `boot`, `sequence`) is the patch's own numbering, and with the device id the idempotency key.
    `occurred_at` is ISO 8601 text; None where the patch did not say.
    """

    type: EventType
    stream: str
    boot: int
    sequence: int
    occurred_at: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A piece of a frame that could not be read, and why, in words."""

    payload: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes the decoder wants written to its device; only opcodes its profile declares exist."""

    channel: Channel
    payload: bytes


@dataclass(slots=True)
class Decoded:
    """All that came of one frame. `facts` are about the device and outlive the connection (session start, features)."""

    observations: list[Observation] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    facts: dict[str, int | str] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)


class DecodeError(Exception):
    """A frame that cannot be split at all: the device's fault, never ours."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How one model departs from the specification (docs/profiles.md)."""

    crc: Literal["mcrf4xx", "ccitt_false"] = "mcrf4xx"
    cgm_status_order: Literal["status_first", "warning_first"] = "status_first"


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """What a decoder is told of its device: identity, facts of earlier connections, quirks.

    `boot` replaces the session counter of a replayed capture, so that another pass has other keys.
    """

    device_id: str
    facts: Mapping[str, int | str] = field(default_factory=dict)
    quirks: Quirks = Quirks()
    boot: int | None = None


class Decoder(Protocol):
    """Memory of one device in one profile."""

    def receive(self, frame: Frame) -> Decoded:
        """Decode one frame; DecodeError when it cannot be split at all. No other exception leaves a decoder."""
        ...


class Profile(Protocol):
    """A module of device_drivers/profiles: its channels, and a decoder per device."""

    CHANNELS: frozenset[Channel]

    def decoder(self, device: DeviceContext) -> Decoder:
        """A fresh decoder for one device."""
        ...
