"""What a host saw: adapters, discoveries, long reads, links to one device, packets that are cut."""

from datetime import UTC, datetime, timedelta

import pytest

from device_drivers.base import Channel
from device_drivers.captures import link_types
from device_drivers.captures.base import CaptureError, Counts, HciRecord
from device_drivers.captures.devices import MAX_DEVICES, Devices
from device_drivers.captures.hci import HciReader
from device_drivers.captures.writers import to_btsnoop, to_pcapng

NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B = "C0:FF:EE:00:00:0A", "C0:FF:EE:00:00:0B"


class Host:
    """Records of one capture, read as they come."""

    def __init__(self, devices=None):
        self.counts, self.number = Counts(), 0
        self.reader = HciReader(devices or Devices(None), self.counts)

    def packet(self, packet, *, sent=False, adapter=0):
        self.number += 1
        time = NOW + timedelta(milliseconds=self.number)
        return self.reader.receive(HciRecord(self.number, time, packet, sent, adapter))

    def connect(self, address, handle=0x40, adapter=0):
        octets = bytes.fromhex(address.replace(":", ""))[::-1]
        head = b"\x04\x3e\x13\x01\x00" + handle.to_bytes(2, "little") + b"\0\1"
        self.packet(head + octets + bytes(8), adapter=adapter)

    def disconnect(self, handle=0x40, adapter=0):
        self.packet(b"\x04\x05\x04\x00" + handle.to_bytes(2, "little") + b"\x13", adapter=adapter)

    def att(self, pdu, *, sent=False, handle=0x40, adapter=0):
        l2cap = len(pdu).to_bytes(2, "little") + b"\x04\0" + pdu
        head = (handle | (0 if sent else 0x2000)).to_bytes(2, "little") + len(l2cap).to_bytes(2, "little")
        return self.packet(b"\x02" + head + l2cap, sent=sent, adapter=adapter)

    def discover(self, services, characteristics, **where):
        """(first, last, UUID) and (value handle, UUID) of SIG ones."""
        self.att(b"\x10\1\0\xff\xff\0\x28", sent=True, **where)
        items = [le(first) + le(last) + le(uuid) for first, last, uuid in services]
        self.att(b"\x11\x06" + b"".join(items), **where)
        self.att(b"\x08\1\0\xff\xff\3\x28", sent=True, **where)
        items = [le(handle - 1) + b"\x12" + le(handle) + le(uuid) for handle, uuid in characteristics]
        self.att(b"\x09\x07" + b"".join(items), **where)

    def read(self, handle, *parts, mtu=None):
        """Read and Read Blob, until the parts are out; what each answer came to."""
        found, offset = [], 0
        for number, part in enumerate(parts):
            request = b"\x0a" + le(handle) if number == 0 else b"\x0c" + le(handle) + le(offset)
            self.att(request, sent=True)
            found.append(self.att((b"\x0b" if number == 0 else b"\x0d") + part))
            offset += len(part)
        return [[frame.payload for frame in operation.to_frames()] for operation in found]


def le(number):
    return number.to_bytes(2, "little")


def test_every_adapter_has_handles_of_its_own():
    host = Host()
    host.connect(A)
    host.connect(B, adapter=1)
    first, second = host.att(b"\x1b\x11\0AAAA"), host.att(b"\x1b\x11\0BBBB", adapter=1)
    assert [(o.device, o.value) for o in (first, second)] == [(A, b"AAAA"), (B, b"BBBB")]
    host.disconnect(adapter=1)
    assert host.att(b"\x1b\x11\0AAAA").device == A
    host.packet(b"\x01\x03\x0c\0", sent=True)
    assert host.att(b"\x1b\x11\0AAAA").device == "connection-0x0040", "after a reset nobody knows"


def test_both_monitor_forms_say_which_adapter():
    record = link_types.parser(254)(1, NOW, b"\0\3\0\5" + b"data")
    assert (record.adapter, record.packet) == (3, b"\x02data")


@pytest.mark.parametrize("write", [to_btsnoop, to_pcapng])
def test_several_adapters_become_no_other_format(write):
    records = [HciRecord(1, NOW, b"\x04\0\0", False, adapter) for adapter in (0, 1)]
    with pytest.raises(CaptureError, match="several adapters"):
        list(write(iter(records)))


def test_a_later_discovery_replaces_what_it_overlaps():
    """The device got other firmware, in the middle of the capture."""
    host = Host()
    host.connect(A)
    host.discover([(0x10, 0x17, 0x181F), (0x18, 0x20, 0x180F)], [(0x12, 0x2AA7), (0x1A, 0x2A19)])
    assert host.att(b"\x1b\x1a\0\x55").channel == Channel("180f", "2a19")
    host.disconnect()
    host.connect(A)
    assert host.att(b"\x1b\x12\0\x55").channel == Channel("181f", "2aa7"), "what was discovered outlives a connection"
    host.discover([(0x10, 0x40, 0x181F)], [(0x20, 0x2AA7)])
    assert host.att(b"\x1b\x20\0\x55").channel == Channel("181f", "2aa7")
    assert host.att(b"\x1b\x12\0\x55").channel is None
    assert host.att(b"\x1b\x1a\0\x55").channel is None


