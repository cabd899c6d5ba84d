"""`replay`: a capture through the same decoders as the radio, printed instead of stored."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, Field, RootModel, ValidationError
from pydantic_core import from_json

from agent.events import Ready, Unfit, make_event
from agent.prepare import event_key
from buffer.marks import Mark
from device_drivers.base import Channel, Decoded, DecodeError, Decoder, DeviceContext, Frame, Place, Quirks
from device_drivers.captures import Capture
from device_drivers.captures.att import OPCODES
from device_drivers.captures.base import AttOperation, CaptureError
from device_drivers.captures.faults import KINDS, Faults
from device_drivers.captures.jsonl import short
from device_drivers.device_types import DEVICE_TYPES, SERVICE_TYPES, quirks_of, with_defaults
from device_drivers.registry import all_profiles, profile_name
from schemas.patch_events import DeviceType
from schemas.problems import field_errors, sentence

_DEVICE = re.compile(r"(NFLX_[0-9A-Z]{8})(?:,([a-z_]+))?(?:,([0-9]{1,18}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Device:
    """Who a captured address is: given with --device, or derived from the address and marked `unpaired`."""

    device_id: str
    device_type: DeviceType | None = None
    boot: int | None = None
    unpaired: bool = False


class UsageError(ValueError):
    """An argument that cannot be read; the message says which form it has."""


class DecoderBug(Exception):
    """A decoder raised what it must not; the message names the frame and the profile."""


def parse_device(argument: str) -> tuple[str, Device]:
    """`ADDRESS=DEVICE_ID[,TYPE[,BOOT]]`."""
    address, _, rest = argument.partition("=")
    match = _DEVICE.fullmatch(rest)
    if not address or match is None:
        raise UsageError(f"--device {argument}: the form is ADDRESS=NFLX_XXXXXXXX[,TYPE[,BOOT]]")
    device_type: Any = match[2]
    if device_type is not None and device_type not in DEVICE_TYPES:
        raise UsageError(f"--device {argument}: TYPE is one of {', '.join(DEVICE_TYPES)}")
    return address.upper(), Device(match[1], device_type, int(match[3]) if match[3] else None)


def parse_devices(arguments: Sequence[str]) -> dict[str, Device]:
    """Each address once."""
    found = [parse_device(argument) for argument in arguments]
    if len(dict(found)) < len(found):
        raise UsageError("--device names one address twice")
    return dict(found)


def parse_faults(arguments: Sequence[str]) -> dict[str, float]:
    """`KIND=CHANCE` of each."""
    chances: dict[str, float] = {}
    for argument in arguments:
        kind, _, chance = argument.partition("=")
        if kind in chances:
            raise UsageError(f"--fault {kind} is given twice")
        if kind not in KINDS or not re.fullmatch(r"0?\.[0-9]{1,9}|0|1(\.0)?", chance, re.ASCII):
            raise UsageError(f"--fault {argument}: the form is KIND=CHANCE, 0 to 1; KIND is {', '.join(KINDS)}")
        chances[kind] = float(chance)
    return chances


def unnamed(address: str) -> Device:
    """Itself where the gateway recorded it under its device id, else a stand-in: `NFLX_` and the first 8 base32
    characters of SHA-256 of the address.
    """
    if _DEVICE.fullmatch(address):
        return Device(address)
    digest = base64.b32encode(hashlib.sha256(address.encode()).digest()).decode()
    return Device(f"NFLX_{digest[:8]}", unpaired=True)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one ATT operation came to. `event` is the IngestEnvelope as it would be sent."""

    operation: AttOperation
    frame: Frame
    device: Device
    event: Mapping[str, Any] | None = None
    refused: str | None = None


