"""What the BLE link is told and what it shows: patches, options, the state of each patch in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from device_drivers.base import GattPlan, RecordAccess
from device_drivers.links.base import LinkState
from device_drivers.links.ble_policy import Policy


@dataclass(frozen=True, slots=True)
class BleOptions:
    """One adapter, by name (`hci0`) or by address, and how to use it. Times in seconds."""

    adapter: str
    policy: Policy
    scan_silence: float = 90.0
    stale_link: float = 900.0
    page: int = 500


@dataclass(frozen=True, slots=True)
class BlePatch:
    """One paired patch. `bonded`: a bond was made with its passkey, here. `passkey` and `window` (its end) while its
    pairing window is open; `interval` between its notifications in seconds.
    """

    device_id: str
    address: str
    plans: tuple[GattPlan, ...]
    bonded: bool = False
    passkey: int | None = field(default=None, repr=False)
    window: datetime | None = None
    interval: float = 0.0

    @property
    def authenticated(self) -> bool:
        """Does one of its profiles demand a bond made with a passkey?"""
        return any(plan.authenticated for plan in self.plans)


class Missing(NamedTuple):
    """From which record on to ask; `hole` when later records are here already."""

    first: int
    hole: bool


class Claims:
    """Shared by the links of one gateway: which adapter has which patch, so that two never reach for one. An adapter
    goes by its address; its name, which a dongle may change, is only for people.
    """

    def __init__(self) -> None:
        self._holder: dict[str, str] = {}
        self._bonded: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._up: set[str] = set()

    def arrive(self, adapter: str, name: str) -> None:
        """The adapter is there, under this name."""
        self._names[adapter] = name
        self._up.add(adapter)

    def leave(self, adapter: str) -> None:
        """The adapter is gone, and has no patch any more. Its bonds are kept: it may come back."""
        self._up.discard(adapter)
        self._holder = {known: holder for known, holder in self._holder.items() if holder != adapter}

    def take(self, device_id: str, adapter: str) -> bool:
        """May this adapter connect to the patch now?"""
        return self._holder.setdefault(device_id, adapter) == adapter

    def release(self, device_id: str, adapter: str) -> None:
        """Of what this adapter has; what another has is not touched."""
        if self._holder.get(device_id) == adapter:
            del self._holder[device_id]

    def bonded(self, adapter: str, device_ids: Iterable[str]) -> None:
        """These are bonded on this adapter, and nothing else is. A bond that another which is there has, too, counts
        for that one.
        """
        others = {known: other for known, other in self._bonded.items() if other != adapter}
        self._bonded = others | {known: adapter for known in device_ids if others.get(known) not in self._up}

    def bonded_anew(self, adapter: str, device_id: str) -> None:
        """The bond was made just now: older ones of other adapters count no more."""
        self._bonded[device_id] = adapter

    def bonded_elsewhere(self, device_id: str, adapter: str, *, wished: bool) -> str | None:
        """Another adapter that holds the patch's bond, for people. `wished`: a person wants it paired now, which
        comes before the old bond of an adapter that is gone.
        """
        holder = self._bonded.get(device_id, adapter)
        if holder == adapter or (wished and holder not in self._up):
            return None
        name = self._names.get(holder, holder)
        return name if holder in self._up else f"{name}, which is gone: plug it in, or pair the patch again"


class BlePatches(Protocol):
    """The gateway's registry, as far as a radio needs it."""

    def patches(self) -> Mapping[str, BlePatch]:
        """The patches paired over BLE, by device id."""
        ...

    def bonded(self, device_id: str) -> None:
        """A bond was made with the passkey: the pairing window is used up."""
        ...

    def missing(self, device_id: str, access: RecordAccess) -> Missing | None:
        """Which stored records are wanted; None while the patch's session is not known."""
        ...


@dataclass(slots=True)
class PatchState:
    """One patch as a technician sees it."""

    reason: str = "not heard yet"
    since: datetime | None = None
    connected: bool = False
    bonded: bool | None = None
    last_heard: datetime | None = None
    rssi: int | None = None
    connects: int = 0
    failures: int = 0
    pair_again: bool = False
    window: datetime | None = None


@dataclass(slots=True)
class BleState(LinkState):
    """The adapter, its patches, and what is wrong with the machine around it."""

    patches: dict[str, PatchState] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


class RadioLost(Exception):
    """bluetoothd or the adapter is gone; the message is for a person."""


class PatchLost(Exception):
    """The connection to one patch could not be made or ended; the message is for a person."""


class BondLost(PatchLost):
    """The patch does not accept the bond we have, or there is none."""
