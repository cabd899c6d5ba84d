"""Runs inside the guest: joins /dev/vhci (a kernel Bluetooth adapter) to the virtio-serial port "hci0".

The other end of the port is a bumble Controller in the test process. When this program stops, the adapter
vanishes from the kernel, exactly like an unplugged USB dongle.
"""

import os
import select
import sys

CREATE_ADAPTER = b"\xff\x00"  # 0xFF = kernel <-> vhci control; its answer is not for the controller
# H4 packet type -> (header length, where the length field is, its bytes, mask)
HEADERS = {1: (3, 2, 1, 0xFF), 2: (4, 2, 2, 0xFFFF), 3: (3, 2, 1, 0xFF), 4: (2, 1, 1, 0xFF), 5: (4, 2, 2, 0x3FFF)}


def split_packets(stream: bytes) -> tuple[list[bytes], bytes]:
    """Cut a byte stream into whole H4 packets; the kernel wants exactly one per write()."""
    packets = []
    while stream:
        if stream[0] not in HEADERS:
            sys.exit(f"not H4: {stream[:16].hex()}")
        header, at, width, mask = HEADERS[stream[0]]
        length = int.from_bytes(stream[1 + at : 1 + at + width], "little") & mask
        end = 1 + header + length
        if len(stream) < max(end, 1 + header):
            break
        packets.append(stream[:end])
        stream = stream[end:]
    return packets, stream


def write_all(port: int, data: bytes) -> None:
    while data:
        data = data[os.write(port, data) :]


def main() -> None:
    port = os.open("/dev/virtio-ports/hci0", os.O_RDWR)
    vhci = os.open("/dev/vhci", os.O_RDWR)
    os.write(vhci, CREATE_ADAPTER)
    stream = b""
    while True:
        ready, _, _ = select.select([port, vhci], [], [])
        if vhci in ready:
            packet = os.read(vhci, 4096)
            if packet[0] != CREATE_ADAPTER[0]:
                write_all(port, packet)
        if port in ready:
            data = os.read(port, 65536)
            if not data:
                sys.exit("the test process closed the radio")
            packets, stream = split_packets(stream + data)
            for packet in packets:
                os.write(vhci, packet)


if __name__ == "__main__":
    main()
