"""HCI packets written in every format, and ATT PDUs wrapped for the air with everything that goes wrong there."""

import random
import struct
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = {(1, True): 2, (4, False): 3, (2, True): 4, (2, False): 5}
ADVERTISING = 0x8E89BED6


def micros(time):
    return (time - EPOCH) // timedelta(microseconds=1)


def h1(record):
    return record.packet[1:]


def btsnoop(records, datalink):
    out = b"btsnoop\0" + struct.pack(">II", 1, datalink)
    for record in records:
        data = record.packet if datalink == 1002 else record.packet[1:]
        flags = (not record.sent) | 2 * (record.packet[0] in (1, 4))
        if datalink == 2001:
            flags = KINDS[record.packet[0], record.sent]
        stamp = micros(record.time) + 0x00DCDDB30F2F8000
        out += struct.pack(">IIIIq", len(data), len(data), flags, 0, stamp) + data
    return out


def framed(record, link_type):
    if link_type == 187:
        return record.packet
    if link_type == 201:
        return struct.pack(">I", not record.sent) + record.packet
    return struct.pack(">HH", 0, KINDS[record.packet[0], record.sent]) + record.packet[1:]


def pcap(packets, link_type, *, order="<", nanoseconds=False, header=16, magic=None):
    """`packets`: (time, octets). `header` 24: with the magic of its own, or another `magic` as in the wild."""
    value = magic or (0xA1B23C4D if nanoseconds else 0xA1B2CD34 if header == 24 else 0xA1B2C3D4)
    out = struct.pack(f"{order}IHHiIII", value, 2, 4, 0, 0, 65535, link_type)
    for time, data in packets:
        seconds, rest = divmod(micros(time), 10**6)
        out += struct.pack(f"{order}IIII", seconds, rest * (1000 if nanoseconds else 1), len(data), len(data))
        out += b"\x02\0\0\0\0\0\0\0" * (header == 24) + data
    return out


def pcapng(packets, link_type, *, order="<", resolution=6):
    def block(kind, body):
        body += bytes(-len(body) % 4)
        return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)

    out = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(f"{order}HHB3xHH", 9, 1, resolution, 0, 0)
    out += block(1, struct.pack(f"{order}HHI", link_type, 0, 0) + options)
    out += block(5, bytes(12))  # interface statistics: of no interest
    for time, data in packets:
        stamp = micros(time) * 10 ** (resolution - 6)
        head = struct.pack(f"{order}IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        out += block(6, head + data)
    return out


def packetlogger(records, order):
    out = b""
    for record in records:
        kind = {(1, True): 0, (4, False): 1, (2, True): 2, (2, False): 3}[record.packet[0], record.sent]
        seconds, rest = divmod(micros(record.time), 10**6)
        out += struct.pack(f"{order}IIIB", len(record.packet) + 8, seconds, rest, kind) + record.packet[1:]
    return out


def crc24(octets, start):
    """Vol 6 Part B 3.1.1, least significant bit first."""
    state = int(f"{start:024b}"[::-1], 2)
    for octet in octets:
        for bit in range(8):
            out = (state ^ octet >> bit) & 1
            state >>= 1
            if out:
                state ^= 0xDA6000
    return state.to_bytes(3, "little")


class Air:
    """One connection after another on the air: `frames` are (time, sent, crc_ok, access address, PDU, CRC)."""

    def __init__(self, start, seed=1, size=None, trouble=1):
        self.time, self.rng, self.frames, self.size, self.trouble = start, random.Random(seed), [], size, trouble
        self.access, self.crc_start, self.sn = 0, 0x555555, {}
        # What a sniffer that has the key leaves behind each payload; None: it has no key
        self.mic = None

    def connect(self, address, access):
        self.access, self.sn = access, {True: 0, False: 0}
        body = bytes(6) + bytes.fromhex(address.replace(":", ""))[::-1] + access.to_bytes(4, "little")
        body += self.crc_start.to_bytes(3, "little") + bytes(15)
        pdu = bytes([0x45, len(body)]) + body
        self.time += timedelta(milliseconds=20)
        self.frames.append((self.time, None, True, ADVERTISING, pdu, crc24(pdu, 0x555555)))

    def _frame(self, llid, payload, *, sent, crc_ok=True):
        pdu = bytes([llid | self.sn[sent] << 3 | (not self.sn[not sent]) << 2, len(payload)]) + payload
        crc = crc24(pdu, self.crc_start)
        shown = pdu if crc_ok or not payload else pdu[:-1] + bytes([pdu[-1] ^ 0x41])
        self.frames.append((self.time, sent, crc_ok, self.access, shown, crc))

    def _turn(self, llid, payload, *, sent):
        """A connection event in which one side has something to say, and perhaps must say it again."""
        payload += self.mic or b""
        for again in range(1 + (self.rng.random() < 0.3 * self.trouble)):
            self.time += timedelta(milliseconds=30)
            lost = self.rng.random() < 0.2 * self.trouble
            for side in (True, False):
                if side == sent:
                    if lost and not again:
                        self._frame(llid, payload, sent=side, crc_ok=False)
                    self._frame(llid, payload, sent=side)
                else:
                    self._frame(1, b"", sent=side)
                self.time += timedelta(microseconds=400)
        for side in (True, False):
            self.sn[side] ^= 1

    def att(self, pdu, *, sent):
        l2cap = len(pdu).to_bytes(2, "little") + b"\x04\0" + pdu
        size = self.size or self.rng.choice([10, 27, 251])
        for at in range(0, len(l2cap), size):
            self._turn(2 if at == 0 else 1, l2cap[at : at + size], sent=sent)

    def encrypt(self):
        self._turn(3, b"\x05", sent=False)

    def start_encryption(self):
        self._turn(3, b"\x06", sent=True)
        self._turn(3, b"\x06", sent=False)

    def packets(self, link_type):
        for number, (time, sent, crc_ok, access, pdu, crc) in enumerate(self.frames):
            frame = access.to_bytes(4, "little") + pdu + crc
            decrypted = self.mic is not None and access != ADVERTISING
            if link_type == 251:
                yield time, frame
            elif link_type == 256:
                kind = {None: 0, True: 2, False: 3}[sent]
                flags = 0x0001 | 0x0008 * decrypted | 0x0400 | 0x0800 * crc_ok | kind << 7
                yield time, struct.pack("<BbbBIH", 39 if sent is None else 5, -60, -90, 0, access, flags) + frame
            else:
                flags = crc_ok | 2 * bool(sent) | 0x0C * decrypted
                channel = 37 if sent is None else 5
                head = struct.pack("<BHBHB", 1, 10 + len(frame), 2, number & 0xFFFF, 6)
                yield time, head + struct.pack("<BBBBHI", 10, flags, channel, 60, 0, 150) + frame
