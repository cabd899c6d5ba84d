"""`patch-gateway replay`: what it prints and how it exits."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from agent import expected
from agent.expected import ExpectedError
from agent.replay import DecoderBug, Replay, Replayed, UsageError, frame_line, parse_device, parse_faults, read_table
from device_drivers.base import Channel
from device_drivers.captures import Capture
from device_drivers.captures.faults import Faults


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay: what is shown, and what helps reading."""

    frames: bool = False
    as_json: bool = False
    gatt: Path | None = None
    keep_retransmissions: bool = False
    expect: Path | None = None
    update: bool = False
    faults: Sequence[str] = ()
    seed: int = 1


def replay_files(paths: Sequence[Path], devices: Sequence[str], options: Options) -> int:
    """Results on stdout, summary and errors on stderr. 1: a file is damaged, unreadable, encrypted or decodes otherwise
    than expected; 2: a wrong argument.
    """
    try:
        known = dict(parse_device(argument) for argument in devices)
        table = _table(options.gatt)
        chances = parse_faults(options.faults)
        _check(options, paths)
    except UsageError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 2
    code = 0
    for path in paths:
        faults = Faults(chances, options.seed) if chances else None
        replay = Replay(known, capture=Capture(table, options.keep_retransmissions), faults=faults)
        code = max(code, _replay_file(path, replay, options))
    return code


def _replay_file(path: Path, replay: Replay, options: Options) -> int:
    same = True
    try:
        with path.open("rb") as stream:
            if options.expect is None:
                _print_all(replay, stream, options)
            else:
                same = _as_expected(replay, stream, options.expect, update=options.update)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"patch-gateway: {error.filename or path} cannot be used: {error.strerror}", file=sys.stderr)
        return 1
    except ExpectedError as error:
        print(f"patch-gateway: {options.expect}: {error}", file=sys.stderr)
        return 1
    except DecoderBug as error:
        print(f"patch-gateway: {path}, {error}", file=sys.stderr)
        return 1
    if replay.damage:
        print(f"{path}: {replay.damage}", file=sys.stderr)
    if replay.counts["operations"] or not replay.damage:
        print(_summary(path, replay, frames=options.frames), file=sys.stderr)
    for note in replay.notes:
        print(f"{path}: {note}", file=sys.stderr)
    unread = replay.capture.counts.encrypted and not options.frames
    return int(bool(replay.damage or unread) or not same)


def _table(path: Path | None) -> dict[int, Channel] | None:
    if path is None:
        return None
    try:
        return read_table(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--gatt {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        form = '{"0x0016": ["181f", "2aa7"]}'
        raise UsageError(f"--gatt {path}: the form is {form}, handle to service and characteristic ({error})") from None


def _check(options: Options, paths: Sequence[Path]) -> None:
    if options.update and options.expect is None:
        raise UsageError("--update rewrites the file of --expect: name it")
    if options.expect is not None and (options.frames or len(paths) > 1):
        raise UsageError("--expect is about the events of one capture: name one, without --frames")


def _as_expected(replay: Replay, stream: BinaryIO, path: Path, *, update: bool) -> bool:
    """Differences go to stdout, a paragraph each."""
    found = [expected.line_of(each) for each in replay.events(stream)]
    if update:
        path.write_bytes(expected.write(found))
        return True
    paragraphs = list(expected.differences(expected.read(path.read_bytes()), found))
    print(*paragraphs, sep="\n\n", end="\n" if paragraphs else "")
    if paragraphs:
        print(f"{len(paragraphs)} records decode otherwise than {path} says", file=sys.stderr)
    return not paragraphs


def _print_all(replay: Replay, stream: BinaryIO, options: Options) -> None:
    if options.frames:
        shown = _compact if options.as_json else _frame_text
        sys.stdout.writelines(f"{shown(frame_line(operation))}\n" for operation in replay.operations(stream))
        return
    for found in replay.events(stream):
        _print_event(found, as_json=options.as_json)


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


def _summary(path: Path, replay: Replay, *, frames: bool) -> str:
    counts = replay.counts
    lines = [f"{path}: {_result(counts, frames=frames)}"]
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
