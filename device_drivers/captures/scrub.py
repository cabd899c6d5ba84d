"""A capture that can be shared: its ATT operations, with nothing that tells whose device it is.

Packets are not copied, so advertising, pairing, link keys and names in HCI are gone. Addresses and device ids are
replaced, as octets of either order and as text, by others drawn from the seed: no function of the originals. Values of
characteristics that name a device are replaced, and wherever these stand in another value they are replaced there too;
but not in values that a profile decodes, so that replay gives the same. Values read from handles of which nobody knows
what they are may be a name: they are blanked.
"""

import random
import re
from collections.abc import Iterator

from device_drivers.captures.base import AttOperation, Value
from device_drivers.registry import all_profiles

# Device Name, Serial Number String, System ID, UDI for Medical Devices; First Name, Last Name, Email Address;
# Reconnection Address, Encrypted Data Key Material
NAMING = frozenset({"2a00", "2a25", "2a23", "2bff", "2a8a", "2a90", "2a87", "2a03", "2b88"})
_UDI, _ABOUT = "2bff", "180a"
_ADDRESS = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", re.ASCII | re.IGNORECASE)
_DEVICE_ID = re.compile(r"NFLX_[0-9A-Z]{8}", re.ASCII)
# Shorter and plainer pieces stand in other values by chance.
_LEAST, _LEAST_DIFFERENT = 4, 3
_ANSWERS_OF_SEVERAL = {"read_multiple", "read_multiple_variable"}
_READ = {"read", "read_blob", "read_by_type"}


class Scrubber:
    """`learn` every operation of a capture first, then `scrub` them: what names a device may come late in it.

    `blanked`: how many values were read from unknown handles.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable, and hides nothing: see above
        self._devices: dict[str, str] = {}
        self._pieces: dict[bytes, bytes] = {}
        self._anywhere: re.Pattern[bytes] | None = None
        # The model number tells how to decode the rest.
        self._kept = frozenset(
            channel
            for profile in all_profiles().values()
            for channel in profile.CHANNELS
            if channel.service != _ABOUT or channel.characteristic == "2a24"
        )
        self.blanked = 0

    def learn(self, operation: AttOperation) -> None:
        """Note what names a device."""
        if operation.device not in self._devices:
            self._name(operation.device)
        for item in _values(operation):
            if item.channel and _names(item):
                self._named(item.channel.characteristic, item.payload)

    def scrub(self, operation: AttOperation) -> AttOperation:
        """The operation as it may be shown."""
        if self._anywhere is None:
            long = (piece for piece in self._pieces if len(piece) >= _LEAST and len(set(piece)) >= _LEAST_DIFFERENT)
            pieces = sorted(long, key=len, reverse=True)
            self._anywhere = re.compile(b"|".join(map(re.escape, pieces)) or b"(?!)")
        values = operation.values
        several = operation.att == "multiple_notification" and any(map(_names, values or ()))
        if operation.att in _ANSWERS_OF_SEVERAL or (operation.att in _READ and self._unknown(operation)):
            self.blanked += 1
            value, values = bytes(len(operation.value)), values and ()
        else:
            own = Value(operation.handle or 0, operation.channel, operation.value)
            value = bytes(len(operation.value)) if several else self._octets(own)
            values = values and tuple(item._replace(payload=self._octets(item)) for item in values)
        return operation._replace(device=self._devices[operation.device], value=value, values=values)

    @staticmethod
    def _unknown(operation: AttOperation) -> bool:
        parts = operation.values or (Value(operation.handle or 0, operation.channel, operation.value),)
        return bool(operation.value) and any(item.channel is None for item in parts)

    def _name(self, device: str) -> None:
        if _ADDRESS.fullmatch(device):
            octets = bytearray(self._random.randbytes(6))
            octets[0] |= 0xC0  # a static random address
            self._devices[device] = octets.hex(":").upper()
            original, other = bytes.fromhex(device.replace(":", "")), bytes(octets)
            for old, new in ((original, other), (original[::-1], other[::-1])):
                self._pieces[old] = new
                for separator in (":", "-", ""):
                    before, after = (each.hex(separator) if separator else each.hex() for each in (old, new))
                    self._pieces[before.encode()] = after.encode()
                    self._pieces[before.upper().encode()] = after.upper().encode()
        elif _DEVICE_ID.fullmatch(device):
            self._devices[device] = "NFLX_" + "".join(self._random.choices("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=8))
            self._pieces[device.encode()] = self._devices[device].encode()
        else:
            self._devices[device] = f"connection-{len(self._devices) + 1}"

    def _named(self, characteristic: str, value: bytes) -> bytes:
        """What stands for the value of such a characteristic: NULs around it and the flags before a UDI stay."""
        flags, text = (value[:1], value[1:]) if characteristic == _UDI else (b"", value)
        stem = text.strip(b"\0")
        if stem and stem not in self._pieces:
            self._pieces[stem] = self._stand_in(stem)
        return flags + text.replace(stem, self._pieces[stem], 1) if stem else value

    def _stand_in(self, value: bytes) -> bytes:
        """As long, text for text, digits for digits."""
        return bytes(
            self._random.choice(b"0123456789") if octet in b"0123456789"
            else self._random.choice(b"abcdefghijklmnopqrstuvwxyz") if 0x20 < octet < 0x7F
            else octet if octet in {0, 0x20} else self._random.randrange(0x80, 0x100)
            for octet in value
        )  # fmt: skip

    def _octets(self, item: Value) -> bytes:
        if item.channel and _names(item):
            return self._named(item.channel.characteristic, item.payload)
        if item.channel in self._kept:
            return item.payload
        assert self._anywhere is not None
        return self._anywhere.sub(lambda found: self._pieces[found[0]], item.payload)


def _names(item: Value) -> bool:
    return item.channel is not None and item.channel.characteristic in NAMING


def _values(operation: AttOperation) -> Iterator[Value]:
    yield Value(operation.handle or 0, operation.channel, operation.value)
    yield from operation.values or ()
