"""Device Information Service 0x180A (DIS 1.2): facts of the registry; the model number selects quirks."""

from collections.abc import Callable

from device_drivers.base import Channel, Decoded, DecodeError, DeviceContext, Frame, GattPlan
from device_drivers.byte_reader import u16

SERVICE = "180a"
_STRINGS = {
    "2a29": "manufacturer_name",
    "2a24": "model_number",
    "2a25": "serial_number",
    "2a27": "hardware_revision",
    "2a26": "firmware_revision",
    "2a28": "software_revision",
}
SYSTEM_ID, PNP_ID, UDI = "2a23", "2a50", "2bff"
MODEL = Channel(SERVICE, "2a24")
CHANNELS = frozenset(Channel(SERVICE, uuid) for uuid in (*_STRINGS, SYSTEM_ID, PNP_ID, UDI))
# The model first: what is read after it is decoded with its quirks.
GATT = GattPlan(SERVICE, reads=(MODEL, *sorted(CHANNELS - {MODEL})))
_UDI_PARTS = ("udi_label", "udi_device_identifier", "udi_issuer", "udi_authority")
_MAX_TEXT = 256
_VENDOR_SOURCES = {1: "bluetooth", 2: "usb"}


def _text(octets: bytes) -> str:
    """UTF-8; real devices end it with NUL."""
    try:
        found = octets[:_MAX_TEXT].rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise DecodeError("not UTF-8 text") from None
    if any(not character.isprintable() for character in found):
        raise DecodeError("text with control characters")
    return found


def _system_id(value: bytes) -> dict[str, int | str]:
    """A 40-bit manufacturer id and a 24-bit OUI, least significant octet first."""
    if len(value) != 8:
        raise DecodeError(f"System ID has {len(value)} octets, not 8")
    return {"system_id": value[::-1].hex()}


def _pnp_id(value: bytes) -> dict[str, int | str]:
    """`source u8 | vendor u16 | product u16 | version u16`."""
    if len(value) != 7:
        raise DecodeError(f"PnP ID has {len(value)} octets, not 7")
    source = _VENDOR_SOURCES.get(value[0], f"reserved {value[0]}")
    return {"pnp_id": f"{source} vendor 0x{u16(value, 1):04X} product 0x{u16(value, 3):04X} v{u16(value, 5):04X}"}


def _udi(value: bytes) -> dict[str, int | str]:
    """`flags u8`, then those of label, device identifier, issuer and authority that are there, zero-terminated."""
    if not value:
        raise DecodeError("UDI is empty")
    rest, found = value[1:], {}
    for bit, name in enumerate(_UDI_PARTS):
        if value[0] & 1 << bit:
            part, end, rest = rest.partition(b"\0")
            if not end:
                raise DecodeError("UDI lacks the end of a string its flags announce")
            found[name] = _text(part)
    return {**found}


_LAYOUTS: dict[str, Callable[[bytes], dict[str, int | str]]] = {
    SYSTEM_ID: _system_id,
    PNP_ID: _pnp_id,
    UDI: _udi,
}


class DeviceInformationDecoder:
    """Stateless."""

    def receive(self, frame: Frame) -> Decoded:
        uuid = frame.channel.characteristic
        if uuid in _STRINGS:
            return Decoded(facts={_STRINGS[uuid]: _text(frame.payload)})
        return Decoded(facts=_LAYOUTS[uuid](frame.payload))


def decoder(device: DeviceContext) -> DeviceInformationDecoder:  # noqa: ARG001 - every device alike
    """A decoder for one device."""
    return DeviceInformationDecoder()
