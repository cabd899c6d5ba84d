"""`patch-gateway buffer`: its arguments, and its results as text."""

import argparse
import json
import os
import sys
import syslog
from collections import Counter
from typing import Any

from config.load import load

# `verify` could not be done, which is not the same as damage (1).
_NOT_LOOKED = 2


def add(commands: Any, ask: Any) -> None:
    """The subcommand. `ask(arguments, command, asked, show)` runs a command and gives the exit code."""
    buffer = commands.add_parser("buffer", help="what is stored here, and what was set aside")
    actions = buffer.add_subparsers(required=True, metavar="ACTION")
    stats = actions.add_parser("stats", help="how full it is, and with what")
    stats.add_argument("--json", action="store_true")
    stats.set_defaults(run=lambda arguments: ask(arguments, "stats", {}, show_stats))
    verify = actions.add_parser("verify", help="open every row under its key, and have the file checked")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)
    _add_quarantine(actions.add_parser("quarantine", help="what could not be used, with its reason"), ask)


def _add_quarantine(quarantine: argparse.ArgumentParser, ask: Any) -> None:
    actions = quarantine.add_subparsers(required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="the newest entries, without what they hold")
    listed.add_argument("--limit", type=at_least_1, default=100, metavar="N", help="default 100")
    listed.add_argument("--json", action="store_true")
    listed.set_defaults(
        run=lambda arguments: ask(
            arguments, "quarantine", {"action": "list", "limit": arguments.limit}, show_entries
        )
    )  # fmt: skip
    show = actions.add_parser("show", help="entries with what they hold, values masked")
    show.add_argument("--reveal", action="store_true", help="values too; that you looked is logged")
    requeue = actions.add_parser(
        "requeue", help="try entries again: frames are decoded anew, refused events sent again"
    )
    discard = actions.add_parser("discard", help="give entries up: gap markers name them upstream")
    show.add_argument("ids", nargs="+", type=int, metavar="ID")
    show.set_defaults(all=False)
    for action in (requeue, discard):
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", nargs="*", type=int, default=[], metavar="ID")
        which.add_argument("--all", action="store_true", help="every entry")
    for action in (show, requeue, discard):
        action.add_argument("--json", action="store_true")
    for action, name, text in ((show, "show", show_entries), (requeue, "requeue", show_requeued),
                               (discard, "discard", show_discarded)):  # fmt: skip
        action.set_defaults(
            run=lambda arguments, name=name, text=text: ask(arguments, "quarantine", _asked(arguments, name), text)
        )


