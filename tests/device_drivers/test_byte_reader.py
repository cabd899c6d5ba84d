"""Medical floats and CRCs against published values (GSS 2.3, CGMS, real captures)."""

from decimal import Decimal

import pytest

from device_drivers.byte_reader import NotANumber, crc16, medfloat32, sfloat


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("F900", "249"),
        ("74E0", "1.16"),
        ("64B0", "0.001"),
        ("D2E4", "12.34"),
        ("0C10", "120"),
        ("02F0", "0.2"),
        ("E5F3", "99.7"),
        ("0FF9", "-177.7"),
    ],
)
def test_sfloat(octets, value):
    assert sfloat(int.from_bytes(bytes.fromhex(octets), "little")) == Decimal(value)


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("800C00FE", "32"),
        ("710E00FE", "36.97"),
        ("B00E00FE", "37.6"),
        ("C40900FE", "25"),
        ("E80D28FB", "26.25"),
        ("C05C15FA", "1.4"),
        ("A02526F8", "0.025"),
    ],
)
def test_float(octets, value):
    assert medfloat32(int.from_bytes(bytes.fromhex(octets), "little")) == Decimal(value)


@pytest.mark.parametrize(
    ("word", "name"),
    [(0x07FF, "NaN"), (0x0800, "NRes"), (0x07FE, "+INFINITY"), (0x0802, "-INFINITY"), (0x0801, "reserved")],
)
def test_special_sfloats(word, name):
    with pytest.raises(NotANumber, match=name.replace("+", r"\+")):
        sfloat(word)


@pytest.mark.parametrize(("word", "name"), [(0x007FFFFF, "NaN"), (0x00800002, "-INFINITY")])
def test_special_floats(word, name):
    with pytest.raises(NotANumber, match=name):
        medfloat32(word)


def test_crc():
    assert crc16(b"123456789", "mcrf4xx") == 0x6F91
    assert crc16(b"123456789", "ccitt_false") == 0x29B1
    assert crc16(b"A", "mcrf4xx") == 0x5C0A
    assert crc16(bytes.fromhex("58251F98"), "mcrf4xx") == 0x07F1
    assert crc16(bytes.fromhex("3E010203040506070809"), "mcrf4xx") == 0x2F01
