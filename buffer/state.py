"""What the buffer knows in memory, and a journal that takes back what a failing decision changed."""

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeVar

from buffer.devices import DeviceRecord, Former
from buffer.lanes import Lane
from buffer.lost import Lost
from buffer.marks import Mark
from buffer.sealing import Dek

K = TypeVar("K")
V = TypeVar("V")

GATEWAY_REF = 0
REGISTRY_DAY = "registry"


class Entry(NamedTuple):
    """A registry row: its local number, its key, its record."""

    ref: int
    dek: Dek
    record: DeviceRecord


class Waiting(NamedTuple):
    """One sealed report that waits for its patch's application."""

    dek: Dek
    sealed: bytes


class MarkKey(NamedTuple):
    """A stream of one patch since one boot; `boot` is a blind index."""

    device_ref: int
    stream: str
    boot: bytes


# Counted in the transaction that uses them, so that none is given twice, not even after a start: of the gateway's own
# events, and of entries of the quarantine.
KEPT_NUMBERS = ("own", "last_entry")


@dataclass(slots=True)
class State:
    """Loaded at open, changed only inside a Draft."""

    gateway_id: str
    epoch: str
    devices: dict[str, Entry] = field(default_factory=dict)
    former: dict[str, Former] = field(default_factory=dict)
    deks: dict[tuple[int, str], Dek] = field(default_factory=dict)
    # Of a stream, in the order of its boots.
    marks: dict[MarkKey, Mark] = field(default_factory=dict)
    waiting: dict[int, tuple[Waiting, ...]] = field(default_factory=dict)
    # digest -> (sender, octets it takes)
    quarantine: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    senders: dict[bytes, int] = field(default_factory=dict)
    overflow: dict[bytes, int] = field(default_factory=dict)
    lost: dict[str | None, Lost] = field(default_factory=dict)
    lanes: dict[Lane, int] = field(default_factory=dict)
    # KEPT_NUMBERS, last_dek, last_event, last_ref, held, quarantine_octets
    numbers: dict[str, int] = field(default_factory=dict)


class Stored(NamedTuple):
    """How much of what is in the file."""

    lanes: dict[Lane, int]
    held: int
    quarantined: int
    quarantine_octets: int

    @classmethod
    def of(cls, state: State) -> Self:
        """As of now: taken between transactions, as a Draft counts before it is committed."""
        numbers = state.numbers
        lanes = {lane: state.lanes.get(lane, 0) for lane in Lane}
        return cls(lanes, numbers.get("held", 0), len(state.quarantine), numbers.get("quarantine_octets", 0))


class Journal:
    """Changes to the dictionaries of a State, undone in reverse order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def set(self, mapping: MutableMapping[K, V], key: K, value: V) -> None:
        """mapping[key] = value, until undone."""
        if key in mapping:
            before = mapping[key]
            self._undo.append(lambda: mapping.__setitem__(key, before))
        else:
            self._undo.append(lambda: mapping.pop(key, None))
        mapping[key] = value

    def remove(self, mapping: MutableMapping[K, V], key: K) -> None:
        """Delete mapping[key], until undone."""
        if key in mapping:
            before = mapping.pop(key)
            self._undo.append(lambda: mapping.__setitem__(key, before))

    def remove_all(self, mapping: MutableMapping[K, V], keys: Iterable[K]) -> None:
        """Delete these keys, until undone: then everything is in its place again, where the order says something."""
        before = dict(mapping)
        for key in keys:
            del mapping[key]

        def undo() -> None:
            mapping.clear()
            mapping.update(before)

        self._undo.append(undo)

    def back_to(self, point: int) -> None:
        """Undo down to an earlier `point`."""
        while len(self._undo) > point:
            self._undo.pop()()

    @property
    def point(self) -> int:
        return len(self._undo)