def test_a_long_value_is_handed_on_once_and_whole():
    host = Host()
    host.connect(A)
    host.discover([(1, 0xFFFF, 0x180A)], [(0x16, 0x2A26), (0x20, 0x2A27)])
    a, b = b"A" * 22, b"B" * 22
    assert host.read(0x16, a, b, b"C") == [[], [], [a + b + b"C"]]
    assert host.read(0x16, b"short") == [[b"short"]]
    assert host.read(0x16, a, b"") == [[], [a]]
    host.att(b"\x0a\x16\0", sent=True)
    assert host.att(b"\x0b" + a).to_frames() == []
    host.att(b"\x0c\x16\0\x16\0", sent=True)
    (frame,) = host.att(b"\x01\x0c\x16\0\x0b").to_frames()  # Attribute Not Long
    assert (frame.payload, frame.channel.characteristic) == (a, "2a26")


def test_parts_of_two_values_are_not_put_together():
    host = Host()
    host.connect(A)
    host.discover([(1, 0xFFFF, 0x180A)], [(0x16, 0x2A26), (0x20, 0x2A27)])
    host.read(0x16, b"A" * 22)
    host.att(b"\x0c\x20\0\x16\0", sent=True)
    assert host.att(b"\x0dBBB").to_frames() == []
    host.att(b"\x0c\x20\0\0\0", sent=True)
    assert [frame.payload for frame in host.att(b"\x0dfrom the start").to_frames()] == [b"from the start"]


def test_a_larger_mtu_makes_longer_parts():
    host = Host()
    host.connect(A)
    host.discover([(1, 0xFFFF, 0x180A)], [(0x16, 0x2A26)])
    host.att(b"\x02\xf7\0", sent=True)
    host.att(b"\x03\x40\0")
    assert host.read(0x16, b"A" * 22) == [[b"A" * 22]]
    assert host.read(0x16, b"A" * 63, b"B") == [[], [b"A" * 63 + b"B"]]


def test_two_links_to_one_device_have_requests_of_their_own():
    host = Host()
    for handle in (0x40, 0x41):
        host.connect(A, handle)
    host.discover([(1, 0xFFFF, 0x180A)], [(0x16, 0x2A26), (0x20, 0x2A27)])
    host.att(b"\x0a\x16\0", sent=True)
    host.att(b"\x0a\x20\0", sent=True, handle=0x41)
    assert host.att(b"\x0bone").channel.characteristic == "2a26"
    assert host.att(b"\x0btwo", handle=0x41).channel.characteristic == "2a27"


def test_the_devices_that_were_seen_last_are_known():
    host = Host()
    host.connect(A)
    host.discover([(1, 0xFFFF, 0x180F)], [(0x1A, 0x2A19)])
    for number in range(MAX_DEVICES - 1):
        host.connect(f"C0:00:00:00:{number >> 8:02X}:{number & 255:02X}")
    host.connect(A)
    assert host.att(b"\x1b\x1a\0\x55").channel == Channel("180f", "2a19")


def test_what_is_not_read_is_counted():
    host = Host()
    host.connect(A)
    host.packet(b"\x02\x40\x20\x0b\0" + b"\x07\0\x04\0\x1b")
    host.packet(b"\x02\x40\x20\x06\0" + b"\x02\0\x40\0xx")
    assert (host.counts.cut, host.counts.other, host.counts.strange) == (1, 1, 0)


def test_a_value_that_is_cut_off_among_several_is_left_out():
    host = Host()
    host.connect(A)
    host.discover([(1, 0xFFFF, 0x180F)], [(0x1A, 0x2A19)])
    frames = host.att(b"\x23\x1a\0\1\0\x55\x1a\0\x0a\0cut").to_frames()
    assert [frame.payload for frame in frames] == [b"\x55"]


def test_hostile_pdus_are_held_in_small_pieces():
    """4,096 handles, two directions, and PDUs of 64 KiB that never end."""
    host = Host()
    for handle in range(4_096):
        for sent in (False, True):
            head = (handle | (0 if sent else 0x2000)).to_bytes(2, "little")
            host.packet(b"\x02" + head + b"\xff\x03" + b"\xff\xff\4\0" + bytes(1_019), sent=sent)
    assert len(host.reader._connections) <= 256
    held = sum(len(side._pending or b"") for c in host.reader._connections.values() for side in c.l2cap.values())
    assert held < 1 << 20
