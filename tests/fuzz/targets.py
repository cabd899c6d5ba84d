"""What hostile octets meet first, one function each. It ends, and raises nothing, whatever they are."""

import contextlib
import io
import json
from datetime import UTC, date, datetime, timedelta

from agent import expected
from agent.replay import Replay, read_table
from device_drivers.base import DecodeError, DeviceContext, Frame
from device_drivers.byte_reader import crc16
from device_drivers.captures import Capture, jsonl
from device_drivers.captures.air import AirReader
from device_drivers.captures.base import AirRecord, CaptureError, Counts, HciRecord
from device_drivers.captures.devices import Devices
from device_drivers.captures.hci import HciReader
from device_drivers.captures.scrub import Scrubber
from device_drivers.captures.writers import to_btsnoop, to_pcapng
from device_drivers.profiles.mqtt_topics import parse_topic
from device_drivers.registry import all_profiles
from schemas import pairing_label
from schemas.key_list import KeyListError, read_key_list

NOW = datetime(2026, 11, 24, tzinfo=UTC)
STEP = timedelta(microseconds=625)
CHANNELS = sorted((channel, name) for name, profile in all_profiles().items() for channel in profile.CHANNELS)


def pieces(data, head=2):
    """Small records of hostile octets: a length, `head` octets for what is beside it, and the rest."""
    while len(data) > head:
        size = data[0]
        yield data[1:head], data[head : head + size]
        data = data[head + size :]


def capture(data):
    """A whole file, through everything that is done with one."""
    replay = Replay({})
    for found in replay.events(replay.operations(io.BytesIO(data))):
        expected.line_of(found)
    replay.gaps()
    lines = [jsonl.HEADER]
    try:
        scrubber = Scrubber(1)
        for operation in Capture().operations(io.BytesIO(data)):
            scrubber.learn(operation)
        lines += [jsonl.line(scrubber.scrub(operation)) for operation in Capture().operations(io.BytesIO(data))]
    except CaptureError:
        pass
    # What we write we read
    assert len(list(Capture().operations(io.BytesIO(b"".join(lines))))) == len(lines) - 1
    for write in (to_btsnoop, to_pcapng):
        with contextlib.suppress(CaptureError):
            b"".join(write(Capture().records(io.BytesIO(data))))


def host(data):
    """HCI packets, without a file around them."""
    reader = HciReader(Devices(None), Counts())
    for number, (flags, packet) in enumerate(pieces(data), start=1):
        sent = (True, False, None, None)[flags[0] & 3]
        operation = reader.receive(HciRecord(number, NOW + number * STEP, packet, sent)) if packet else None
        if operation is not None:
            operation.to_frames()


def air(data):
    """Link-layer PDUs of three connections."""
    reader = AirReader(Devices(None), Counts(), keep_retransmissions=False)
    for number, (flags, pdu) in enumerate(pieces(data), start=1):
        access = (0x8E89BED6, 0x50123456, 0x7A9B1C2D, 0x50123456)[flags[0] & 3]
        sent, crc_ok = (True, False, None, None)[flags[0] >> 2 & 3], flags[0] & 0x70 != 0x70
        record = AirRecord(number, NOW + number * STEP, access, pdu, crc_ok, sent, bool(flags[0] & 0x80))
        operation = reader.receive(record)
        if operation is not None:
            operation.to_frames()


def decoders(data):
    """Payloads of every channel of every profile, one after the other, as a device would send them."""
    open_ones = {}
    for number, (flags, payload) in enumerate(pieces(data, head=3)):
        # What a fuzzer does not find by chance
        crc = crc16(payload, "mcrf4xx").to_bytes(2, "little") if flags[1] & 1 else b""
        channel, name = CHANNELS[flags[0] % len(CHANNELS)]
        decoder = open_ones.setdefault(name, all_profiles()[name].decoder(DeviceContext("NFLX_0A1B2C3D")))
        frame = Frame("NFLX_0A1B2C3D", channel, payload + crc, NOW + number * STEP, (True, False, None)[flags[0] % 3])
        with contextlib.suppress(DecodeError):
            decoder.receive(frame)


def mqtt(data):
    """A topic, a line feed, a message."""
    topic, _, message = data.partition(b"\n")
    parsed = parse_topic(topic.decode("utf-8", "replace"))
    if parsed is not None:
        with contextlib.suppress(DecodeError):
            all_profiles()["mqtt_topics"].decoder(DeviceContext(parsed[0])).receive(Frame(*parsed, message, NOW))


def label(data):
    """The text of a pairing label, and a list of keys."""
    pairing_label.decode(data.decode("utf-8", "replace"))
    try:
        keys = read_key_list(data, bytes(32))
    except KeyListError:
        return
    pairing_label.verify("NFLX1:AAAA", keys, today=date(2026, 11, 24))


def tables(data):
    """Files of a firmware team: handles, and what is expected."""
    with contextlib.suppress(ValueError):
        read_table(data)
    try:
        lines = expected.read(data)
    except expected.ExpectedError:
        return
    list(expected.differences(lines, lines[::2]))
    json.loads(lines[0].to_json()) if lines else None


TARGETS = {
    **dict.fromkeys(("btsnoop", "pcap", "pcapng", "packetlogger", "bugreport", "jsonl"), capture),
    "host": host, "air": air, "decoders": decoders, "mqtt": mqtt, "label": label, "tables": tables,
}  # fmt: skip
