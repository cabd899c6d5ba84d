"""What a sniffer heard: turns, repeats, encryption that it undid, did not undo, or undid wrongly."""

import struct
from datetime import UTC, datetime, timedelta

import pytest

from device_drivers.captures import link_types
from device_drivers.captures.air import AirReader
from device_drivers.captures.base import AirRecord, Counts
from device_drivers.captures.devices import Devices

START = datetime(2026, 11, 24, tzinfo=UTC)
ACCESS = 0x50123456
MIC = b"\xde\xad\xbe\xef"


class Ether:
    """One connection; PDUs are read as they come."""

    def __init__(self):
        self.counts, self.time, self.number = Counts(), START, 0
        self.reader = AirReader(Devices(None), self.counts, keep_retransmissions=False)
        self.sn = {False: 0, True: 0}

    def heard(self, llid, payload, *, sent=False, after=30.0, said=None, new=True, nesn=0, **flags):
        """One PDU, so many ms after the last; `said`: whether the sniffer says who sent it."""
        self.time += timedelta(milliseconds=after)
        self.number += 1
        self.sn[sent] ^= new
        pdu = bytes([llid | self.sn[sent] << 3 | nesn << 2, len(payload)]) + payload
        told = sent if said is None else None
        record = AirRecord(self.number, self.time, ACCESS, pdu, flags.pop("crc_ok", True), told, **flags)
        return self.reader.receive(record)

    def att(self, pdu, **how):
        return self.heard(2, len(pdu).to_bytes(2, "little") + b"\4\0" + pdu, **how)


def test_a_fragment_that_lacks_as_much_as_the_check_takes_is_no_whole_pdu():
    """27 octets of a PDU of 31, and its check behind them: as long as the PDU says it is."""
    ether = Ether()
    ether.heard(3, b"\6" + MIC, sent=True, decrypted=True)
    value = bytes(range(24))
    whole = (27).to_bytes(2, "little") + b"\4\0\x1b\x16\0" + value
    assert ether.heard(2, whole[:27] + MIC, decrypted=True) is None
    assert ether.heard(1, whole[27:] + MIC, decrypted=True).value == value


@pytest.mark.parametrize("opcode", [b"\4", b"\5"])
def test_what_follows_the_start_of_encryption_is_counted_and_not_guessed(opcode):
    """LL_ENC_RSP or LL_START_ENC_REQ: the sniffer may have missed one of them."""
    ether = Ether()
    ether.heard(3, opcode + bytes(12))
    ether.heard(3, b"\5")
    for _ in range(3):
        assert ether.att(b"\x1b\x16\0secret") is None
    assert ether.counts.encrypted == 3


def test_what_the_sniffer_could_not_decrypt_is_counted():
    ether = Ether()
    assert ether.att(b"\x1b\x16\0cipher", unreadable=True) is None
    assert ether.att(b"\x1b\x16\0plain").value == b"plain"
    assert ether.counts.encrypted == 1


@pytest.mark.parametrize(
    ("link_type", "flags", "decrypted", "unreadable"),
    [
        (256, 0x0001, False, False), (256, 0x0009, True, False), (256, 0x3009, True, False), (256, 0x1009, True, True),
        (272, 0x01, False, False), (272, 0x0D, True, False), (272, 0x05, False, True),
    ],
)  # fmt: skip
def test_what_sniffers_say_of_encryption(link_type, flags, decrypted, unreadable):
    frame = ACCESS.to_bytes(4, "little") + b"\2\1x\0\0\0"
    if link_type == 256:
        packet = struct.pack("<BbbBIH", 5, -60, -90, 0, ACCESS, flags) + frame
    else:
        packet = bytes(8) + bytes([flags]) + bytes(8) + frame
    record = link_types.parser(link_type)(1, START, packet)
    assert (record.decrypted, record.unreadable) == (decrypted, unreadable)


def test_the_coded_phy_has_an_octet_more():
    frame = ACCESS.to_bytes(4, "little") + b"\1" + b"\2\1x\0\0\0"
    record = link_types.parser(256)(1, START, struct.pack("<BbbBIH", 5, -60, -90, 0, ACCESS, 0x8001) + frame)
    assert record.pdu == b"\2\1x"


def test_isochronous_data_are_no_att():
    frame = ACCESS.to_bytes(4, "little") + b"\2\1x\0\0\0"
    packet = struct.pack("<BbbBIH", 5, -60, -90, 0, ACCESS, 0x0001 | 4 << 7) + frame
    assert link_types.parser(256)(1, START, packet) is None


def test_a_frame_with_a_wrong_crc_takes_its_turn():
    """The central's was damaged; 0.4 ms later its patch answers, and nobody says who is who."""
    ether = Ether()
    ether.att(b"\x1b\x16\0one", said=False, after=30)
    ether.heard(1, b"", sent=True, said=False, crc_ok=False, after=30)
    found = ether.att(b"\x1b\x16\0two", said=False, after=0.4)
    assert (found.sent, found.value) == (False, b"two")


def test_the_same_value_again_a_minute_later_is_no_retransmission():
    """It was acknowledged, and the PDU in between was not heard."""
    ether = Ether()
    first = ether.att(b"\x1b\x16\0same")
    ether.heard(1, b"", sent=True, nesn=ether.sn[False] ^ 1)
    assert ether.att(b"\x1b\x16\0same", new=False, after=100) is None
    ether.heard(1, b"", sent=True, nesn=ether.sn[False] ^ 1)
    again = ether.att(b"\x1b\x16\0same", new=False, after=60_000)
    assert (first.value, again.value) == (b"same", b"same")
    assert (ether.counts.repeated, ether.counts.lost) == (1, 1)


def test_what_begins_inside_an_encrypted_connection_makes_no_sense_and_is_counted():
    ether = Ether()
    for _ in range(4):
        ether.heard(2, bytes.fromhex("09a41f9c77e05b21d3"))
    assert ether.counts.strange + ether.counts.encrypted > 0
