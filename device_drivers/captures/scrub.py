"""A capture that can be shared: its ATT operations, with nothing that tells whose device it is.

Packets are not copied, so advertising, pairing, link keys and names in HCI are gone. Addresses are replaced in their
order of appearance, by numbers drawn from the seed: no function of the originals. Values of characteristics that name a
device are replaced, and wherever these values or the addresses stand in another value they are replaced there too.
"""

import random
import re
from collections.abc import Iterable, Iterator

from device_drivers.captures.base import AttOperation, Value

# Device Name, Serial Number String, System ID, UDI for Medical Devices; First Name, Last Name, Email Address
NAMING = frozenset({"2a00", "2a25", "2a23", "2bff", "2a8a", "2a90", "2a87"})
_ADDRESS = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", re.ASCII)
# Shorter pieces stand in other values by chance.
_LEAST = 4


class Scrubber:
    """`learn` every operation of a capture first, then `scrub` them: what names a device may come late in it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable, and hides nothing: see above
        self._devices: dict[str, str] = {}
        self._pieces: dict[bytes, bytes] = {}

    def learn(self, operation: AttOperation) -> None:
        """Note what names a device."""
        if operation.device not in self._devices:
            self._name(operation.device)
        for characteristic, value in _values(operation):
            if characteristic in NAMING:
                self._piece(value)
                self._piece(value.strip(b"\0"))

    def scrub(self, operation: AttOperation) -> AttOperation:
        """The operation as it may be shown."""
        values = None
        if operation.values is not None:
            values = tuple(
                Value(item.handle, item.channel, self._octets(_characteristic(item), item.payload))
                for item in operation.values
            )
        own = operation.channel.characteristic if operation.channel else None
        return operation._replace(
            device=self._devices[operation.device],
            value=self._octets(own, operation.value),
            values=values,
        )

    def _name(self, device: str) -> None:
        octets = bytearray(self._random.randbytes(6))
        octets[0] |= 0xC0  # a static random address
        if not _ADDRESS.fullmatch(device):
            self._devices[device] = f"connection-{len(self._devices) + 1}"
            return
        self._devices[device] = octets.hex(":").upper()
        original = bytes.fromhex(device.replace(":", ""))
        self._pieces[original], self._pieces[original[::-1]] = bytes(octets), bytes(octets[::-1])

    def _piece(self, value: bytes) -> None:
        if len(value) >= _LEAST and value not in self._pieces:
            self._pieces[value] = self._stand_in(value)

    def _stand_in(self, value: bytes) -> bytes:
        """As long, text for text, digits for digits."""
        return bytes(
            self._random.choice(b"0123456789") if octet in b"0123456789"
            else self._random.choice(b"abcdefghijklmnopqrstuvwxyz") if 0x20 < octet < 0x7F
            else octet if octet in {0, 0x20} else self._random.randrange(0x80, 0x100)
            for octet in value
        )  # fmt: skip

    def _octets(self, characteristic: str | None, value: bytes) -> bytes:
        for piece in sorted(self._pieces, key=len, reverse=True):
            if piece in value:
                value = value.replace(piece, self._pieces[piece])
                if characteristic in NAMING:
                    return value
        return self._stand_in(value) if characteristic in NAMING else value


def _characteristic(value: Value) -> str | None:
    return value.channel.characteristic if value.channel else None


def _values(operation: AttOperation) -> Iterator[tuple[str | None, bytes]]:
    yield (operation.channel.characteristic if operation.channel else None), operation.value
    for item in operation.values or ():
        yield _characteristic(item), item.payload


def scrub(first: Iterable[AttOperation], second: Iterable[AttOperation], seed: int) -> Iterator[AttOperation]:
    """`first` and `second` are two passes over one capture."""
    scrubber = Scrubber(seed)
    for operation in first:
        scrubber.learn(operation)
    for operation in second:
        yield scrubber.scrub(operation)
