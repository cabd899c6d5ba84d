"""A scrubbed capture holds nothing of the original's names, and decodes to the same values."""

import io
import json
import subprocess
from datetime import UTC, datetime

import capture_formats as formats
import pytest
from rig import PROGRAM

from device_drivers.base import Channel
from device_drivers.captures import Capture, btsnoop
from device_drivers.captures.base import AttOperation
from device_drivers.captures.scrub import Scrubber
from device_drivers.emulated import cgm_capture

SECRETS = {
    0x0030: ("2a00", b"Anna's sensor"),
    0x0032: ("2a25", b"SN-20461977"),
    0x0034: ("2a23", b"\xf7\x12\x34\xfe\xff\x9a\xbc\xde"),
}
KEY = bytes.fromhex("8f3a11c95527dd0e6b7499a2c4e8f001")
OTHER = "D2:5A:17:C3:99:41"


def private():
    """The shipped session in a noisy place: names are read, a key is on the wire, another device advertises."""
    records = list(btsnoop.records(io.BytesIO(cgm_capture.SHIPPED.read_bytes())))
    time = records[0].time

    def acl(pdu, *, sent):
        l2cap = len(pdu).to_bytes(2, "little") + b"\x04\0" + pdu
        head = (0x40 | (0 if sent else 0x2000)).to_bytes(2, "little") + len(l2cap).to_bytes(2, "little")
        return records[0]._replace(time=time, packet=b"\x02" + head + l2cap, sent=sent)

    found = b"".join(
        (h - 1).to_bytes(2, "little") + b"\x02" + h.to_bytes(2, "little") + bytes.fromhex(uuid)[::-1]
        for h, (uuid, _) in SECRETS.items()
    )
    extra = [acl(b"\x08\x20\0\xff\xff\x03\x28", sent=True), acl(b"\x09\x07" + found, sent=False)]
    for handle, (_, value) in SECRETS.items():
        extra += [acl(b"\x0a" + handle.to_bytes(2, "little"), sent=True), acl(b"\x0b" + value, sent=False)]
    mine = bytes.fromhex(cgm_capture.ADDRESS.replace(":", ""))
    extra.append(acl(b"\x1b\x40\0" + b"id " + mine + b" of Anna's sensor", sent=False))
    advert = b"\x04\x3e\x1a\x02\x01\0\0" + bytes.fromhex(OTHER.replace(":", ""))[::-1] + b"\x0e\x0d\x09Bob's watch\xc0"
    keys = [records[0]._replace(packet=b"\x01\x19\x20\x1c" + b"\x40\0" + bytes(10) + KEY, sent=True)]
    others = [records[0]._replace(packet=advert, sent=False)]
    return formats.btsnoop([records[0], *others, *keys, *records[1:10], *extra, *records[10:]], 1002)


def texts(content):
    """Everything by which the original could be known, as octets and as hex."""
    pieces = [value for _, value in SECRETS.values()] + [KEY, b"Bob's watch"]
    for address in (cgm_capture.ADDRESS, OTHER):
        octets = bytes.fromhex(address.replace(":", ""))
        pieces += [address.encode(), octets, octets[::-1]]
    return [piece for piece in pieces if piece in content or piece.hex().encode() in content.lower()]


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], check=True, capture_output=True, text=True, cwd="/").stdout


def values(path):
    """Readings without who they are of."""
    events = [json.loads(line) for line in run("replay", "--json", path).splitlines()]
    return [{k: v for k, v in event["data"].items() if k != "device_id"} for event in events]


def test_nothing_of_the_original_remains_and_the_values_are_the_same(tmp_path):
    original, shared = tmp_path / "original.btsnoop", tmp_path / "shared.jsonl"
    original.write_bytes(private())
    assert len(texts(original.read_bytes())) >= 8
    run("capture", "scrub", original, shared)
    assert texts(shared.read_bytes()) == []
    assert values(shared) == values(original) != []


