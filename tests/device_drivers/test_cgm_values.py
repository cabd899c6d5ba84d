"""Every published vector of the CGM Service, and the traps T1 to T4, T10, T11 by name."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from device_drivers import cgm_values as cgm
from device_drivers.base import Quirks, Refused

SPEC, REAL, NORDIC = Quirks(), Quirks(crc="ccitt_false"), Quirks(cgm_status_order="warning_first")


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def one(text: str, *, crc: bool | None = True, quirks: Quirks = SPEC) -> cgm.Measurement:
    records, rest = cgm.split_records(octets(text))
    assert rest == b""
    assert len(records) == 1
    found = cgm.measurement(records[0], crc_expected=crc, quirks=quirks)
    assert isinstance(found, cgm.Measurement), found
    return found


@pytest.mark.parametrize(
    ("text", "glucose", "offset", "trend"),
    [
        ("0EC3F900F40B000074E00A00E0F1", "249", 3060, "1.16"),
        ("0EC38D00E803000010E00A00D9AF", "141", 1000, "0.16"),
    ],
)
def test_real_guardian_4(text, glucose, offset, trend):
    found = one(text, quirks=REAL)
    assert (found.glucose, found.offset, found.trend) == (Decimal(glucose), offset, Decimal(trend))
    assert found.quality == 10
    assert found.annunciation == (0, 0, None)


def test_t2_the_crc_variant_is_a_quirk_of_the_model():
    record = octets("0EC3F900F40B000074E00A00E0F1")
    found = cgm.measurement(record, crc_expected=True, quirks=SPEC)
    assert isinstance(found, Refused)
    assert "CRC" in found.reason


def test_all_fields():
    found = one("0FE378001E00010203500060 00ECAC".replace(" ", ""))
    assert found.annunciation == (1, 2, 3)
    assert (found.glucose, found.offset, found.trend, found.quality) == (120, 30, 80, 96)


def test_t1_the_octet_order_is_a_quirk_of_the_model():
    text = "0FE3D2E405000214FF02F0E5F38E3F"
    assert one(text).annunciation == (0x02, 0x14, 0xFF)
    assert one(text, quirks=NORDIC).annunciation == (0xFF, 0x14, 0x02)
    assert one(text).glucose == Decimal("12.34")
    assert (one(text).trend, one(text).quality) == (Decimal("0.2"), Decimal("99.7"))


def test_t1_one_octet_is_never_ambiguous():
    text = "07800C10050002"
    assert one(text, crc=False).annunciation == one(text, crc=False, quirks=NORDIC).annunciation == (2, None, None)


def test_t4_several_records_in_one_notification():
    records, rest = cgm.split_records(octets("06000C100500" + "06000C100600"))
    found = [cgm.measurement(record, crc_expected=False, quirks=SPEC) for record in records]
    assert [(m.glucose, m.offset) for m in found if isinstance(m, cgm.Measurement)] == [(120, 5), (120, 6)]
    assert rest == b""


@pytest.mark.parametrize("crc", [True, None])
def test_t3_the_crc_is_known_by_the_feature_else_by_the_size(crc):
    assert one("08000C100600596F", crc=crc).offset == 6
    wrong = cgm.measurement(octets("08000C100600586F"), crc_expected=crc, quirks=SPEC)
    assert isinstance(wrong, Refused)
    assert isinstance(
        cgm.measurement(octets("0800780 01E001234".replace(" ", "")), crc_expected=crc, quirks=SPEC), Refused
    )


def test_t3_a_record_without_the_crc_its_feature_demands():
    assert isinstance(cgm.measurement(octets("06000C100500"), crc_expected=True, quirks=SPEC), Refused)


def test_feature():
    found = cgm.feature(octets("009001591404"), REAL)
    assert (found.bits, found.sample_type, found.sample_location) == (1 << 12 | 1 << 15 | 1 << 16, 9, 5)
    assert cgm.feature(octets("6E9E01168AC1"), SPEC).e2e_crc
    assert not cgm.feature(octets("6E8E0116FFFF"), SPEC).e2e_crc
    for wrong in ("6E9E0116AFBE", "6E9E01168A"):
        with pytest.raises(cgm.LayoutError):
            cgm.feature(octets(wrong), SPEC)


def test_status():
    assert cgm.status(octets("05003F3FFFA7E0"), SPEC) == (5, (0x3F, 0x3F, 0xFF))
    assert cgm.status(octets("05003F3FFFA7E0"), NORDIC) == (5, (0xFF, 0x3F, 0x3F))
    with pytest.raises(cgm.LayoutError):
        cgm.status(octets("05003F3FFFA7E1"), SPEC)


def test_session_start():
    boot, start = cgm.session_start(octets("E20704180D08180804E0C2"), SPEC)
    # T11: the zone is in quarters of an hour (8 = +2 h), 4 is daylight saving time (+1 h)
    assert (boot, start) == (20180424130824, datetime(2018, 4, 24, 10, 8, 24, tzinfo=UTC))


def test_session_start_without_a_zone():
    assert cgm.session_start(octets("EA07031C0A1F2A80FF0873"), REAL) == (20260328103142, None)
    with pytest.raises(cgm.LayoutError, match="CRC"):
        cgm.session_start(octets("EA07031C0A1F2A80FF0873"), SPEC)
    with pytest.raises(cgm.LayoutError, match="date"):
        cgm.session_start(octets("EA07021F0A1F2A0000"), SPEC)


def test_run_time():
    assert cgm.run_time(octets("020008C3"), SPEC) == 2


def test_socp_responses():
    assert cgm.socp_response(octets("1C02013C3B"), crc_expected=True, quirks=SPEC) == (0x1C, b"\x02\x01")
    assert cgm.socp_response(octets("1C0202A709"), crc_expected=True, quirks=SPEC) == (0x1C, b"\x02\x02")
    with pytest.raises(cgm.LayoutError):
        cgm.socp_response(octets("1C0202A701"), crc_expected=True, quirks=SPEC)
    # T10: the interval is one octet in the service, two in the supplement: the length tells
    assert cgm.socp_response(octets("030B"), crc_expected=False, quirks=SPEC) == (3, b"\x0b")
    assert cgm.socp_response(octets("030A8A75"), crc_expected=True, quirks=SPEC) == (3, b"\x0a")
