"""`patch-gateway replay`: what it prints and how it exits."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from agent.replay import DecoderBug, Replay, Replayed, UsageError, frame_line, parse_device


def replay_files(paths: Sequence[Path], devices: Sequence[str], *, frames: bool, as_json: bool) -> int:
    """Results on stdout, summary and errors on stderr. 1: a file is damaged or unreadable; 2: a wrong argument."""
    try:
        known = dict(parse_device(argument) for argument in devices)
    except UsageError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 2
    code = 0
    for path in paths:
        replay = Replay(known)
        try:
            with path.open("rb") as stream:
                _print_all(replay, stream, frames=frames, as_json=as_json)
        except BrokenPipeError:
            raise
        except OSError as error:
            print(f"patch-gateway: {path} cannot be read: {error.strerror}", file=sys.stderr)
            code = 1
            continue
        except DecoderBug as error:
            print(f"patch-gateway: {path}, {error}", file=sys.stderr)
            code = 1
            continue
        if replay.damage:
            print(f"{path}: {replay.damage}", file=sys.stderr)
            code = 1
        if replay.counts["operations"] or not replay.damage:
            print(_summary(path, replay, frames=frames), file=sys.stderr)
        for note in replay.notes:
            print(f"{path}: {note}", file=sys.stderr)
    return code


def _print_all(replay: Replay, stream: BinaryIO, *, frames: bool, as_json: bool) -> None:
    if frames:
        for operation in replay.operations(stream):
            print(_compact(frame_line(operation)) if as_json else _frame_text(frame_line(operation)))
        return
    for found in replay.events(stream):
        _print_event(found, as_json=as_json)


def _print_event(found: Replayed, *, as_json: bool) -> None:
    if as_json:
        if found.event is not None:
            print(_compact(found.event))
        return
    operation, mark = found.operation, " (unpaired)" if found.device.unpaired else ""
    where = f"{operation.time:%Y-%m-%d %H:%M:%S.%f}  {operation.device}  {found.device.device_id}{mark}"
    channel = "/".join(operation.channel) if operation.channel else ""
    if found.event is None:
        print(f"{where}  {channel}  REFUSED {found.refused}  [{operation.value.hex()}]")
        return
    print(f"{where}  {channel}  {found.event['type']}  {_values(found.event['data'])}")


def _values(data: dict[str, Any]) -> str:
    hidden = {"device_id"}
    return "  ".join(f"{name}={value}" for name, value in data.items() if name not in hidden)


def _frame_text(line: dict[str, Any]) -> str:
    name = line["characteristic"] or "-"
    where = f"{line['frame']:>7}  {line['time']}  {line['device']}  {line['handle']:#06x}"
    return f"{where}  {name}  {line['att']}  {line['value']}"


def _summary(path: Path, replay: Replay, *, frames: bool) -> str:
    counts = replay.counts
    if frames:
        return f"{path}: {counts['operations']} ATT values"
    if counts["operations"] and not counts["frames"] and not counts["not_in_row"]:
        return f"{path}: {counts['operations']} ATT values, but no profile decodes any of them (--frames lists them)"
    silent = f" ({counts['silent']} about the device itself)" if counts["silent"] else ""
    return (
        f"{path}: {counts['frames']} frames of known profiles{silent}: "
        f"{counts['events']} events, {counts['refused']} refused"
    )


def _compact(line: Mapping[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"))
