"""The command line. Exit codes: 0 fine, 1 found something wrong, 2 usage."""

import argparse
import gc
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from agent import buffer_cli
from config.load import SettingsError, load
from config.settings import Settings
from device_drivers.device_types import DEVICE_TYPES
from schemas.event_types import EventType
from schemas.patch_events import ApplicationSite


class _Parser(argparse.ArgumentParser):
    """No abbreviations: `--passk=...` would pass by what hides a passkey from other command lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `patch-gateway`."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except SettingsError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `... | head` has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="patch-gateway", description="Edge gateway agent for wearable medical patches.")
    parser.add_argument("--version", action="version", version=version("patch-gateway"))
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file (default /etc/patch-gateway/gateway.toml)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_daemon(commands)
    _add_pairing(commands)
    _add_tools(commands)
    buffer_cli.add(commands, _ask)
    return parser


def _add_daemon(commands: Any) -> None:
    run = commands.add_parser("run", help="the daemon (what systemd starts)")
    run.set_defaults(run=_run)
    demo = commands.add_parser(
        "demo", help="everything in one place on embedded parts: broker, patches, gateway, central"
    )
    demo.add_argument("--once", type=int, metavar="N", help="headless: stop after N events, drain, compare the counts")
    demo.add_argument(
        "--outage", type=float, default=0.0, metavar="S", help="cut the upstream for S seconds in the middle"
    )
    demo.add_argument("--json", action="store_true", help="with --once: the last line is one JSON object")
    demo.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep buffer and databases in DIR and say how to open them"
    )
    demo.set_defaults(run=_demo)
    status = commands.add_parser("status", help="patches, links, queue, quarantine, upstream")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    keys = commands.add_parser("keys", help="the key that seals the buffer").add_subparsers(
        required=True, metavar="ACTION"
    )
    init = keys.add_parser("init", help="make the key file; never overwrites one")
    init.set_defaults(run=_keys_init)


def _add_pairing(commands: Any) -> None:
    pair = commands.add_parser(
        "pair", help="pair a patch by its label, or by hand; again with site and time to record them"
    )
    pair.add_argument("label", nargs="?", help="text of the pairing label (NFLX1:...); - reads it from stdin")
    pair.add_argument("--device-id", metavar="ID", help="by hand: NFLX_ and 8 capitals or digits")
    pair.add_argument("--batch", metavar="BATCH", help="by hand, the first time: BATCH_YYYYMMDD_XXX")
    pair.add_argument("--type", choices=tuple(DEVICE_TYPES), help="by hand, the first time")
    pair.add_argument("--address", metavar="ADDR", help="BLE address, where there is no label")
    pair.add_argument("--passkey", metavar="N", help="the six digits a BLE patch expects; - reads them from stdin")
    pair.add_argument("--transport", choices=("ble", "mqtt"), default="ble", help="default ble")
    pair.add_argument("--patient", metavar="TOKEN", help="whose patch it is: pt_ and 16 to 52 of a-z, 2-7")
    pair.add_argument("--site", choices=get_args(ApplicationSite), help="where it sits; with --applied-at")
    pair.add_argument("--applied-at", metavar="TIME", help="since when, ISO 8601 with zone; with --site")
    pair.add_argument("--json", action="store_true")
    pair.set_defaults(run=_pair)
    patches = commands.add_parser("patches", help="the paired patches")
    patches.add_argument("--json", action="store_true")
    patches.set_defaults(run=_patches)
    unpair = commands.add_parser("unpair", help="end a pairing")
    unpair.add_argument("device_id", metavar="ID")
    unpair.set_defaults(run=_unpair)
    label = commands.add_parser("label", help="pairing labels").add_subparsers(required=True, metavar="ACTION")
    make = label.add_parser("make", help="make a label with TEST keys (kept in --keys)")
    make.add_argument(
        "--keys", type=Path, required=True, metavar="DIR", help="folder of the test keys, made when missing"
    )
    make.add_argument("--device-id", metavar="ID")
    make.add_argument("--batch", metavar="BATCH")
    make.add_argument("--type", choices=tuple(DEVICE_TYPES), default="diagnostic_sensor")
    make.add_argument("--expiry", metavar="DATE", help="such as 2027-01-31")
    make.add_argument("--json", action="store_true")
    make.set_defaults(run=_label_make)


def _add_tools(commands: Any) -> None:
    replay = commands.add_parser("replay", help="decode captured BLE logs as the gateway would")
    replay.add_argument(
        "captures", nargs="+", type=Path, metavar="CAPTURE", help="btsnoop, pcap, pcapng ...: docs/captures.md"
    )
    replay.add_argument("--json", action="store_true", help="one object a line")
    replay.add_argument("--frames", action="store_true", help="every ATT operation, undecoded")
    replay.add_argument(
        "--gatt", type=Path, metavar="FILE", help="JSON: what the handles are that the capture discovers not"
    )
    replay.add_argument("--keep-retransmissions", action="store_true", help="of air captures")
    replay.add_argument(
        "--device", action="append", default=[], metavar="ADDRESS=DEVICE_ID[,TYPE[,BOOT]]", help="who an address is"
    )
    replay.add_argument("--expect", type=Path, metavar="FILE", help="compare the events with a file")
    replay.add_argument("--update", action="store_true", help="write the file of --expect")
    replay.add_argument("--fault", action="append", default=[], metavar="KIND=CHANCE", help="break it on purpose")
    replay.add_argument("--seed", type=int, help="of the faults")
    replay.add_argument("--speed", type=float, metavar="X", help="as fast as the capture's own clock, times X")
    replay.add_argument(
        "--into-buffer",
        action="store_true",
        help="store it, of patches paired there, as the gateway would",
    )
    replay.set_defaults(run=_replay)
    _add_capture(commands.add_parser("capture", help="what a captured BLE log holds, and other formats of it"))
    schema = commands.add_parser("schema", help="JSON Schema of the envelope, or of one event type's payload")
    schema.add_argument("type", nargs="?", metavar="TYPE", help="an event type, such as sensor_reading")
    schema.set_defaults(run=_schema)


def _add_capture(capture: argparse.ArgumentParser) -> None:
    actions = capture.add_subparsers(required=True, metavar="ACTION")
    info = actions.add_parser("info", help="format, devices, services, counts, time span")
    info.add_argument("captures", nargs="+", type=Path, metavar="CAPTURE")
    info.add_argument("--json", action="store_true", help="one object a line")
    info.set_defaults(run=_capture_info)
    convert = actions.add_parser("convert", help="write it as JSON Lines, btsnoop or pcapng")
    convert.add_argument("source", type=Path, metavar="CAPTURE")
    convert.add_argument("target", type=Path, metavar="FILE")
    convert.add_argument("--format", choices=("jsonl", "btsnoop", "pcapng"), help="else as the file's name ends")
    convert.set_defaults(run=_capture_convert)
    record = actions.add_parser("record", help="record BlueZ's traffic as btsnoop, through btmon; as root")
    record.add_argument("target", type=Path, metavar="FILE")
    record.add_argument(
        "--gateway", action="store_true", help="what the running gateway gets of its patches, as JSON Lines"
    )
    record.add_argument("--seconds", type=_seconds, help="how long; otherwise until Ctrl-C")
    record.set_defaults(run=_capture_record)
    scrub = actions.add_parser("scrub", help="write what can be shared: no addresses, names, keys, other devices")
    scrub.add_argument("source", type=Path, metavar="CAPTURE")
    scrub.add_argument("target", type=Path, metavar="FILE.jsonl")
    scrub.add_argument("--seed", type=int, help="for the same result again; otherwise it is drawn")
    scrub.add_argument("--gatt", type=Path, metavar="FILE", help="names handles, as of replay")
    scrub.set_defaults(run=_capture_scrub)


def _seconds(text: str) -> float:
    seconds = float(text) if re.fullmatch(r"[0-9]{1,8}(\.[0-9]*)?", text, re.ASCII) else 0.0
    if seconds == 0.0:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return seconds


def _run(arguments: argparse.Namespace) -> int:
    from agent.daemon import run_daemon

    return run_daemon(load(arguments.config))


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.once is not None and arguments.once < 1:
        print("patch-gateway: --once needs a number of events, 1 or more", file=sys.stderr)
        return 2
    from agent.demo.main import run_demo

    return run_demo(arguments.once, outage=arguments.outage, as_json=arguments.json, keep=arguments.keep)


def _status(arguments: argparse.Namespace) -> int:
    from agent.show import show_status

    return _ask(arguments, "status", {}, show_status)


def _patches(arguments: argparse.Namespace) -> int:
    from agent.show import show_patches

    return _ask(arguments, "patches", {}, show_patches)


def _pair(arguments: argparse.Namespace) -> int:
    from agent.show import show_paired

    secrets = {
        name: sys.stdin.readline().rstrip("\r\n") if value == "-" else value
        for name, value in (("label", arguments.label), ("passkey", arguments.passkey))
    }
    passkey = secrets["passkey"]
    if passkey is not None and not re.fullmatch(r"[0-9]{6}", passkey):
        print(
            "patch-gateway: --passkey is the six digits printed on the patch or in its papers, such as 012345.",
            file=sys.stderr,
        )
        return 2
    asked = {
        "label": secrets["label"],
        "passkey": int(passkey) if passkey is not None else None,
        "device_id": arguments.device_id,
        "batch_number": arguments.batch,
        "device_type": arguments.type,
        "address": arguments.address,
        "transport": arguments.transport,
        "patient": arguments.patient,
        "site": arguments.site,
        "applied_at": arguments.applied_at,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    return _ask(arguments, "pair", asked, show_paired, lambda result: result.get("bond") == "failed")


def _unpair(arguments: argparse.Namespace) -> int:
    return _ask(
        arguments, "unpair", {"device_id": arguments.device_id}, lambda result: f"Unpaired {result['device_id']}."
    )


def _ask(
    arguments: argparse.Namespace, command: str, asked: dict[str, Any], show: Any, wrong: Any = lambda _: False
) -> int:
    """Exit code 1 for a refusal, and for a result that is `wrong`."""
    from agent.offline import ask_or_do

    answer = ask_or_do(load(arguments.config), command, asked, sys.argv[1:])
    if isinstance(answer, int):
        return answer
    if not answer.ok or answer.result is None:
        print(f"patch-gateway: {answer.error}", file=sys.stderr)
        return 1
    print(json.dumps(answer.result, indent=2) if getattr(arguments, "json", False) else show(answer.result))
    return 1 if wrong(answer.result) else 0


def _keys_init(arguments: argparse.Namespace) -> int:
    from agent.setup import kek_path
    from buffer.keys import make_key_file

    settings: Settings = load(arguments.config)
    path = kek_path(settings)
    try:
        make_key_file(path)
    except FileExistsError:
        print(f"patch-gateway: there is a key at {path} already; it is not overwritten.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"patch-gateway: the key {path} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"Made the key {path}. Without it the buffer cannot be read: keep a copy where the gateway's card is not.")
    return 0


def _label_make(arguments: argparse.Namespace) -> int:
    from agent.labels import make_label

    return make_label(
        arguments.keys,
        device_id=arguments.device_id,
        batch=arguments.batch,
        device_type=arguments.type,
        expiry=arguments.expiry,
        as_json=arguments.json,
    )


def _capture_info(arguments: argparse.Namespace) -> int:
    from agent.capture_command import info

    return info(arguments.captures, as_json=arguments.json)


def _capture_convert(arguments: argparse.Namespace) -> int:
    from agent.capture_command import convert

    return convert(arguments.source, arguments.target, arguments.format)


def _capture_record(arguments: argparse.Namespace) -> int:
    from agent.record_command import record, record_gateway

    if arguments.gateway:
        from agent.setup import socket_path

        return record_gateway(socket_path(load(arguments.config)), arguments.target, arguments.seconds)
    return record(arguments.target, arguments.seconds)


def _capture_scrub(arguments: argparse.Namespace) -> int:
    from agent.capture_command import scrub

    return scrub(arguments.source, arguments.target, arguments.seed, arguments.gatt)


def _replay(arguments: argparse.Namespace) -> int:
    from agent.replay_command import Options, replay_files

    settings = load(arguments.config) if arguments.into_buffer else None
    if settings is None:
        # Millions of small tuples, none in a cycle: the collector would look at them again and again.
        gc.disable()
    if settings is not None:
        from agent.offline import become_owner

        code = become_owner(settings, sys.argv[1:], [])
        if code is not None:
            return code
    names = ("frames", "gatt", "keep_retransmissions", "expect", "update", "seed", "speed")
    same = {name: getattr(arguments, name) for name in names}
    options = Options(as_json=arguments.json, faults=arguments.fault, into=settings, **same)
    return replay_files(arguments.captures, arguments.device, options)


def _schema(arguments: argparse.Namespace) -> int:
    from schemas.describe import json_schema

    schema = json_schema(arguments.type)
    if schema is None:
        print(f"patch-gateway: {arguments.type} is not an event type: {', '.join(EventType)}.", file=sys.stderr)
        return 2
    print(json.dumps(schema, indent=2))
    return 0
