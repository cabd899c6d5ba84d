"""Key files, wrapping, sealing: what is bound is bound."""

import os

import pytest
from hypothesis import given, strategies as st

from buffer.errors import SealError
from buffer.folding import fold, unfold
from buffer.keys import KeyRing, make_key_file, read_kek
from buffer.sealing import NO_LANE, Dek
from schemas.wire import WireEvent


def test_key_file(tmp_path):
    path = tmp_path / "state" / "kek"
    make_key_file(path)
    assert len(read_kek(path, None, path.with_name("buffer.db"))) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_key_file(path)


def test_a_credential_comes_first(tmp_path):
    make_key_file(tmp_path / "kek")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "kek").write_bytes(b"c" * 32)
    assert read_kek(tmp_path / "kek", tmp_path / "credentials", tmp_path / "buffer.db") == b"c" * 32


def test_unusable_keys(tmp_path):
    path = tmp_path / "kek"
    with pytest.raises(SealError, match="keys init"):
        read_kek(path, None, path.with_name("buffer.db"))
    path.write_bytes(b"x" * 32)
    path.chmod(0o644)
    with pytest.raises(SealError, match="chmod 600"):
        read_kek(path, None, path.with_name("buffer.db"))
    path.chmod(0o600)
    for content in (b"", b"x" * 31, b"x" * 33):
        path.write_bytes(content)
        with pytest.raises(SealError, match="exactly 32"):
            read_kek(path, None, path.with_name("buffer.db"))
    path.unlink()
    path.mkdir()
    with pytest.raises(SealError, match="cannot be read"):
        read_kek(path, None, path.with_name("buffer.db"))


def test_a_wrapped_key_is_bound_to_its_context_and_its_kek():
    ring, other = KeyRing(os.urandom(32)), KeyRing(os.urandom(32))
    wrapped = ring.wrap(b"d" * 32, b"1|2|2026-11-24")
    assert ring.unwrap(wrapped, b"1|2|2026-11-24") == b"d" * 32
    for attempt in (lambda: ring.unwrap(wrapped, b"1|2|2026-11-25"), lambda: other.unwrap(wrapped, b"1|2|2026-11-24")):
        with pytest.raises(SealError):
            attempt()
    assert ring.verify(ring.check_value())
    assert not other.verify(ring.check_value())


def test_blind_indexes_depend_on_key_and_purpose():
    kek = os.urandom(32)
    assert KeyRing(kek).blind("a", "x") == KeyRing(kek).blind("a", "x")
    assert (
        len({KeyRing(kek).blind("a", "x"), KeyRing(kek).blind("b", "x"), KeyRing(os.urandom(32)).blind("a", "x")}) == 3
    )


@given(st.binary(max_size=3_000), st.integers(0, 3))
def test_sealing(plain, lane):
    dek = Dek(7, b"k" * 32)
    sealed = dek.seal(plain, lane)
    assert dek.open(sealed, lane) == plain
    with pytest.raises(SealError):
        dek.open(sealed, lane + 1)
    with pytest.raises(SealError):
        Dek(8, b"k" * 32).open(sealed, lane)
    with pytest.raises(SealError):
        dek.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), lane)


@given(st.binary(max_size=100))
def test_any_bytes_do_not_open(sealed):
    with pytest.raises(SealError):
        Dek(7, b"k" * 32).open(sealed, 0)


WORDS = [b"NFLX_0A1B2C3D", b"gw-1", b"2026-11-26T"]
KEYS = st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True) | st.just("NFLX_0A1B2C3D.sensor.1.2")
BODIES = st.binary(max_size=300) | st.lists(
    st.sampled_from([*WORDS, b"NFLX_0A1B2C3D.sensor.1.2", b'{"a":1}', b"\x01", b"\x02"])
).map(b"".join)


@given(KEYS, BODIES, st.lists(st.sampled_from(WORDS), unique=True))
def test_folding_loses_nothing(key, body, words):
    event = WireEvent(key, body)
    assert unfold(fold(event, words), words) == event
    dek = Dek(7, b"k" * 32, words=words)
    other = Dek(7, b"k" * 32)
    other.open_words(dek.sealed_words())
    assert other.open_event(dek.seal_event(event, 1), 1) == event


def test_words_are_one_octet_each():
    key = "NFLX_0A1B2C3D.sensor.1.2"
    event = WireEvent(key, b'{"d":"NFLX_0A1B2C3D","k":"' + key.encode() + b'"}')
    assert fold(event, WORDS) == b'\x18\x02.sensor.1.2{"d":"\x02","k":"\x01"}'


def test_words_of_another_key_do_not_open():
    dek, other = Dek(7, b"k" * 32, words=WORDS), Dek(8, b"k" * 32)
    with pytest.raises(SealError):
        other.open_words(dek.sealed_words())
    with pytest.raises(SealError):
        dek.open_words(dek.seal(b"", NO_LANE))
