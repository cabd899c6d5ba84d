"""What a capture is expected to decode to, one line a decoded record; and what differs, for people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import to_json

from agent.replay import Replayed
from schemas.base import Model
from schemas.problems import field_errors, sentence

_EVENT = ("type", "occurred_at", "idempotency_key", "data")
HEADER = b'{"format":"patch-gateway-expected","version":1}\n'


_Key = tuple[str, str, str, int]


class Line(Model):
    """One event or one refusal. `frame` says where the record is, and is not compared; `value` is its octets in hex."""

    frame: int = Field(ge=1)
    time: str
    device: str
    channel: str
    value: str
    event: dict[str, Any] | None = None
    refused: str | None = None


class ExpectedError(ValueError):
    """The file of expectations cannot be read; the message says which line and why."""


def line_of(found: Replayed) -> Line:
    """What of a result must stay: no trace id, no name of the gateway."""
    operation, frame = found.operation, found.frame
    # What the patch does not number has a key of this pass.
    left_out = {"idempotency_key"} if found.event and ".gateway." in found.event["idempotency_key"] else set()
    names = [name for name in _EVENT if name not in left_out]
    return Line(
        frame=operation.frame,
        time=operation.time.isoformat(),
        device=operation.device,
        channel="/".join(frame.channel),
        value=frame.payload.hex(),
        event={name: found.event[name] for name in names if name in found.event} if found.event else None,
        refused=found.refused,
    )


def write(lines: Iterable[Line]) -> bytes:
    """The file."""
    return HEADER + b"".join(to_json(line, exclude_none=True) + b"\n" for line in lines)


def replace(path: Path, lines: Iterable[Line]) -> None:
    """Write the file, or write it anew; ExpectedError where something else stands there."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as before:
            if before.read(len(HEADER)) != HEADER:
                raise ExpectedError("this is no expected file: it is not overwritten")
    path.write_bytes(write(lines))


def read(content: bytes) -> list[Line]:
    """The lines of a file; ExpectedError."""
    first, _, rest = content.partition(b"\n")
    if first + b"\n" != HEADER:
        raise ExpectedError("it does not begin with the line of an expected file of version 1 (--update writes one)")
    lines = []
    for number, text in enumerate(rest.splitlines(), start=2):
        try:
            lines.append(Line.model_validate_json(text))
        except ValidationError as error:
            raise ExpectedError(f"line {number}: {sentence(field_errors(error))}") from None
    return lines


def differences(expected: Iterable[Line], actual: Iterable[Line]) -> Iterator[str]:
    """A paragraph for each record that decodes otherwise, with its number, time, octets and what differs.

    Records are matched by time, device and channel, so that others before them change nothing.
    """
    wanted, found = _by_record(expected), _by_record(actual)
    yield from _other_order(wanted, found)
    for key in sorted(wanted.keys() | found.keys()):
        before, now = wanted.get(key), found.get(key)
        if before and now and _decoded(before) == _decoded(now):
            continue
        shown = now or before
        assert shown is not None
        head = f"record {shown.frame}  {shown.time}  {shown.device}  {shown.channel}"
        yield "\n".join([head, *_octets(before, now), *_what(before, now)])


def _other_order(wanted: Mapping[_Key, Line], found: Mapping[_Key, Line]) -> Iterator[str]:
    """A paragraph about the first record that does not stand where it stood."""
    for was, now in zip((key for key in wanted if key in found), (key for key in found if key in wanted), strict=True):
        if was != now:
            shown, before = found[now], wanted[was]
            head = f"record {shown.frame}  {shown.time}  {shown.device}  {shown.channel}"
            yield f"{head}\n  comes where record {before.frame} of {before.time} was expected: the order differs"
            return


def _by_record(lines: Iterable[Line]) -> dict[_Key, Line]:
    counts: Counter[tuple[str, str, str]] = Counter()
    found = {}
    for line in lines:
        key = (line.time, line.device, line.channel)
        found[*key, counts[key]] = line
        counts[key] += 1
    return found


def _decoded(line: Line) -> tuple[str, bytes, str | None]:
    """As JSON: to Python 80, 80.0 and True are equal to others."""
    return line.value, to_json(line.event), line.refused


def _octets(before: Line | None, now: Line | None) -> Iterator[str]:
    if before and now and before.value != now.value:
        marks = "".join("^" if a != b else " " for a, b in zip(before.value, now.value, strict=False))
        yield f"  octets expected  {before.value}"
        yield f"  octets found     {now.value}"
        if marks.strip():
            yield f"                   {marks.rstrip()}"
    else:
        shown = now or before
        yield f"  octets           {shown.value if shown else ''}"


def _what(before: Line | None, now: Line | None) -> Iterator[str]:
    if before is None or now is None or before.event is None or now.event is None:
        yield f"  expected  {_summary(before)}"
        yield f"  found     {_summary(now)}"
        return
    yield f"  decoded   {_summary(now)}"
    was, is_now = _flat(before.event), _flat(now.event)
    for name in sorted(was.keys() | is_now.keys()):
        if _value(was, name) != _value(is_now, name):
            yield f"  {name}: expected {_value(was, name)}, found {_value(is_now, name)}"


def _summary(line: Line | None) -> str:
    if line is None:
        return "nothing"
    if line.event is None:
        return f"refused: {line.refused}"
    data = "  ".join(f"{name}={value}" for name, value in line.event.get("data", {}).items())
    return f"{line.event.get('type')}  {data}"


def _flat(event: Mapping[str, Any]) -> dict[str, Any]:
    top = {name: value for name, value in event.items() if name != "data"}
    return top | {f"data.{name}": value for name, value in event.get("data", {}).items()}


def _value(fields: Mapping[str, Any], name: str) -> str:
    return to_json(fields[name]).decode() if name in fields else "nothing"
