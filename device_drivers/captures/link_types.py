"""What one packet of a pcap or pcapng file is, by link type (tcpdump.org, LINKTYPE_BLUETOOTH_*)."""

from collections.abc import Callable
from datetime import datetime

from device_drivers.captures.base import AirRecord, CaptureError, HciRecord

Record = HciRecord | AirRecord
# Linux monitor opcodes that are HCI packets: (H4 type, sent by the host)
MONITOR = {2: (b"\x01", True), 3: (b"\x04", False), 4: (b"\x02", True), 5: (b"\x02", False)}
_CRC = 3
_CODED = 2
_NAMES = {
    1: "Ethernet", 113: "Linux cooked", 127: "802.11 radiotap", 189: "Linux USB", 220: "Linux USB", 249: "USBPcap",
    192: "PPI (as crackle and Ubertooth write it)", 195: "IEEE 802.15.4", 147: "a user's own", 255: "Bluetooth BR/EDR",
}  # fmt: skip


def _h4(number: int, time: datetime, data: bytes) -> HciRecord:
    sent = {b"\x01": True, b"\x04": False}.get(data[:1])
    return HciRecord(number, time, data, sent)


def _h4_with_direction(number: int, time: datetime, data: bytes) -> HciRecord | None:
    if len(data) < 5:
        return None
    return HciRecord(number, time, data[4:], sent=not int.from_bytes(data[:4], "big") & 1)


def _monitor(number: int, time: datetime, data: bytes) -> HciRecord | None:
    kind = MONITOR.get(int.from_bytes(data[2:4], "big")) if len(data) >= 4 else None
    adapter = int.from_bytes(data[:2], "big")
    return HciRecord(number, time, kind[0] + data[4:], kind[1], adapter) if kind else None


def _le_ll(number: int, time: datetime, data: bytes) -> AirRecord | None:
    """Access address, PDU, CRC; nobody says who sent it or whether the CRC is right."""
    if len(data) < 4 + 2 + _CRC:
        return None
    return AirRecord(number, time, int.from_bytes(data[:4], "little"), data[4:-_CRC])


def _le_ll_with_phdr(number: int, time: datetime, data: bytes) -> AirRecord | None:
    """Ten octets before it: channel, signal, noise, offenses, reference access address, flags. Of flags, bits 12 and 13
    say that the integrity check was looked at, and was right; isochronous PDUs (kinds 4 to 6) carry no ATT.
    """
    if len(data) < 10 + 4 + 2 + _CRC:
        return None
    flags = data[8] | data[9] << 8
    crc_ok = bool(flags & 0x0800) if flags & 0x0400 else None
    kind = flags >> 7 & 0b111
    # On the Coded PHY an octet that names the coding follows the access address.
    frame = data[10:14] + data[15:] if flags >> 14 == _CODED else data[10:]
    found = _le_ll(number, time, frame) if kind < 4 else None
    if found is None:
        return None
    decrypted, wrong = bool(flags & 0x0008), flags & 0x3008 == 0x1008
    return found._replace(crc_ok=crc_ok, sent={2: True, 3: False}.get(kind), decrypted=decrypted, unreadable=wrong)


def _nordic(number: int, time: datetime, data: bytes) -> AirRecord | None:
    """Of the nRF Sniffer: board, header (6), packet header (10: its length, flags, channel ...), then the frame."""
    if len(data) < 17 + 4 + 2 + _CRC:
        return None
    flags = data[8]
    found = _le_ll(number, time, data[17:])
    sent = None if found is None or found.access_address == 0x8E89BED6 else bool(flags & 0x02)
    if found is None:
        return None
    encrypted, right = bool(flags & 0x04), bool(flags & 0x08)
    return found._replace(
        crc_ok=bool(flags & 0x01), sent=sent, decrypted=encrypted and right, unreadable=encrypted and not right
    )


LINK_TYPES: dict[int, Callable[[int, datetime, bytes], Record | None]] = {
    187: _h4, 201: _h4_with_direction, 251: _le_ll, 254: _monitor, 256: _le_ll_with_phdr, 272: _nordic,
}  # fmt: skip


def parser(link_type: int) -> Callable[[int, datetime, bytes], Record | None]:
    """Octets of one packet to a record, None for what is no Bluetooth packet; CaptureError for another link type."""
    found = LINK_TYPES.get(link_type)
    if found is None:
        name = f" ({_NAMES[link_type]})" if link_type in _NAMES else ""
        known = ", ".join(map(str, sorted(LINK_TYPES)))
        raise CaptureError(
            f"link type {link_type}{name} is not read: {known} are. Record again with btmon, Android's HCI snoop log or"
            " an nRF Sniffer"
        )
    return found
