"""`patch-gateway replay`: what it prints and how it exits."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import UnsupportedOperation
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic_core import to_json

from agent import expected
from agent.expected import ExpectedError
from agent.progress import shown
from agent.replay import (
    DecoderBug,
    Device,
    Replay,
    Replayed,
    UsageError,
    frame_line,
    handles,
    parse_devices,
    parse_faults,
)
from buffer.errors import InUseError, StoreError
from device_drivers.captures import Capture
from device_drivers.captures.base import AttOperation
from device_drivers.captures.faults import Faults
from device_drivers.captures.pace import Pace

if TYPE_CHECKING:
    from config.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay: what is shown, what helps reading, and where the frames go instead (`into`)."""

    frames: bool = False
    as_json: bool = False
    gatt: Path | None = None
    keep_retransmissions: bool = False
    expect: Path | None = None
    update: bool = False
    faults: Sequence[str] = ()
    seed: int | None = None
    speed: float | None = None
    into: "Settings | None" = None


def replay_files(paths: Sequence[Path], devices: Sequence[str], options: Options) -> int:
    """Results on stdout, summary and errors on stderr. 1: a file is damaged, unreadable, encrypted or decodes otherwise
    than expected, or the buffer cannot be used or knows none of its patches; 2: a wrong argument.
    """
    try:
        known = parse_devices(devices)
        table = handles(options.gatt)
        chances = parse_faults(options.faults)
        _check(options, paths, known)
    except UsageError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 2
    code = 0
    for path in paths:
        faults = Faults(chances, options.seed or 1) if chances else None
        replay = Replay(known, capture=Capture(table, options.keep_retransmissions), faults=faults)
        code = max(code, _replay_file(path, replay, options))
    return code


def _replay_file(path: Path, replay: Replay, options: Options) -> int:
    same, into = True, None
    try:
        with path.open("rb") as stream:
            if options.into is not None:
                from agent.replay_into import replay_into

                into = replay_into(options.into, replay, stream, _pace(options))
                same = into.took
            else:
                same = _show(replay, _read(replay, stream, options), options)
    except (OSError, StoreError, ExpectedError, DecoderBug) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"patch-gateway: {_problem(error, path, options)}", file=sys.stderr)
        return 1
    if replay.damage:
        print(f"{path}: {replay.damage}", file=sys.stderr)
    if replay.counts["operations"] or not replay.damage:
        result = into.summary() if into else _result(replay.counts, frames=options.frames)
        print(_summary(path, replay, result), file=sys.stderr)
    for note in replay.notes:
        print(f"{path}: {note}", file=sys.stderr)
    counts = replay.capture.counts
    unread = (counts.encrypted or (counts.strange and not replay.counts["operations"])) and not options.frames
    return int(bool(replay.damage or unread) or not same)


def _problem(error: Exception, path: Path, options: Options) -> str:
    if isinstance(error, OSError):
        pipe = "it is a pipe, and must be read twice: name a file" if isinstance(error, UnsupportedOperation) else None
        return f"{error.filename or path} cannot be used: {pipe or error.strerror}"
    if isinstance(error, InUseError):
        return f"{error} --into-buffer needs it stopped, or --config of another one."
    if isinstance(error, StoreError):
        return str(error)
    return f"{options.expect}: {error}" if isinstance(error, ExpectedError) else f"{path}, {error}"


def _read(replay: Replay, stream: BinaryIO, options: Options) -> Iterator[AttOperation]:
    read, pace = shown(replay.operations(stream), stream, printed=options.expect is None), _pace(options)
    return _slowly(read, pace) if pace else read


def _slowly(operations: Iterator[AttOperation], pace: Pace) -> Iterator[AttOperation]:
    for operation in operations:
        sys.stdout.flush()
        time.sleep(pace.wait(operation.time, time.monotonic()))
        yield operation


def _pace(options: Options) -> Pace | None:
    return None if options.speed is None else Pace(options.speed)


def _show(replay: Replay, operations: Iterable[AttOperation], options: Options) -> bool:
    """Is it as expected?"""
    if options.expect is not None:
        return _as_expected(replay, operations, options.expect, update=options.update)
    if options.frames:
        form = _compact if options.as_json else _frame_text
        sys.stdout.writelines(f"{form(frame_line(operation))}\n" for operation in operations)
        return True
    for found in replay.events(operations):
        _print_event(found, as_json=options.as_json)
    return True


