"""Little-endian fields, medical floats (IEEE 11073-20601) and the CRC-16 variants of Bluetooth health profiles."""

from decimal import Decimal
from typing import Literal

_SFLOAT_SPECIAL = {0x07FF: "NaN", 0x0800: "NRes", 0x07FE: "+INFINITY", 0x0802: "-INFINITY", 0x0801: "reserved"}
_FLOAT_SPECIAL = {
    0x007FFFFF: "NaN",
    0x00800000: "NRes",
    0x007FFFFE: "+INFINITY",
    0x00800002: "-INFINITY",
    0x00800001: "reserved",
}


class NotANumber(ValueError):
    """A special value of SFLOAT or FLOAT; the message is its name."""


def u16(octets: bytes, at: int) -> int:
    """Unsigned 16-bit little-endian at an offset the caller has bounded."""
    return octets[at] | octets[at + 1] << 8


def sfloat(word: int) -> Decimal:
    """medfloat16: exponent in bits 15..12, mantissa in 11..0, both signed; NotANumber for the special values."""
    if word in _SFLOAT_SPECIAL:
        raise NotANumber(_SFLOAT_SPECIAL[word])
    exponent, mantissa = word >> 12, word & 0x0FFF
    return Decimal(mantissa - (mantissa & 0x800) * 2).scaleb(exponent - (exponent & 8) * 2)


def medfloat32(word: int) -> Decimal:
    """FLOAT: exponent in bits 31..24, mantissa in 23..0, both signed; NotANumber for the special values."""
    if word in _FLOAT_SPECIAL:
        raise NotANumber(_FLOAT_SPECIAL[word])
    exponent, mantissa = word >> 24, word & 0xFFFFFF
    return Decimal(mantissa - (mantissa & 0x800000) * 2).scaleb(exponent - (exponent & 0x80) * 2)


def crc16(octets: bytes, variant: Literal["mcrf4xx", "ccitt_false"]) -> int:
    """CRC-16 with polynomial 0x1021 and seed 0xFFFF: reflected (MCRF4XX, the specification's) or not (CCITT-FALSE)."""
    crc = 0xFFFF
    if variant == "mcrf4xx":
        for octet in octets:
            crc ^= octet
            for _ in range(8):
                crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
        return crc
    for octet in octets:
        crc ^= octet << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc
