"""One capture in every format gives the same operations; on the air with repeats, bad CRCs and fragments too."""

import io
import subprocess
import zipfile
from datetime import UTC, datetime

import capture_formats as formats
import pytest
from hypothesis import given, settings, strategies as st
from rig import need

from device_drivers.base import Channel
from device_drivers.captures import Capture, btsnoop, jsonl
from device_drivers.captures.att import OPCODES
from device_drivers.captures.base import CaptureError
from device_drivers.captures.writers import to_btsnoop, to_pcapng
from device_drivers.emulated import cgm_capture

SHIPPED = cgm_capture.SHIPPED.read_bytes()
RECORDS = list(btsnoop.records(io.BytesIO(SHIPPED)))
TIMED = [(record.time, record) for record in RECORDS]


def read(content, **options):
    """Operations, counts, and the damage that ended it."""
    capture, found, damage = Capture(**options), [], None
    try:
        found.extend(capture.operations(io.BytesIO(content)))
    except CaptureError as error:
        damage = str(error)
    return found, capture.counts, damage


EXPECTED, _, _ = read(SHIPPED)


def framed(link_type):
    return [(time, formats.framed(record, link_type)) for time, record in TIMED]


def zipped(name="FS/data/misc/bluetooth/logs/btsnoop_hci.log"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("main_entry.txt", "bugreport.txt")
        archive.writestr(name, SHIPPED)
    return out.getvalue()


HCI = {
    "btsnoop 1001": formats.btsnoop(RECORDS, 1001),
    "btsnoop 1002": formats.btsnoop(RECORDS, 1002),
    "btsnoop 2001": formats.btsnoop(RECORDS, 2001),
    "pcap 187": formats.pcap(framed(187), 187),
    "pcap 201": formats.pcap(framed(201), 201),
    "pcap 254": formats.pcap(framed(254), 254),
    "pcap 201 big": formats.pcap(framed(201), 201, order=">"),
    "pcap 201 ns": formats.pcap(framed(201), 201, nanoseconds=True),
    "pcap 201 ns big": formats.pcap(framed(201), 201, order=">", nanoseconds=True),
    "pcap 201 24": formats.pcap(framed(201), 201, header=24),
    "pcap 201 24 plain magic": formats.pcap(framed(201), 201, header=24, magic=0xA1B2C3D4),
    "pcap 201 24 plain magic big": formats.pcap(framed(201), 201, order=">", header=24, magic=0xA1B2C3D4),
    "pcapng 201": formats.pcapng(framed(201), 201),
    "pcapng 187 big": formats.pcapng(framed(187), 187, order=">"),
    "pcapng 254 ns": formats.pcapng(framed(254), 254, resolution=9),
    "PacketLogger big": formats.packetlogger(RECORDS, ">"),
    "PacketLogger little": formats.packetlogger(RECORDS, "<"),
    "bug report": zipped(),
    "JSON Lines": jsonl.HEADER + b"".join(map(jsonl.line, EXPECTED)),
}


@pytest.mark.parametrize("name", HCI)
def test_every_hci_format_gives_the_same(name):
    found, _, damage = read(HCI[name])
    assert damage is None
    assert found == EXPECTED


@pytest.mark.parametrize("name", [name for name in HCI if name != "JSON Lines"])
@pytest.mark.parametrize("write", [to_btsnoop, to_pcapng])
def test_written_anew_every_hci_format_still_gives_the_same(name, write):
    """Also where the file did not say who sent a packet."""
    written = b"".join(write(Capture().records(io.BytesIO(HCI[name]))))
    assert read(written)[0] == EXPECTED


def test_fragments_without_a_direction():
    """Both sides' PDUs in pieces, one inside the other's."""
    whole = [record for record in RECORDS if record.packet[0] == 2 and len(record.packet) > 20]
    pieces = []
    for record in whole:
        handle = int.from_bytes(record.packet[1:3], "little") & 0x0FFF
        data, first = record.packet[5:], 0x0000 if record.sent else 0x2000
        for at in range(0, len(data), 7):
            word = handle | (0x1000 if at else first)
            part = data[at : at + 7]
            packet = b"\x02" + word.to_bytes(2, "little") + len(part).to_bytes(2, "little") + part
            pieces.append((record.time, packet))
    assert len(pieces) > len(whole)
    found = [(o.att, o.value, o.sent) for o in read(formats.pcap(pieces, 187))[0]]
    expected = [(o.att, o.value, o.sent) for o in read(formats.btsnoop(whole, 1002))[0]]
    assert found == expected


def test_pcapng_says_that_it_cannot_hold_a_date_before_1970():
    early = RECORDS[0]._replace(time=datetime(1969, 12, 31, tzinfo=UTC))
    with pytest.raises(CaptureError, match="1969"):
        list(to_pcapng(iter([early])))


def test_a_pcap_of_one_record_with_either_header():
    one = [(RECORDS[0].time, formats.framed(RECORDS[0], 201))]
    for header in (16, 24):
        content = formats.pcap(one, 201, header=header, magic=0xA1B2C3D4)
        assert read(content)[2] is None


# tshark 4.0.17 does not read record headers of 24 octets with a magic of our choice.
FOR_TSHARK = [n for n in HCI if n.startswith(("btsnoop", "pcap", "PacketLogger")) and "24" not in n]


@pytest.mark.parametrize("name", FOR_TSHARK)
def test_tshark_reads_what_our_writers_wrote(name, tmp_path):
    """Else a format would only be what both our sides think it is."""
    path = tmp_path / "capture"
    path.write_bytes(HCI[name])
    command = [need("tshark", "tshark"), "-r", str(path), "-Y", "btatt", "-T", "fields", "-e", "btatt.opcode"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(shown) == len(EXPECTED)


# the air

OWN = [Channel("181f", "2aa7"), Channel("181f", "2aa8"), Channel("181f", "2aaa")]


def on_air(*, encrypted=False, seed=1, size=None):
    """Two patches, one after the other, each with the whole conversation of the shipped capture."""
    air = formats.Air(datetime(2026, 11, 24, tzinfo=UTC), seed, size)
    for address, access in (("C0:FF:EE:00:00:04", 0x50123456), ("C0:FF:EE:00:00:05", 0x7A9B1C2D)):
        air.connect(address, access)
        for record in RECORDS:
            if record.packet[0] == 2:
                air.att(record.packet[9:], sent=record.sent)
        if encrypted:
            air.encrypt()
            air.att(b"\x1b\x16\0secret", sent=False)
    return air


@pytest.mark.parametrize("link_type", [251, 256, 272])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_air_gives_what_the_host_saw(link_type, seed):
    air = on_air(seed=seed)
    if link_type == 251:  # nothing there says that a CRC is wrong
        air.frames = [frame for frame in air.frames if frame[2]]
    found, counts, damage = read(formats.pcap(air.packets(link_type), link_type))
    assert damage is None
    for address in ("C0:FF:EE:00:00:04", "C0:FF:EE:00:00:05"):
        mine = [(o.att, o.handle, o.channel, o.value, o.sent) for o in found if o.device == address]
        assert mine == [(o.att, o.handle, o.channel, o.value, o.sent) for o in EXPECTED]
    assert counts.repeated > 5
    assert (counts.bad_crc > 5) is (link_type != 251)


@pytest.mark.parametrize("link_type", [256, 272])
@pytest.mark.parametrize("whole", [True, False])
def test_tshark_agrees_on_the_air(link_type, whole, tmp_path):
    """Without its frames with a wrong CRC and those that repeat the sequence number of their side. It puts such frames
    into PDUs that come in fragments, so fragments are compared where every frame is good.
    """
    air = on_air(size=251 if whole else 10)
    if not whole:
        air.frames = [frame for index, frame in enumerate(air.frames) if good(air.frames, index)]
    content = formats.pcap(air.packets(link_type), link_type)
    path = tmp_path / "air.pcap"
    path.write_bytes(content)
    fields = ["frame.number", "btle.access_address", "btle.data_header.sequence_number", "btatt.opcode", "btatt.handle",
              "btatt.value"]  # fmt: skip
    command = [need("tshark", "tshark"), "-r", str(path), "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    oracle = {int(number): rest for number, *rest in (line.split("\t") for line in lines)}
    ours = {operation.frame: operation for operation in read(content)[0]}
    assert ours.keys() <= {number for number, line in oracle.items() if line[2]}
    for number, operation in ours.items():
        _, _, opcode, handle, value = oracle[number]
        assert int(opcode.split(",")[0], 16) == OPCODES[operation.att]
        assert not handle or int(handle.split(",")[0], 16) == operation.handle
        assert not value or value == operation.value.hex()
    left_out = [number for number, line in oracle.items() if line[2] and number not in ours]
    assert bool(left_out) is whole
    assert not any(good(air.frames, number - 1) for number in left_out)


def good(frames, index):
    """Its CRC is right, and its sequence number is not that of the good frame before it from the same side."""
    _, sent, crc_ok, access, pdu, _ = frames[index]
    before = (frame for frame in reversed(frames[:index]) if frame[1] == sent and frame[3] == access and frame[2])
    last = next(before, None)
    return crc_ok and (sent is None or last is None or (last[4][0] ^ pdu[0]) & 0x08 != 0)


def test_a_pdu_that_the_sniffer_missed_is_counted_and_the_next_is_no_retransmission():
    """Its sequence number is that of the last one heard, its content is not."""
    air = formats.Air(datetime(2026, 11, 24, tzinfo=UTC), seed=1, size=251, trouble=0)
    air.connect("C0:FF:EE:00:00:04", 0x50123456)
    for number in range(6):
        air.att(b"\x1b\x16\0" + bytes([number]), sent=False)
    heard = [frame for frame in air.frames if b"\x1b\x16\0\x02" not in frame[4]]
    air.frames = heard
    found, counts, _ = read(formats.pcap(air.packets(256), 256))
    assert [operation.value[-1] for operation in found] == [0, 1, 3, 4, 5]
    assert (counts.lost, counts.repeated) == (1, 0)


def test_encrypted_data_is_counted_and_not_guessed():
    found, counts, _ = read(formats.pcap(on_air(encrypted=True).packets(256), 256))
    assert counts.encrypted >= 2
    assert not any(b"secret" in operation.value for operation in found)


@pytest.mark.parametrize("link_type", [256, 272])
@pytest.mark.parametrize("mic", [b"", b"\xaa\xbb\xcc\xdd"])
@pytest.mark.parametrize("begins_in_the_middle", [False, True])
def test_decrypted_data_is_read_with_and_without_its_integrity_check(link_type, mic, begins_in_the_middle):
    """No flag says whether a sniffer left it there."""
    air = formats.Air(datetime(2026, 11, 24, tzinfo=UTC), seed=2, size=27)
    air.connect("C0:FF:EE:00:00:04", 0x50123456)
    air.encrypt()
    air.mic = mic
    air.start_encryption()
    air.att(b"\x1b\x16\0whole", sent=False)
    for number in range(8):
        air.att(b"\x1b\x16\0in several fragments " + bytes([number]), sent=False)
    if begins_in_the_middle:
        air.frames = [frame for frame in air.frames if frame[3] != formats.ADVERTISING and frame[4][2:3] > b"\x06"]
    found, counts, _ = read(formats.pcap(air.packets(link_type), link_type))
    assert counts.encrypted == 0
    assert [operation.value for operation in found] == [
        b"whole", *(b"in several fragments " + bytes([number]) for number in range(8))
    ]  # fmt: skip


# the middle of a connection, tables, clocks


def test_a_capture_that_begins_in_the_middle_reads_with_a_table():
    content = formats.btsnoop(RECORDS[10:], 1002)
    bare, _, _ = read(content)
    assert {operation.channel for operation in bare} == {None}
    named, _, _ = read(content, table={0x16: Channel("181f", "2aa7")})
    values = [frame.payload for operation in named for frame in operation.to_frames()]
    assert len(values) == cgm_capture.RECORDS


def test_a_clock_of_1970():
    early = [record._replace(time=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) for record in RECORDS]
    found, _, damage = read(formats.pcap([(r.time, formats.framed(r, 201)) for r in early], 201))
    assert (damage, len(found)) == (None, len(EXPECTED))
    assert found[0].time.year == 1970


# what is not read


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (formats.pcap([], 192), "PPI"),
        (formats.pcap([], 1), "Ethernet"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(20), "AppleDouble"),
        (b"\x1f\x8b\x08" + bytes(20), "gunzip"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "JPEG"),
        (b"\x00\x01\x00\x00\x00" + bytes(8) + b"\x1a\x00\x00\x55", ".psd"),
        (zipped("notes.txt"), "holds no Bluetooth snoop log"),
        (zipped()[:200], "zip cannot be read"),
        (HCI["pcap 201"][:-3], "truncated"),
        (HCI["pcap 201"][:-70], "truncated"),
        (HCI["pcapng 201"][:-3], "truncated"),
        (HCI["PacketLogger big"][:-3], "truncated"),
        (HCI["pcap 201"][:20], "ends inside its pcap header"),
        (HCI["pcap 201"][:32] + b"\xff\xff\xff\x7f" + HCI["pcap 201"][36:], "record 1 is damaged"),
    ],
)
def test_one_sentence_for_what_is_not_read(content, words):
    damage = read(content)[2]
    assert words in (damage or "")
    assert "\n" not in damage


def test_what_stands_before_the_damage_is_read():
    for name in ("pcap 201", "pcapng 201", "PacketLogger little", "btsnoop 1001"):
        found, _, damage = read(HCI[name][:-3])
        assert found == EXPECTED[:-1], name
        assert damage


@given(st.sampled_from(sorted(HCI)), st.data())
@settings(max_examples=400, deadline=None)
def test_any_changed_octets(name, data):
    content = bytearray(HCI[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(content))


@given(st.sampled_from([251, 256, 272, 187, 201, 254]), st.lists(st.binary(max_size=80), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_packets_of_any_link_type(link_type, packets):
    time = RECORDS[0].time
    assert read(formats.pcap([(time, packet) for packet in packets], link_type))[2] is None
