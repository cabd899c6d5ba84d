"""Capture readers: our own capture, every kind of damage, any bytes, tshark as the oracle, real captures."""

import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from rig import need

from device_drivers.captures import btsnoop, jsonl, read
from device_drivers.captures.base import CaptureError
from device_drivers.emulated import cgm_capture

SHIPPED = cgm_capture.SHIPPED.read_bytes()
SHARED = Path(__file__).parents[3] / "shared" / "captures"
CAPTURES = [cgm_capture.SHIPPED, SHARED / "tandem_tslimx2_pump.btsnoop.log", SHARED / "antbms_fragments.btsnoop.log"]


def operations(content: bytes):
    """What was read, and the damage that ended it."""
    found = []
    try:
        for operation in read(io.BytesIO(content)):
            found.append(operation)
    except CaptureError as error:
        return found, str(error)
    return found, None


def test_the_shipped_capture_is_what_its_builder_makes():
    assert cgm_capture.build() == SHIPPED


def test_a_linux_monitor_recording_reads_like_an_h4_one():
    """What `btmon -w` writes: the kind of packet is in the flags, and other records are in between."""
    monitor = bytearray(
        b"btsnoop\0\0\0\0\x01\0\0\x07\xd1" + bytes.fromhex("00000004000000040000000800000000") + bytes(12)
    )
    kinds = {(1, True): 2, (4, False): 3, (2, True): 4, (2, False): 5}
    for record in btsnoop.records(io.BytesIO(SHIPPED)):
        packet = btsnoop.record(record.time, record.packet[1:], sent=record.sent)
        monitor += packet[:8] + kinds[record.packet[0], record.sent].to_bytes(4, "big") + packet[12:]
    found, damage = operations(bytes(monitor))
    expected, _ = operations(SHIPPED)
    assert damage is None
    assert [(o.time, o.device, o.channel, o.att, o.value) for o in found] == [
        (o.time, o.device, o.channel, o.att, o.value) for o in expected
    ]


def test_uuids_of_json_lines_are_those_of_a_channel():
    line = (
        b'{"time":"2026-11-24T10:15:30Z","device":"C0:FF:EE:00:00:04","handle":22,"service":"%s","characteristic":"%s",'
        b'"att":"read","value":""}\n'
    )
    own = b"F7BF3564-FB6D-4E53-88A4-5E37E0326063"
    pairs = [(b"181F", b"00002AA7-0000-1000-8000-00805F9B34FB"), (own, own)]
    found, damage = operations(jsonl.HEADER + b"".join(line % pair for pair in pairs))
    assert damage is None
    assert [o.channel for o in found] == [("181f", "2aa7"), (own.decode().lower(), own.decode().lower())]


def test_discovery_names_the_channels():
    found, damage = operations(SHIPPED)
    assert damage is None
    assert {o.device for o in found} == {cgm_capture.ADDRESS}
    assert [o.channel.characteristic for o in found if o.att == "read"] == ["2aa8", "2aaa"]
    notifications = [o for o in found if o.att == "notification"]
    assert len(notifications) == cgm_capture.RECORDS
    assert {o.channel for o in notifications} == {("181f", "2aa7")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (SHIPPED[:-3], "truncated"),
        (SHIPPED[: len(SHIPPED) - 40], "truncated"),
        (SHIPPED[:30], "truncated"),
        (SHIPPED[:12], "ends inside its btsnoop header"),
        (b"btsnoop\0" + b"\0\0\0\x02" + SHIPPED[12:], "version 2"),
        (b"btsnoop\0\0\0\0\x01\0\0\x03\xe9" + SHIPPED[16:], "un-encapsulated HCI"),
        (SHIPPED[:16] + b"\xff\xff\xff\xff\xff\xff\xff\xff" + SHIPPED[24:], "record 1 is damaged"),
        (SHIPPED[:20] + b"\x00\x00\x40\x00" + SHIPPED[24:], "record 1 is damaged"),
        (SHIPPED[:32] + b"\x7f\xff\xff\xff\xff\xff\xff\xff" + SHIPPED[40:], "time"),
        (b"\x89PNG\r\n\x1a\n", "not a capture"),
        (b"", "not a capture"),
        (jsonl.HEADER[:-1], "line 1 is cut off"),
        (b'{"format":"patch-gateway-capture","version":2}\n', "line 1 is damaged"),
        (jsonl.HEADER + b'{"time":"yesterday"}\n', "line 2 is damaged"),
    ],
)
def test_damage_is_named(content, words):
    assert words in (operations(content)[1] or "")


def test_what_stands_before_the_damage_is_read():
    whole, _ = operations(SHIPPED)
    part, damage = operations(SHIPPED[:-3])
    assert part == whole[:-1]
    assert damage is not None


def test_json_lines_hold_the_same():
    whole, _ = operations(SHIPPED)
    again, damage = operations(jsonl.HEADER + b"".join(map(jsonl.line, whole)))
    assert damage is None
    strip = [(o.time, o.device, o.handle, o.channel, o.att, o.value) for o in whole]
    assert [(o.time, o.device, o.handle, o.channel, o.att, o.value) for o in again] == strip


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_after_a_header(content):
    for start in (btsnoop.header(), jsonl.HEADER, b""):
        operations(start + content)


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_packets(packets):
    """Whatever the packets are, an intact file is read to its end."""
    time = operations(SHIPPED)[0][0].time
    content = btsnoop.header() + b"".join(btsnoop.record(time, packet, sent=sent) for packet, sent in packets)
    assert operations(content)[1] is None


@given(st.integers(16, len(SHIPPED) - 1), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_changed_octet(at, octet):
    operations(SHIPPED[:at] + bytes([octet]) + SHIPPED[at + 1 :])


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_tshark_reads_the_same_values(path):
    """Operation, handle and value of every notification and write, record by record."""
    if not path.exists():
        pytest.skip("the shared captures are not beside this checkout (../shared/captures)")
    tshark = need("tshark", "tshark")
    fields = ["frame.number", "btatt.opcode", "btatt.handle", "btatt.value"]
    command = [tshark, "-r", str(path), "-Y", "btatt", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    names = {0x1B: "notification", 0x1D: "indication", 0x12: "write", 0x52: "write_command"}
    oracle = []
    for line in done.stdout.splitlines():
        number, opcode, handle, value = (line.split("\t") + [""] * 4)[:4]
        if opcode and int(opcode, 16) in names:
            oracle.append((int(number), names[int(opcode, 16)], int(handle.split(",")[0], 16), value))
    found = operations(path.read_bytes())[0]
    ours = [(o.frame, o.att, o.handle, o.value.hex()) for o in found if o.att in names.values()]
    # tshark dissects values of characteristics it knows into fields and shows no raw value for them
    shown = {number for number, *_, value in oracle if value}
    assert [entry[:3] for entry in ours] == [entry[:3] for entry in oracle]
    assert [entry for entry in ours if entry[0] in shown] == [entry for entry in oracle if entry[0] in shown]
    assert ours


def test_real_pump():
    path = SHARED / "tandem_tslimx2_pump.btsnoop.log"
    if not path.exists():
        pytest.skip("the shared captures are not beside this checkout (../shared/captures)")
    found, damage = operations(path.read_bytes())
    assert damage is None
    notifications = [o for o in found if o.att == "notification"]
    assert len(notifications) == 306
    assert all(o.channel and o.channel.service == "fdfb" for o in notifications)
    assert sum(o.att == "write_command" for o in found) == 286
