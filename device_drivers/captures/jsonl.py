"""Our JSON Lines capture: a header line, then one ATT value a line (docs/captures.md).

{"format":"patch-gateway-capture","version":1}
{"time":"2026-11-24T10:15:30.000000+00:00","device":"C0:...","handle":18,"service":"181f","characteristic":"2aa7",
 "att":"notification","value":"0ec3..."}
"""

import re
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from pydantic import AfterValidator, Field, ValidationError

from device_drivers.base import Channel
from device_drivers.captures.base import AttName, AttOperation, CaptureError
from schemas.base import DateTime, Model
from schemas.problems import field_errors, sentence

MAX_LINE = 65_536


_SIG_UUID = re.compile(r"(?:0000)?([0-9a-f]{4})(?:-0000-1000-8000-00805f9b34fb)?", re.ASCII)


def _short(uuid: str | None) -> str | None:
    """As in a Channel: lower case, SIG ones in their 16-bit form."""
    match = _SIG_UUID.fullmatch(uuid.lower()) if uuid else None
    return match[1] if match else uuid and uuid.lower()


class _Header(Model):
    format: Literal["patch-gateway-capture"]
    version: Literal[1]


class _Line(Model):
    time: DateTime
    device: str = Field(max_length=64, pattern=r"^[ -~]*$")
    handle: int = Field(ge=0, le=0xFFFF)
    service: Annotated[str | None, AfterValidator(_short)] = None
    characteristic: Annotated[str | None, AfterValidator(_short)] = None
    att: AttName
    value: str = Field(pattern=r"^([0-9a-f]{2})*$")


HEADER = _Header(format="patch-gateway-capture", version=1).to_json() + b"\n"


def operations(stream: BinaryIO) -> Iterator[AttOperation]:
    """The operations of a file; `frame` is the line number. CaptureError at the first damaged line."""
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
        channel = Channel(entry.service or "", entry.characteristic) if entry.characteristic else None
        yield AttOperation(
            number, entry.time, entry.device, entry.handle, channel, entry.att, bytes.fromhex(entry.value)
        )


def line(operation: AttOperation) -> bytes:
    """One line, for writers."""
    return (
        _Line(
            time=operation.time,
            device=operation.device,
            handle=operation.handle,
            service=operation.channel.service if operation.channel else None,
            characteristic=operation.channel.characteristic if operation.channel else None,
            att=operation.att,
            value=operation.value.hex(),
        ).to_json()
        + b"\n"
    )
