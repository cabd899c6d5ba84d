"""Results of commands as text for a terminal."""

from typing import Any

from agent.status import lane_words

_WAIT = "readings and telemetry wait on patches and at the broker"
_LEVELS = {
    "warn": "BUFFER FILLS UP",
    "pause": f"BUFFER NEARLY FULL, {_WAIT}",
    "thin": "BUFFER FULL, its oldest readings and telemetry are given up and named by gap markers",
}
# Below it, the level is the disk's.
_PAUSED_FROM = 80.0


def show_status(shown: dict[str, Any]) -> str:
    """`status` for people: what works, what does not and why."""
    lines = [f"Gateway {shown['gateway']} {shown['version']}, daemon {shown['daemon']}"]
    for link in shown.get("links", []):
        mark = "ok  " if link["connected"] else "WAIT" if link["paused"] else "DOWN"
        lines.append(f"  {mark} {link['link']}: {link['reason']}, {link['received']} messages since the start")
        lines += [f"       CHECK: {warning}" for warning in link.get("warnings", [])]
    upstream = shown.get("upstream")
    if upstream:
        mark = "ok  " if upstream["reachable"] else "DOWN" if upstream["reachable"] is False else "--  "
        lines.append(f"  {mark} upstream: {upstream['reason']}, {upstream['acknowledged']} events acknowledged")
    lines.append(f"Queue: {lane_words(shown['queue'])}")
    lines += fullness_lines(shown["buffer"])
    quarantine = shown["quarantine"]
    lines.append(f"Quarantine: {quarantine['entries']} entries, {quarantine['not_kept']} not kept")
    lines += [f"  {item['sender']}: {item['reason']} ({item['seen']}x)" for item in quarantine["newest"]]
    refused = {name: count for name, count in shown.get("counters", {}).items() if name != "durable"}
    if refused:
        lines.append("Counted: " + ", ".join(f"{name} {count}" for name, count in sorted(refused.items())))
    lines.append(show_patches(shown))
    return "\n".join(lines)


def fullness_lines(shown: dict[str, Any]) -> list[str]:
    """Where a person should know of it."""
    lines = []
    if shown["trouble"]:
        lines.append(f"NOTHING IS ACKNOWLEDGED: {shown['trouble']}; patches and broker keep what they have")
    full = f"{shown['percent']} % of its quota used, {shown['disk_free_octets'] >> 20} MiB left on its disk"
    if shown["reserve"] == "used":
        full += ", the reserve is used up or in use"
    if shown["level"] == "pause" and shown["percent"] < _PAUSED_FROM:
        lines.append(f"DISK NEARLY FULL, not by the buffer; {_WAIT}: {full}")
    elif shown["level"] != "fine":
        lines.append(f"{_LEVELS[shown['level']]}: {full}")
    if shown.get("given_up"):
        lines.append(f"{shown['given_up']} events given up since the start, for want of room")
    if shown["to_be_named"]:
        lines.append(f"{shown['to_be_named']} events given up are still to be named by gap markers")
    if shown["held_for_the_clock"]:
        lines.append(f"{shown['held_for_the_clock']} events wait for the clock to be right")
    return lines


def show_patches(shown: dict[str, Any]) -> str:
    """The registry for people."""
    rows = shown["patches"]
    if not rows:
        return "No patch is paired. Pair one with `patch-gateway pair`."
    lines = [f"{len(rows)} paired:"]
    for row in rows:
        parts = [row["device_type"], row["transport"], f"application {row['application']}"]
        if row["adhesion"]:
            parts.append(row["adhesion"])
        if row.get("last_data"):
            parts.append(f"last data {row['last_data']}")
        lines.append(f"  {row['device_id']}  {', '.join(parts)}")
        if "check" in row:
            lines.append(f"      CHECK: {row['check']}")
        if "radio" in row:
            lines.append(f"      {_radio(row['radio'])}")
    return "\n".join(lines)


def _radio(radio: dict[str, Any]) -> str:
    mark = "PAIR AGAIN" if radio["pair_again"] else "connected" if radio["connected"] else "not connected"
    parts = [] if radio["reason"] == mark else [radio["reason"]]
    parts += [f"since {radio['since']}"] if radio["since"] else []
    if radio["last_heard"]:
        parts.append(f"last heard {radio['last_heard']} at {radio['rssi']} dBm")
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in radio["about"].items()]
    return f"{mark}: {', '.join(parts)}" if parts else mark


def show_paired(result: dict[str, Any]) -> str:
    """The outcome of `pair` for people; the MQTT password appears here once and nowhere else."""
    lines = [f"{'Paired' if result['new'] else 'Already paired'}: {result['device_id']} over {result['transport']}."]
    if result["application_recorded"]:
        lines.append("Application recorded.")
        if result["released"]:
            lines.append(f"{result['released']} waiting adhesion reports became events.")
    if "mqtt_password" in result:
        lines.append(f"MQTT user     {result['mqtt_username']}")
        lines.append(f"MQTT password {result['mqtt_password']}   (shown once; only its hash is stored)")
    if result.get("bond") in {"bonded", "failed"}:
        lines.append("Bonded with its passkey." if result["bond"] == "bonded" else "NOT BONDED.")
    lines += [result[note] for note in ("patient_note", "bond_note", "mqtt_note", "mqtt_disabled") if note in result]
    return "\n".join(lines)
