"""The live terminal view: patches, queue, central."""

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.counters import LastSeen
from agent.demo.fleet import FLEET
from agent.demo.scene import Scene, Stats


def render(scene: Scene, stats: Stats | None, note: str | None) -> Group:
    """The whole screen."""
    assert scene.gateway is not None
    parts: list[RenderableType] = [_patches(scene), _flow(scene, stats), _keys(scene)]
    if note:
        parts.append(Text(f"No ClickHouse here: {note}. PostgreSQL has everything.", style="yellow"))
    return Group(*parts)


def _patches(scene: Scene) -> Table:
    assert scene.gateway is not None
    table = Table(title="Patches (emulated)", expand=True)
    for column in ("patch", "type", "link", "last reading", "last dose", "adhesion", "events"):
        table.add_column(column, no_wrap=True)
    for patch in FLEET:
        last = scene.gateway.counters.last.get(patch.device_id, LastSeen())
        counts = scene.gateway.counters.by_device.get(patch.device_id, Counter())
        table.add_row(
            patch.device_id,
            patch.device_type.removesuffix("_microsizefibers"),
            "BLE capture" if patch.transport == "ble" else "MQTT",
            _reading(last.reading),
            _dose(last.dosage),
            last.adhesion or "-",
            str(counts.get("durable", 0)),
        )
    return table


def _reading(reading: dict[str, Any] | None) -> Text:
    if reading is None:
        return Text("-")
    text = f"{reading['sensor_type']} {reading['reading_value']:g} {reading['unit_of_measurement']}"
    return Text(text, style="bold red" if reading.get("alert_triggered") else "")


def _dose(dosage: dict[str, Any] | None) -> str:
    if dosage is None:
        return "-"
    failed = "" if dosage["delivery_success"] else " FAILED"
    return f"{dosage['substance_delivered']} {dosage['dosage_amount']:g} {dosage['unit_of_measurement']}{failed}"


def _flow(scene: Scene, stats: Stats | None) -> Table:
    assert scene.gateway is not None
    sync, buffer = scene.gateway.sync_state(), scene.gateway.buffer
    table = Table.grid(padding=(0, 3))
    queue = "   ".join(f"{lane.name.lower()} {rows}" for lane, rows in buffer.lanes.items())
    table.add_row("made by patches", str(scene.made))
    table.add_row("durable in the buffer", str(scene.gateway.counters.total["durable"]))
    table.add_row("queue by lane", Text(queue, style="bold yellow" if sum(buffer.lanes.values()) > 50 else ""))
    table.add_row("acknowledged by central", f"{sync.acknowledged}   ({sync.own} of the gateway's own)")
    postgresql = stats.postgresql["events"] - stats.postgresql["own"] if stats else "?"
    clickhouse = stats.clickhouse["events"] - stats.clickhouse["own"] if stats and stats.clickhouse else "-"
    table.add_row("rows in PostgreSQL", str(postgresql))
    table.add_row("rows in ClickHouse", str(clickhouse))
    return table


def _keys(scene: Scene) -> Panel:
    assert scene.valve is not None
    assert scene.gateway is not None
    state = Text("upstream open", style="green") if scene.valve.is_open else Text("UPSTREAM CUT", style="bold red")
    sync = scene.gateway.sync_state()
    if sync.reachable is False:
        state.append(f"  ({sync.reason[:48]})", style="default")
    state.append("   [o] cut or restore   [q] stop", style="default")
    return Panel(state)
