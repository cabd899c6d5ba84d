"""What the radio says of a patch that a person has just paired, while that person waits."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from device_drivers.links.base import LinkState
from device_drivers.links.ble_base import BleState, PatchState

# The control socket's client waits 30 s.
_SECONDS, _POLL = 24.0, 0.2


def patch_states(links: Sequence[LinkState], device_id: str) -> list[PatchState]:
    """The patch at each adapter, the best news first."""
    found = [link.patches[device_id] for link in links if isinstance(link, BleState) and device_id in link.patches]
    return sorted(found, key=lambda state: (not state.connected, not state.bonded, not state.last_heard))


async def bonding(links: Callable[[], Sequence[LinkState]], device_id: str, window: datetime | None) -> dict[str, Any]:
    """Wait a while for the bond: `bonded`, `failed` with the reason, or `waiting` with what it waits for. A failure
    before the radio saw this `window` is an old one.
    """
    states: list[PatchState] = []
    for _ in range(round(_SECONDS / _POLL)):
        states = patch_states(links(), device_id)
        if any(state.bonded for state in states):
            return {"bond": "bonded"}
        if states and all(state.pair_again and state.window == window for state in states):
            return {"bond": "failed", "bond_note": states[0].reason}
        await asyncio.sleep(_POLL)
    radio = next((link for link in links() if isinstance(link, BleState)), None)
    reason = states[0].reason if states and radio and radio.connected else radio.reason if radio else "no adapter"
    return {
        "bond": "waiting",
        "bond_note": f"Not bonded yet ({reason}): hold the patch close; status shows when it is.",
    }