@dataclass(slots=True)
class Replay:
    """One pass over a capture; counts, `damage` and `notes` are complete when the iteration ends."""

    devices: Mapping[str, Device]
    gateway_id: str = "replay"
    capture: Capture = field(default_factory=Capture)
    faults: Faults | None = None
    counts: Counter[str] = field(default_factory=Counter)
    damage: str | None = None
    notes: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    _decoders: dict[tuple[str, str], Decoder] = field(default_factory=dict)
    _quirks: dict[str, Quirks] = field(default_factory=dict)
    _marks: dict[tuple[str, str, int], Mark] = field(default_factory=dict)

    def operations(self, stream: BinaryIO) -> Iterator[AttOperation]:
        """Every ATT operation; damage ends it and is noted."""
        seen: set[str] = set()
        count = 0
        read = self.capture.operations(stream)
        try:
            for operation in self.faults.apply(read) if self.faults else read:
                count += 1
                seen.add(operation.device)
                yield operation
        except CaptureError as error:
            self.damage = str(error)
        self.counts["operations"] = count
        for address in self.devices.keys() - {device.upper() for device in seen}:
            self._note(f"{address} is not in this capture")

    def events(self, operations: Iterable[AttOperation]) -> Iterator[Replayed]:
        """Every decoded event and every refused piece of `operations`, in their order."""
        for operation in operations:
            for frame in operation.to_frames():
                yield from self._frame(operation, frame)

    def _frame(self, operation: AttOperation, frame: Frame) -> Iterator[Replayed]:
        name = profile_name(frame.channel)
        if name is None:
            return
        device = self.devices.get(operation.device.upper()) or unnamed(operation.device)
        device_type = device.device_type or SERVICE_TYPES.get(frame.channel.service)
        if device_type and name not in DEVICE_TYPES[device_type].profiles:
            row = f"the row of {device_type} (device_drivers/device_types.py)"
            self.counts["not_in_row"] += 1
            self._note(f"{name} is not in {row}: the gateway would not read it")
            return
        self.counts["frames"] += 1
        try:
            decoded = self._decoder(operation, device, name).receive(frame)
        except DecodeError as error:
            yield self._refused(operation, frame, device, f"cannot be decoded: {error}")
            return
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise DecoderBug(f"frame {operation.frame}: the profile {name} has a bug ({what})") from error
        yield from self._decoded(operation, frame, device, decoded)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _decoder(self, operation: AttOperation, device: Device, name: str) -> Decoder:
        key = (operation.device, name)
        if key not in self._decoders:
            quirks = self._quirks.get(operation.device, Quirks())
            context = DeviceContext(device.device_id, quirks=quirks, boot=device.boot)
            self._decoders[key] = all_profiles()[name].decoder(context)
        return self._decoders[key]

    def _take_model(self, address: str, device_type: DeviceType | None, model: str) -> None:
        """Its quirks hold for what follows, as on the gateway."""
        quirks = quirks_of(device_type, model)
        if quirks != self._quirks.get(address, Quirks()):
            self._quirks[address] = quirks
            self._decoders = {key: decoder for key, decoder in self._decoders.items() if key[0] != address}

    def _decoded(self, operation: AttOperation, frame: Frame, device: Device, decoded: Decoded) -> Iterator[Replayed]:
        if not decoded.observations and not decoded.refused:
            self.counts["silent"] += 1
        for piece in decoded.refused:
            yield self._refused(operation, frame, device, piece.reason)
        device_type = device.device_type or SERVICE_TYPES.get(frame.channel.service)
        if "model_number" in decoded.facts:
            self._take_model(operation.device, device.device_type, str(decoded.facts["model_number"]))
        for seen in decoded.observations:
            self._place(device, seen.place)
            made = make_event(
                seen.type,
                with_defaults(device_type, seen.type, seen.data) if device_type else seen.data,
                occurred_at=seen.occurred_at,
                gateway_id=self.gateway_id,
                key=self._key(device, seen.place),
            )
            if isinstance(made, Unfit):
                yield self._refused(operation, frame, device, made.reason)
            else:
                yield self._event(operation, frame, device, made)

    def _place(self, device: Device, place: Place | None) -> None:
        if place is None:
            return
        key = (device.device_id, place.stream, place.boot)
        mark = self._marks.get(key, Mark())
        if mark.has(place.sequence):
            self.counts["duplicates"] += 1
        else:
            self._marks[key] = mark.add(place.sequence, mark.least or 1)

    def gaps(self) -> int:
        """How often numbers are missing between records that are here, by the least distance of neighbours."""
        plans = (profile.GATT for profile in all_profiles().values())
        numbered = {plan.records.stream for plan in plans if plan and plan.records}
        return sum(
            first > mark.runs[0].first
            for (_, stream, _), mark in self._marks.items()
            if stream in numbered
            for first, _ in mark.holes(mark.least or 1)
        )

    def _key(self, device: Device, place: Place | None) -> str:
        if place is not None:
            return event_key(device.device_id, place)
        self.counts["unnumbered"] += 1
        return f"{self.gateway_id}.gateway.replay.{self.counts['unnumbered']}"

    def _event(self, operation: AttOperation, frame: Frame, device: Device, made: Ready) -> Replayed:
        self.counts["events"] += 1
        return Replayed(operation, frame, device, event=from_json(made.event.body))

    def _refused(self, operation: AttOperation, frame: Frame, device: Device, reason: str) -> Replayed:
        self.counts["refused"] += 1
        self.refusals[reason] += 1
        return Replayed(operation, frame, device, refused=reason)


def frame_line(operation: AttOperation) -> dict[str, Any]:
    """One object of `--frames --json`."""
    line = {
        "frame": operation.frame,
        "time": f"{operation.time.isoformat(timespec='microseconds')[:-6]}Z",
        "device": operation.device,
        "handle": operation.handle,
        "characteristic": operation.channel.characteristic if operation.channel else None,
        "att": operation.att,
        "opcode": OPCODES[operation.att],
        "value": operation.value.hex(),
    }
    if operation.error is not None:
        line |= {"error": operation.error, "request": operation.request}
    return line


def handles(path: Path | None) -> dict[int, Channel] | None:
    """The file of `--gatt`; UsageError says what is wrong with it."""
    if path is None:
        return None
    try:
        return read_table(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--gatt {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        form = '{"0x0016": ["181f", "2aa7"]}'
        raise UsageError(f"--gatt {path}: the form is {form}, handle to service and characteristic ({error})") from None


def read_table(content: bytes) -> dict[int, Channel]:
    """`--gatt`: {"0x0016": ["181f", "2aa7"]}, handles to service and characteristic; ValueError for any other form."""
    try:
        table = _Table.model_validate_json(content).root
    except ValidationError as error:
        raise ValueError(sentence(field_errors(error))) from None
    found = {int(handle, 0): Channel(*pair) for handle, pair in table.items()}
    if found and max(found) > 0xFFFF:
        raise ValueError(f"{max(found)} is no handle: they end with 0xFFFF")
    return found


_Handle = Annotated[str, Field(pattern=r"^(0x[0-9A-Fa-f]{1,4}|[0-9]{1,5})$")]
_Uuid = Annotated[
    str, Field(pattern=r"^([0-9A-Fa-f]{4}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"), AfterValidator(short)
]


class _Table(RootModel[dict[_Handle, tuple[_Uuid, _Uuid]]]):
    """Handles as text, since JSON has no other names."""