def _check(options: Options, paths: Sequence[Path], devices: Mapping[str, Device]) -> None:
    if options.seed is not None and not options.faults:
        raise UsageError("--seed is of the faults: name one with --fault")
    if options.update and options.expect is None:
        raise UsageError("--update rewrites the file of --expect: name it")
    if options.expect is not None and (options.frames or options.as_json or len(paths) > 1):
        raise UsageError("--expect is about the events of one capture: name one, without --frames and --json")
    if options.into is not None and (options.frames or options.as_json or options.expect is not None):
        raise UsageError("--into-buffer prints no events: leave out --frames, --json and --expect")
    if options.into is not None and any(device.device_type or device.boot is not None for device in devices.values()):
        raise UsageError("--into-buffer takes type and keys from the pairing: --device ADDRESS=DEVICE_ID")
    if options.speed is not None and not 0 < options.speed < inf:
        raise UsageError(f"--speed {options.speed:g}: more than 0; 1 is as fast as the capture's own clock")


def _as_expected(replay: Replay, operations: Iterable[AttOperation], path: Path, *, update: bool) -> bool:
    """Differences go to stdout, a paragraph each."""
    found = [expected.line_of(each) for each in replay.events(operations)]
    if update:
        if replay.damage:
            raise ExpectedError("not written, since the capture is damaged")
        expected.replace(path, found)
        return True
    paragraphs = list(expected.differences(expected.read(path.read_bytes()), found))
    print(*paragraphs, sep="\n\n", end="\n" if paragraphs else "")
    if paragraphs:
        print(f"{len(paragraphs)} results differ from {path}", file=sys.stderr)
    return not paragraphs


def _print_event(found: Replayed, *, as_json: bool) -> None:
    if as_json:
        if found.event is not None:
            print(_compact(found.event))
        return
    operation, mark = found.operation, " (unpaired)" if found.device.unpaired else ""
    where = f"{operation.time:%Y-%m-%d %H:%M:%S.%f}  {operation.device}  {found.device.device_id}{mark}"
    channel = "/".join(found.frame.channel)
    if found.event is None:
        print(f"{where}  {channel}  REFUSED {found.refused}  [{found.frame.payload.hex()}]")
        return
    print(f"{where}  {channel}  {found.event['type']}  {_values(found.event['data'])}")


def _values(data: dict[str, Any]) -> str:
    hidden = {"device_id"}
    return "  ".join(f"{name}={value}" for name, value in data.items() if name not in hidden)


def _frame_text(line: dict[str, Any]) -> str:
    name = line["characteristic"] or "-"
    handle = "     -" if line["handle"] is None else f"{line['handle']:#06x}"
    error = f"{line['error']:#04x}" if "error" in line else ""
    where = f"{line['frame']:>7}  {line['time']}  {line['device']}  {handle}"
    return f"{where}  {name:>4}  {line['att']}  {line['value']}{error}"


def _summary(path: Path, replay: Replay, result: str) -> str:
    counts = replay.counts
    lines = [f"{path}: {result}"]
    lines += [f"  {count}x refused: {reason}" for reason, count in replay.refusals.most_common(20)]
    gaps = replay.gaps()
    if gaps or counts["duplicates"]:
        lines.append(f"  {gaps} gaps in sequence, {counts['duplicates']} duplicates")
    if replay.faults:
        hit = ", ".join(f"{count} {kind}" for kind, count in replay.faults.counts.items())
        lines.append(f"  faults on purpose: {hit}")
    named = [f"{count} {words}" for words, count in replay.capture.counts.left_out().items()]
    if named:
        lines.append(f"  not decoded: {', '.join(named)}")
    return "\n".join(lines)


def _result(counts: Counter[str], *, frames: bool) -> str:
    if frames:
        return f"{counts['operations']} ATT operations"
    if counts["operations"] and not counts["frames"] and not counts["not_in_row"]:
        return f"{counts['operations']} ATT operations, but no profile decodes any of them (--frames lists them)"
    silent = f" ({counts['silent']} about the device itself)" if counts["silent"] else ""
    return (
        f"{counts['frames']} frames of known profiles{silent}: {counts['events']} events, {counts['refused']} refused"
    )


def _compact(line: Mapping[str, Any]) -> str:
    return to_json(line).decode()
