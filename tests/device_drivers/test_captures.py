"""Capture readers: our own capture, every kind of damage, any bytes; tshark and authors as oracles of real ones."""

import csv
import io
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from rig import need

from device_drivers.captures import Capture, btsnoop, jsonl
from device_drivers.captures.att import OPCODES
from device_drivers.captures.base import CaptureError
from device_drivers.emulated import cgm_capture

SHIPPED = cgm_capture.SHIPPED.read_bytes()
SHARED = Path(__file__).parents[3] / "shared" / "captures"
TANDEM, ANT, PAIRING = (
    SHARED / name
    for name in ("tandem_tslimx2_pump.btsnoop.log", "antbms_fragments.btsnoop.log", "legacy_pairing_ll256.pcap")
)


def operations(content: bytes):
    """What was read, and the damage that ended it."""
    found = []
    try:
        for operation in Capture().operations(io.BytesIO(content)):
            found.append(operation)
    except CaptureError as error:
        return found, str(error)
    return found, None


def test_the_shipped_capture_is_what_its_builder_makes():
    assert cgm_capture.build() == SHIPPED


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
        (b"btsnoop\0\0\0\0\x01\0\0\x03\xec" + SHIPPED[16:], "H5 (3-wire)"),
        (SHIPPED[:16] + b"\xff\xff\xff\xff\xff\xff\xff\xff" + SHIPPED[24:], "record 1 is damaged"),
        (SHIPPED[:20] + b"\x00\x00\x40\x00" + SHIPPED[24:], "record 1 is damaged"),
        (SHIPPED[:32] + b"\x7f\xff\xff\xff\xff\xff\xff\xff" + SHIPPED[40:], "time"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
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
    assert again == whole


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


def shared(path):
    """Its octets, where the shared captures stand beside this checkout."""
    if not path.exists():
        pytest.skip("the shared captures are not beside this checkout (../shared/captures)")
    return path.read_bytes()


@pytest.mark.parametrize("path", [cgm_capture.SHIPPED, TANDEM, ANT, PAIRING], ids=lambda path: path.name)
def test_tshark_reads_the_same(path):
    """Every ATT operation: opcode, handle and value, record by record."""
    content = shared(path)
    fields = ["frame.number", "btle.data_header.sequence_number", "btatt.opcode", "btatt.handle", "btatt.value"]
    command = [need("tshark", "tshark"), "-r", str(path), "-Y", "btatt", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    oracle = {int(number): rest for number, _, *rest in (line.split("\t") for line in done.stdout.splitlines())}
    ours = {operation.frame: operation for operation in operations(content)[0]}
    assert ours
    assert ours.keys() <= oracle.keys()
    # Frame 133 of the capture of the air repeats the sequence number of the central's frame 131: a retransmission.
    assert oracle.keys() - ours.keys() == ({133} if path == PAIRING else set())
    for number, operation in ours.items():
        opcode, handle, value = oracle[number]
        assert int(opcode.split(",")[0], 16) == OPCODES[operation.att]
        assert (int(handle.split(",")[0], 16) if handle else None) == operation.handle, number
        # tshark dissects values of characteristics it knows into fields and shows no raw value for them
        assert not value or value.split(",")[0] == operation.value.hex()


def test_a_pump_and_its_authors_list_of_values():
    found, damage = operations(shared(TANDEM))
    assert damage is None
    assert Counter(o.att for o in found)["notification"] == 306
    assert all(o.channel and o.channel.service == "fdfb" for o in found if o.att == "notification")
    values = [(o.frame, OPCODES[o.att], o.value.hex()) for o in found if o.att in {"notification", "write_command"}]
    with TANDEM.with_name("tandem_tslimx2_pump.csv").open() as lines:
        listed = [(int(frame), int(opcode, 16), value) for frame, opcode, value in csv.reader(lines)]
    assert len(listed) == 592
    assert values == listed


def test_a_pump_and_its_authors_list_of_messages():
    """Each message stands in the stream of its direction."""
    found, _ = operations(shared(TANDEM))
    streams = [b"".join(o.value for o in found if o.att == att) for att in ("notification", "write_command")]
    lines = TANDEM.with_name("tandem_tslimx2_pump.tsv").read_text().splitlines()
    messages = [bytes.fromhex(line.split("\t")[0]) for line in lines if line]
    assert len(messages) == 533
    assert [message.hex() for message in messages if not any(message in stream for stream in streams)] == []


def test_a_battery_monitor_and_its_authors_frames():
    """Each stands in the stream of writes and notifications, one after the other."""
    found, damage = operations(shared(ANT))
    assert damage is None
    assert Counter(o.att for o in found)["notification"] == 1_352
    stream = b"".join(o.value for o in found if o.att in {"notification", "write_command", "write"})
    frames = [bytes.fromhex(line) for line in ANT.with_name("antbms_fragments.pdus.txt").read_text().split()]
    assert len(frames) == 136
    at = 0
    for frame in frames:
        at = stream.find(frame, at)
        assert at >= 0, frame.hex()
        at += len(frame)


def test_what_is_encrypted_on_the_air_is_counted():
    capture = Capture()
    assert list(capture.operations(io.BytesIO(shared(PAIRING))))
    expected = {"encrypted, no key": 81, "retransmitted": 48, "lost by the sniffer": 11}
    assert capture.counts.left_out() == expected


@pytest.mark.parametrize("name", ["crackle_ppi_pairing.pcap", "crackle_ppi_pairing.decrypted.pcap"])
def test_ppi_gets_its_sentence(name):
    assert "link type 192 (PPI" in operations(shared(SHARED / name))[1]
