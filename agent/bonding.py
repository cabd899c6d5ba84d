"""What the radio says of a patch that a person has just paired, while that person waits."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from device_drivers.links.base import LinkState
from device_drivers.links.ble_base import BleState, PatchState

# The control socket's client waits 30 s, and what it asked for must be durable first.
_SECONDS, _POLL = 20.0, 0.2
# A radio that is down longer than its link waits before it tries again stays down for now.
_DOWN_SECONDS = 3.0


def patch_states(links: Sequence[LinkState], device_id: str) -> list[PatchState]:
    """The patch at each adapter, the best news first."""
    found = [link.patches[device_id] for link in links if isinstance(link, BleState) and device_id in link.patches]
    return sorted(found, key=lambda state: (not state.connected, not state.bonded, not state.last_heard))


async def bonding(links: Callable[[], Sequence[LinkState]], device_id: str, window: datetime | None) -> dict[str, Any]:
    """Wait a while for the bond: `bonded`, `failed` with the reason, or `waiting` with what it waits for. A failure
    before the radio saw this `window` is an old one.
    """
    states: list[PatchState] = []
    clock = asyncio.get_running_loop().time
    begin = up = clock()
    while clock() < begin + _SECONDS:
        reason = no_radio(links())
        up = up if reason else clock()
        if reason and clock() > up + _DOWN_SECONDS:
            note = f"Not bonded yet, the radio is down: {reason}. The bond is made when it is back within the window."
            return {"bond": "waiting", "bond_note": note}
        # A radio that is down says nothing, and does not hide that the others have tried in vain.
        states = patch_states([link for link in links() if link.connected], device_id)
        if any(state.bonded for state in states):
            return {"bond": "bonded"}
        if states and all(state.pair_again and state.window == window for state in states):
            return {"bond": "failed", "bond_note": states[0].reason}
        await asyncio.sleep(_POLL)
    heard = states[0].reason if states else "not heard yet"
    note = f"Not bonded yet ({heard}): hold the patch close; `patch-gateway status` shows when it is."
    return {"bond": "waiting", "bond_note": note}


def no_radio(links: Sequence[LinkState]) -> str | None:
    """Why no adapter of this gateway works; None where one does, or has not said anything yet."""
    radios = [link for link in links if isinstance(link, BleState)]
    if any(radio.connected or radio.since is None for radio in radios):
        return None
    return radios[0].reason if radios else "there is no adapter"