def test_the_same_seed_gives_the_same_and_another_does_not(tmp_path):
    original = tmp_path / "original.btsnoop"
    original.write_bytes(private())
    made = []
    for number, seed in enumerate((1, 1, 2)):
        run("capture", "scrub", original, tmp_path / f"{number}.jsonl", "--seed", seed)
        made.append((tmp_path / f"{number}.jsonl").read_bytes())
    assert made[0] == made[1] != made[2]


def test_the_same_piece_is_the_same_everywhere():
    content = private()
    scrubbed = scrub(list(Capture().operations(io.BytesIO(content))))
    assert len({operation.device for operation in scrubbed}) == 1
    name = next(o.value for o in scrubbed if o.att == "read" and o.channel and o.channel.characteristic == "2a00")
    assert len(name) == len(b"Anna's sensor")
    (told,) = [o.value for o in scrubbed if o.handle == 0x40]
    assert told.endswith(b" of " + name)
    assert told.startswith(b"id " + bytes.fromhex(scrubbed[0].device.replace(":", "")))


def scrub(operations, seed=3):
    scrubber = Scrubber(seed)
    for operation in operations:
        scrubber.learn(operation)
    return [scrubber.scrub(operation) for operation in operations]


def operation(att, value, channel=None, *, device="c0:ff:ee:00:00:04", values=None, handle=0x30):
    time = datetime(2026, 11, 24, tzinfo=UTC)
    return AttOperation(1, time, device, handle, channel, att, value, values=values)


ABOUT = Channel("180a", "2a24")
NAME = operation("read", b"Guardian 4", Channel("1800", "2a00"))


def test_addresses_go_in_whatever_form_they_are_written():
    forms = [b"c0:ff:ee:00:00:04", b"C0:FF:EE:00:00:04", b"C0FFEE000004", b"c0-ff-ee-00-00-04", b"04:00:00:ee:ff:c0"]
    octets = bytes.fromhex("c0ffee000004")
    for form in [*forms, octets, octets[::-1]]:
        (made,) = scrub([operation("notification", b"<" + form + b">", Channel("1", "2"))])
        assert form not in made.value
        assert (made.value[:1], made.value[-1:], len(made.value)) == (b"<", b">", len(form) + 2)


def test_own_recordings_name_device_ids():
    (made,) = scrub([operation("notification", b"NFLX_0A1B2C3D", Channel("1", "2"), device="NFLX_0A1B2C3D")])
    assert made.device.startswith("NFLX_")
    assert made.device != "NFLX_0A1B2C3D"
    assert made.value == made.device.encode()


def test_what_a_profile_decodes_stays():
    """Also where a serial number stands in it by chance, and the model, by which the decoder knows its quirks."""
    reading = operation("notification", bytes.fromhex("0c0350000000010000e03c"), Channel("181f", "2aa7"))
    serial = operation("read", b"\0\0\1\0\2\3", Channel("180a", "2a25"))
    scrubbed = scrub([serial, reading, NAME, operation("read", b"Guardian 4", ABOUT)])
    assert scrubbed[1].value == reading.value
    assert scrubbed[2].value != NAME.value
    assert scrubbed[3].value == b"Guardian 4"


def test_the_flags_of_a_udi_stay():
    udi = b"\x0f(01)00614141999996\0(01)\0GS1\0FDA\0"
    for seed in range(20):
        (made,) = scrub([operation("read", udi, Channel("180a", "2bff"))], seed)
        assert (made.value[0], made.value.count(b"\0"), len(made.value)) == (0x0F, 4, len(udi))
        assert b"00614141999996" not in made.value


@pytest.mark.parametrize("att", ["read_multiple", "read_multiple_variable", "read", "read_blob"])
def test_what_nobody_knows_may_be_a_name(att):
    scrubber = Scrubber(1)
    secret = operation(att, b"Anna Muster")
    scrubber.learn(secret)
    assert scrubber.scrub(secret).value == bytes(11)
    assert scrubber.blanked == 1


@pytest.mark.parametrize("cut", [3, 40])
def test_a_damaged_capture_leaves_no_half_file(tmp_path, cut):
    original = tmp_path / "original.btsnoop"
    original.write_bytes(private()[:-cut])
    command = [PROGRAM, "capture", "scrub", original, tmp_path / "x.jsonl"]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["original.btsnoop"]
