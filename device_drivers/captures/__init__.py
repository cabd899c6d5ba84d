"""Captured BLE logs, read into the same Frames as the radio: one file per format, one HCI/L2CAP/ATT core."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from device_drivers.base import Channel
from device_drivers.captures import formats, jsonl
from device_drivers.captures.air import AirReader
from device_drivers.captures.base import AttOperation, CaptureError, Counts, HciRecord
from device_drivers.captures.devices import Devices
from device_drivers.captures.hci import HciReader, directed
from device_drivers.captures.link_types import Record


@dataclass(slots=True)
class Capture:
    """One pass over a file; `format` and `counts` fill while it goes on. `table` names handles that the capture does
    not discover.
    """

    table: Mapping[int, Channel] | None = None
    keep_retransmissions: bool = False
    format: str = ""
    counts: Counts = field(default_factory=Counts)

    def operations(self, stream: BinaryIO) -> Iterator[AttOperation]:
        """ATT operations in file order. CaptureError where the file is damaged or of no known format.

        What was read before the damage has been yielded by then.
        """
        if self._detect(stream).json_lines:
            for operation in jsonl.operations(stream):
                self.counts.records += 1
                yield operation
            return
        devices = Devices(self.table)
        hci = HciReader(devices, self.counts)
        air = AirReader(devices, self.counts, keep_retransmissions=self.keep_retransmissions)
        for record in self.records(stream):
            self.counts.records += 1
            completed = hci.receive(record) if isinstance(record, HciRecord) else air.receive(record)
            if completed is not None:
                yield completed

    def records(self, stream: BinaryIO) -> Iterator[Record]:
        """The packets themselves; CaptureError as above, and for JSON Lines, which hold none."""
        found = self._detect(stream)
        if found.json_lines:
            raise CaptureError("JSON Lines hold ATT operations and no packets: they become no other format")
        read = formats.records(stream, found)
        return directed(read) if found.name in {"pcap", "pcapng"} else read

    def _detect(self, stream: BinaryIO) -> formats.Format:
        head = stream.read(formats.HEAD)
        stream.seek(0)
        found = formats.detect(head)
        self.format = found.name
        return found