def at_least_1(text: str) -> int:
    """A number of things on a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number, at least 1")
    return int(text)


def _asked(arguments: argparse.Namespace, action: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"action": action}
    if not arguments.all:
        asked["ids"] = arguments.ids
    if getattr(arguments, "reveal", False):
        who = os.environ.get("SUDO_UID") or str(os.getuid())
        syslog.openlog("patch-gateway", facility=syslog.LOG_AUTH)
        syslog.syslog(syslog.LOG_WARNING, f"quarantine values were shown by hand uid={who}")
        asked["reveal"] = True
    return asked


def _verify(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from agent.ending import EX_IOERR
    from agent.offline import become_owner, no_buffer
    from agent.setup import credentials_directory, database_path, kek_path
    from buffer.errors import MediumError, StoreError
    from buffer.keys import read_kek
    from buffer.verify import Verification

    settings = load(arguments.config)
    code = become_owner(settings, sys.argv[1:], [])
    if code is not None:
        return code
    missing = no_buffer(settings)
    if missing:
        print(f"patch-gateway: {missing}", file=sys.stderr)
        return _NOT_LOOKED
    path = database_path(settings)
    try:
        verification = Verification(path, read_kek(kek_path(settings), credentials_directory(), path))
        opened = verification.run()
        for _ in tqdm(opened, total=next(opened), unit=" rows", delay=1, leave=False, disable=None):
            pass
    except StoreError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return EX_IOERR if isinstance(error, MediumError) else _NOT_LOOKED
    tables = {name: {"rows": table.rows, "damaged": table.damaged} for name, table in verification.tables.items()}
    if arguments.json:
        print(json.dumps({"sound": verification.sound, "file": verification.file, "tables": tables}, indent=2))
    else:
        print(show_verified(tables, verification.file))
    return 0 if verification.sound else 1


def show_verified(tables: dict[str, dict[str, int]], file: str) -> str:
    """Tables with rows, what is damaged, and what to do."""
    lines = [f"{name:<11} {table['rows']} rows, {table['damaged']} damaged" for name, table in tables.items()]
    lines.append(f"file        {file}")
    if file != "ok" or any(table["damaged"] for table in tables.values()):
        lines.append("DAMAGED: keep a copy of the state folder, then: docs/durability.md, When it is damaged.")
    return "\n".join(lines)


def _size(octets: int) -> str:
    return f"{octets / (1 << 20):.1f} MiB" if octets >= 1 << 20 else f"{octets / 1024:.0f} KiB"


def show_stats(result: dict[str, Any]) -> str:
    """For people."""
    from agent.show import fullness_lines

    database, quota, aside = result["database"], result["quota"], result["quarantine"]
    in_use = f"{quota['percent']} % of the quota ({quota['octets'] >> 20} MiB) in use"
    free = f"{database['free_pages']} of {database['pages']} pages free"
    lines = [
        f"Database: {_size(database['octets'])}, {in_use}, {free}",
        f"WAL: {_size(database['wal_octets'])}",
    ]
    for name, lane in result["lanes"].items():
        since = f", the oldest received on {lane['oldest_day']}" if lane["oldest_day"] else ""
        lines.append(f"  {name:<10} {lane['rows']} rows{since}")
    lines.append(f"Quarantine: {aside['entries']} entries, {_size(aside['octets'])}; {result['not_kept']} not kept")
    if result["unsaved"]:
        lines.append(f"{result['unsaved']} submissions are not durable yet")
    lines += fullness_lines(result["buffer"])
    return "\n".join(lines)


def show_entries(result: dict[str, Any]) -> str:
    """One line an entry, and what it holds below where that was asked for."""
    lines = []
    for item in result["entries"]:
        where = f"{item['id']:>6}  {item['received_at']}  {item['sender']}  {item['channel']}"
        lines.append(f"{where}  {item['reason']} ({item['seen']}x)")
        if "payload" in item:
            lines.append(f"        {item['payload']}")
    more = result.get("all", 0) - len(result["entries"])
    if more > 0:
        lines.append(f"and {more} older ones: --limit")
    return "\n".join(lines) or "The quarantine is empty."


_FATES = {
    "quarantined": "refused again: it is a new entry now, with the reason it has today",
    "durable": "stored",
    "queued": "in the queue again",
    "duplicate": "was here already",
    "unchanged": "says nothing new",
    "waiting": "waits for the application of its patch",
    "overflowed": "refused again, and the quarantine is full: it is counted",
    "kept": "stays",
    "gone": "is gone by now",
}


def show_requeued(result: dict[str, Any]) -> str:
    """What became of each, and of how many."""
    lines, fates = [], Counter[str]()
    for item in result["requeued"]:
        why = f": {item['why']}" if "why" in item else ""
        fate = ", ".join(_FATES.get(each, each) for each in item["fate"].split(", "))
        fates[fate] += 1
        lines.append(f"{item['id']:>6}  {fate}{why}")
    if len(lines) > 1:
        lines += [f"{number} of {len(lines)}: {fate}" for fate, number in fates.most_common()]
    return "\n".join(lines) or "The quarantine is empty."


def show_discarded(result: dict[str, Any]) -> str:
    """How many, and what names them now."""
    return f"{result['discarded']} discarded; gap markers name them upstream." if result["discarded"] else "None there."
