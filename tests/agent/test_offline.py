"""Offline commands as root: the transient unit has the daemon's user and credentials (starting it needs systemd)."""

from pathlib import Path

from agent.mosquitto_files import BrokerFiles, device_access, gateway_access
from agent.offline import _hidden, secrets_of, transient_unit


def test_the_transient_unit():
    command = transient_unit(Path("/opt/x/patch-gateway"), ["status", "--json"], ["LoadCredentialEncrypted=kek:/etc/k"])
    assert command[0] == "systemd-run"
    assert {"--pipe", "--wait", "--uid=patch-gateway", "--property=LoadCredentialEncrypted=kek:/etc/k"} <= set(command)
    assert command[-3:] == ["/opt/x/patch-gateway", "status", "--json"]


def test_no_secret_stands_on_the_command_line_of_the_transient_unit():
    secrets = secrets_of({"passkey": 12345, "label": "NFLX1:ABC", "device_id": "NFLX_0A1B2C3D"})
    assert secrets == ["NFLX1:ABC", "012345"], "in the order in which they are read, and as they are typed"
    typed = ["pair", "NFLX1:ABC", "--passkey", "012345", "--passkey=012345", "--device-id=NFLX_0A1B2C3D"]
    assert [_hidden(argument, secrets) for argument in typed] == [
        "pair", "-", "--passkey", "-", "--passkey=-", "--device-id=NFLX_0A1B2C3D"
    ]  # fmt: skip


def test_broker_files(tmp_path):
    files = BrokerFiles(tmp_path / "passwd", tmp_path / "acl")
    files.add("patch-gateway", gateway_access("patch-gateway"))
    first = files.add("NFLX_AAAAAAAA", device_access("NFLX_AAAAAAAA"))
    files.add("NFLX_BBBBBBBB", device_access("NFLX_BBBBBBBB"))
    assert first not in (tmp_path / "passwd").read_text()
    assert files.knows("NFLX_AAAAAAAA")
    files.remove("NFLX_AAAAAAAA")
    assert "NFLX_AAAAAAAA" not in (tmp_path / "passwd").read_text() + (tmp_path / "acl").read_text()
    assert files.knows("NFLX_BBBBBBBB")
    assert "write" not in gateway_access("patch-gateway"), "the gateway publishes nothing: it never treats"
    assert (tmp_path / "passwd").stat().st_mode & 0o777 == 0o640
