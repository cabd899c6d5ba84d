"""Our JSON Lines capture: a header line, then one ATT operation a line (docs/captures.md).

{"format":"patch-gateway-capture","version":1}
{"time":"2026-11-24T10:15:30.000000+00:00","device":"C0:...","handle":18,"service":"181f","characteristic":"2aa7",
 "att":"notification","value":"0ec3..."}
"""

import re
from collections.abc import Iterator
from datetime import UTC
from typing import Annotated, BinaryIO, Literal

from pydantic import AfterValidator, Field, ValidationError

from device_drivers.base import Channel
from device_drivers.captures.att import OPCODES
from device_drivers.captures.base import AttOperation, CaptureError, Value
from schemas.base import DateTime, Model
from schemas.problems import field_errors, sentence

# A value and the whole of which it is a part, in hex, and the names around them
MAX_LINE = 4 * 65_536

_SIG_UUID = re.compile(r"(?:0000)?([0-9a-f]{4})(?:-0000-1000-8000-00805f9b34fb)?", re.ASCII)
_CLIENT_SENDS = frozenset(
    name for name, opcode in OPCODES.items() if opcode in {0x1E, 0x52, 0xD2} or (opcode < 0x1B and not opcode & 1)
)


def short(uuid: str) -> str:
    """As in a Channel: lower case, SIG ones in their 16-bit form."""
    match = _SIG_UUID.fullmatch(uuid.lower())
    return match[1] if match else uuid.lower()


def _att(name: str) -> str:
    if name not in OPCODES:
        raise ValueError(f"an operation of ATT is one of {', '.join(OPCODES)}")
    return name


Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]
Uuid = Annotated[str, AfterValidator(short)] | None
Handle = Annotated[int, Field(ge=0, le=0xFFFF)]


class _Header(Model):
    format: Literal["patch-gateway-capture"]
    version: Literal[1]


class _Part(Model):
    handle: Handle
    service: Uuid = None
    characteristic: Uuid = None
    value: Hex


class _Line(Model):
    time: DateTime
    device: str = Field(max_length=64, pattern=r"^[ -~]*$")
    handle: Handle | None = None
    service: Uuid = None
    characteristic: Uuid = None
    att: Annotated[str, AfterValidator(_att)]
    value: Hex
    frame: Annotated[int, Field(ge=1)] | None = None
    sent: bool | None = None
    error: Annotated[int, Field(ge=0, le=255)] | None = None
    request: Annotated[int, Field(ge=0, le=255)] | None = None
    values: list[_Part] | None = None


HEADER = _Header(format="patch-gateway-capture", version=1).to_json() + b"\n"


def operations(stream: BinaryIO) -> Iterator[AttOperation]:
    """The operations of a file; `frame` is the line number where the line has none. CaptureError at the first damaged
    line.
    """
    for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), start=1):
        if not line.endswith(b"\n"):
            raise CaptureError(f"line {number} is cut off or longer than {MAX_LINE} octets")
        try:
            if number == 1:
                _Header.model_validate_json(line)
                continue
            entry = _Line.model_validate_json(line)
        except ValidationError as error:
            raise CaptureError(f"line {number} is damaged: {sentence(field_errors(error))}") from None
        yield _operation(entry, number)


def _operation(entry: _Line, number: int) -> AttOperation:
    channel, value = _channel(entry.service, entry.characteristic), bytes.fromhex(entry.value)
    values = None
    if entry.values is not None:
        values = tuple(
            Value(part.handle, _channel(part.service, part.characteristic), bytes.fromhex(part.value))
            for part in entry.values
        )
    return AttOperation(
        entry.frame or number, entry.time.astimezone(UTC), entry.device, entry.handle, channel, entry.att, value,
        entry.att in _CLIENT_SENDS if entry.sent is None else entry.sent, entry.error, entry.request, values,
    )  # fmt: skip


def _channel(service: str | None, characteristic: str | None) -> Channel | None:
    return Channel(service or "", characteristic) if characteristic else None


def line(operation: AttOperation) -> bytes:
    """One line, for writers."""
    written = _Line(
        time=operation.time,
        device=operation.device,
        handle=operation.handle,
        service=operation.channel.service if operation.channel else None,
        characteristic=operation.channel.characteristic if operation.channel else None,
        att=operation.att,
        value=operation.value.hex(),
        frame=operation.frame,
        sent=operation.sent if operation.sent is not (operation.att in _CLIENT_SENDS) else None,
        error=operation.error,
        request=operation.request,
        values=None if operation.values is None else [_part(value) for value in operation.values],
    )
    return written.to_json() + b"\n"


def _part(value: Value) -> _Part:
    service, characteristic = value.channel or (None, None)
    return _Part(handle=value.handle, service=service, characteristic=characteristic, value=value.payload.hex())
