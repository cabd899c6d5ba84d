"""What links hand to decoders and decoders hand back.

link or capture -> Frame -> Decoder.receive -> Decoded(observations, refused pieces, facts, writes, reads)
"""

from collections.abc import Callable, Mapping
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
    """One notification, indication, read value or MQTT message. `device` is what the link knows it by.

    `live`: a notification that nobody asked for; false while records are being fetched, None where it is not known.
    """

    device: str
    channel: Channel
    payload: bytes
    received_at: datetime
    live: bool | None = None


class Place(NamedTuple):
    """Where a record stands in its patch's own numbering."""

    stream: str
    boot: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What a patch said, in the contract's field names; `data` may still lack required fields.

    `place` is the patch's own numbering, and with the device id the idempotency key. What a patch does not
    number (`place` None) is heard when it says something else than before under the same `code`.
    `occurred_at` is ISO 8601 text; None where the patch did not say.
    """

    type: EventType
    place: Place | None
    occurred_at: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A piece of a frame that could not be used, and why, in words.

    `place`: the record itself was read, so fetching it again would change nothing.
    """

    payload: bytes
    reason: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes the decoder wants written to its device; only opcodes its profile declares exist."""

    channel: Channel
    payload: bytes


@dataclass(slots=True)
class Decoded:
    """All that came of one frame. `facts` are about the device and outlive the connection (session start, features).

    `writes` and `reads` are what the decoder asks the link for next, if there is one.
    """

    observations: list[Observation] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    facts: dict[str, int | str] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    reads: list[Channel] = field(default_factory=list)


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


class RecordAnswer(NamedTuple):
    """What a record access control point said: the procedure ended well (`done`) or not, and why; `aborted` answers the
    request to stop.
    """

    aborted: bool
    done: bool
    reason: str


class RecordAccess(Protocol):
    """How stored records are asked for in one service. Deleting them is not part of it."""

    @property
    def stream(self) -> str:
        """The stream of the observations."""
        ...

    @property
    def boot_fact(self) -> str:
        """Which fact of the device holds the boot."""
        ...

    @property
    def unclear_fact(self) -> str:
        """Which fact is set while it is not clear whether that boot is over: nothing is asked for meanwhile."""
        ...

    @property
    def spacing_fact(self) -> str:
        """Which fact holds the least distance between records."""
        ...

    def last_of(self, before: Mapping[str, int | str], after: Mapping[str, int | str]) -> int:
        """The highest sequence that the boot of `before` can have had, given the one that followed it; -1 unknown."""
        ...

    def sequence_at(self, facts: Mapping[str, int | str], moment: datetime) -> int:
        """Which sequence the boot of these facts was at then."""
        ...

    @property
    def control(self) -> Channel:
        """The control point."""
        ...

    @property
    def records(self) -> Channel:
        """Where the records arrive."""
        ...

    def report_from(self, sequence: int) -> bytes:
        """The request for every stored record from `sequence` on."""
        ...

    def abort(self) -> bytes:
        """The request to stop."""
        ...

    def answer(self, value: bytes) -> RecordAnswer | None:
        """An indication of the control point; None when it ends nothing."""
        ...


@dataclass(frozen=True, slots=True)
class GattPlan:
    """What a collector does with one service on every connection: reads, then subscriptions, then stored records.

    `authenticated`: the service is used only over a bond made with a passkey. `writes` are the only opcodes (first
    octets) that exist for its control points. `advertised` reads the service's data in an advertisement: an urgent flag
    and the newest record's number; None where the octets say nothing.
    """

    service: str
    authenticated: bool = False
    reads: tuple[Channel, ...] = ()
    subscriptions: tuple[Channel, ...] = ()
    records: RecordAccess | None = None
    writes: Mapping[Channel, frozenset[int]] = field(default_factory=dict)
    advertised: Callable[[bytes], tuple[bool, int | None] | None] | None = None


class Profile(Protocol):
    """A module of device_drivers/profiles: its channels, its GATT plan where it is a GATT service, and a decoder per
    device.
    """

    CHANNELS: frozenset[Channel]
    GATT: GattPlan | None

    def decoder(self, device: DeviceContext) -> Decoder:
        """A fresh decoder for one device."""
        ...
