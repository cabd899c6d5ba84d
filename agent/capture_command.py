"""`patch-gateway capture`: what a capture holds, and the same in another format."""

import json
import os
import secrets
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from agent.progress import shown
from agent.replay import UsageError, handles
from device_drivers.captures import Capture, jsonl
from device_drivers.captures.base import CaptureError
from device_drivers.captures.scrub import Scrubber
from device_drivers.captures.writers import to_btsnoop, to_pcapng

_BY_SUFFIX = {
    ".jsonl": "jsonl", ".btsnoop": "btsnoop", ".log": "btsnoop", ".cfa": "btsnoop", ".pcapng": "pcapng",
}  # fmt: skip


def info(paths: Sequence[Path], *, as_json: bool) -> int:
    """A summary of each file on stdout. 1: one is damaged or unreadable."""
    code = 0
    for path in paths:
        try:
            with path.open("rb") as stream:
                found = _info(stream)
        except OSError as error:
            print(f"patch-gateway: {path} cannot be read: {error.strerror or 'name a file'}", file=sys.stderr)
            code = 1
            continue
        if found["damage"]:
            code = 1
        print(json.dumps({"file": str(path), **found}) if as_json else _shown(path, found))
    return code


def _info(stream: BinaryIO) -> dict[str, Any]:
    capture, damage = Capture(), None
    att: Counter[str] = Counter()
    devices: dict[str, Counter[str]] = {}
    first: datetime | None = None
    last: datetime | None = None
    try:
        for operation in shown(capture.operations(stream), stream, printed=False):
            att[operation.att] += 1
            services = devices.setdefault(operation.device, Counter())
            if operation.channel and operation.channel.service:
                services[operation.channel.service] += 1
            first = first or operation.time
            last = operation.time
    except CaptureError as error:
        damage = str(error)
    counts = capture.counts
    return {
        "format": capture.format or None,
        "records": counts.records,
        "connections": counts.connections,
        "devices": {device: dict(services) for device, services in devices.items()},
        "att": dict(att),
        "first": first.isoformat() if first else None,
        "last": last.isoformat() if last else None,
        "left_out": counts.left_out(),
        "damage": damage,
    }


def _shown(path: Path, found: dict[str, Any]) -> str:
    lines = [f"{path}: {found['format'] or 'not a capture'}, {found['records']} records"]
    if found["first"]:
        lines.append(f"  {found['first']} to {found['last']}, {found['connections']} connections")
    for device, services in found["devices"].items():
        named = ", ".join(f"{service} ({count})" for service, count in services.items())
        lines.append(f"  {device}  {named or 'no service known: its discovery is not in the capture'}")
    named = ", ".join(f"{count} {name}" for name, count in sorted(found["att"].items(), key=lambda item: -item[1]))
    lines.append(f"  {named or 'no ATT operation'}")
    lines += [f"  {count} {words}" for words, count in found["left_out"].items()]
    if found["damage"]:
        lines.append(f"  {'DAMAGED' if found['records'] else 'NOT READ'}: {found['damage']}")
    return "\n".join(lines)


def convert(source: Path, target: Path, wanted: str | None) -> int:
    """A file is there whole or not at all. 1: the source is damaged or cannot become that; 2: no format named."""
    form = wanted or _BY_SUFFIX.get(target.suffix.lower())
    if form is None:
        names = ", ".join(sorted(_BY_SUFFIX))
        print(f"patch-gateway: name the format with --format, or end the file with one of {names}.", file=sys.stderr)
        return 2
    return _write(source, target, lambda stream: _written(stream, form))


def scrub(source: Path, target: Path, seed: int | None, gatt: Path | None) -> int:
    """JSON Lines that can be shared; a file is there whole or not at all. 1: the source is damaged; 2: another name."""
    if target.suffix.lower() in _BY_SUFFIX and _BY_SUFFIX[target.suffix.lower()] != "jsonl":
        print(f"patch-gateway: {target}: it becomes JSON Lines: end its name with .jsonl", file=sys.stderr)
        return 2
    try:
        table = handles(gatt)
    except UsageError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 2
    scrubber = Scrubber(secrets.randbits(64) if seed is None else seed)

    def written(stream: BinaryIO) -> Iterator[bytes]:
        yield jsonl.HEADER
        with source.open("rb") as again:
            for operation in Capture(table).operations(again):
                scrubber.learn(operation)
            for operation in Capture(table).operations(stream):
                yield jsonl.line(scrubber.scrub(operation))

    code = _write(source, target, written)
    if scrubber.blanked and code == 0:
        print(
            f"{scrubber.blanked} values read from unknown handles were blanked: --gatt names handles", file=sys.stderr
        )
    return code


def _write(source: Path, target: Path, written: Callable[[BinaryIO], Iterator[bytes]]) -> int:
    problem = None if source.is_file() else f"{source}: there is no such file, or it is a pipe, which is read once only"
    if not target.parent.is_dir():
        problem = f"the folder {target.parent} does not exist"
    elif target.exists() and source.exists() and target.samefile(source):
        problem = f"{target} is what is read: name another file"
    if problem:
        print(f"patch-gateway: {problem}", file=sys.stderr)
        return 1
    if not target.is_relative_to("/dev") and target.is_symlink():
        target = target.resolve()
    # A device or a pipe is written to; renaming would put a file in its place.
    if target.is_relative_to("/dev") or (target.exists() and not target.is_file()):
        problem = _copied(source, target, written)
    else:
        problem = _replaced(source, target, written)
    if problem:
        print(f"patch-gateway: {problem}", file=sys.stderr)
    return int(problem is not None)


def _replaced(source: Path, target: Path, written: Callable[[BinaryIO], Iterator[bytes]]) -> str | None:
    """The whole target or none; who could not read the source cannot read it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        return f"{target} cannot be written: {error.strerror}"
    part = Path(name)
    try:
        os.close(descriptor)
        problem = _copied(source, part, written)
        if problem is None:
            part.chmod(stat.S_IMODE(source.stat().st_mode))
            part.rename(target)
        return problem and problem.replace(name, str(target))
    finally:
        part.unlink(missing_ok=True)


def _copied(source: Path, target: Path, written: Callable[[BinaryIO], Iterator[bytes]]) -> str | None:
    try:
        with source.open("rb") as stream, target.open("wb") as out:
            for octets in shown(written(stream), stream, printed=target.is_char_device()):
                out.write(octets)
    except CaptureError as error:
        return f"{source}: {error}"
    except OSError as error:
        return f"{error.filename or source} cannot be used: {error.strerror}"
    return None


def _written(stream: BinaryIO, form: str) -> Iterator[bytes]:
    capture = Capture()
    if form == "jsonl":
        yield jsonl.HEADER
        for operation in capture.operations(stream):
            yield jsonl.line(operation)
    else:
        write = to_btsnoop if form == "btsnoop" else to_pcapng
        yield from write(capture.records(stream))
