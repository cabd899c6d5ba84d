"""Offline commands as root: the transient unit has the daemon's user and credentials (starting it needs systemd)."""

from pathlib import Path

from agent.mosquitto_files import BrokerFiles, device_access, gateway_access
from agent.offline import transient_unit


def test_the_transient_unit():
    command = transient_unit(Path("/opt/x/patch-gateway"), ["status", "--json"], ["LoadCredentialEncrypted=kek:/etc/k"])
    assert command[0] == "systemd-run"
    assert {"--pipe", "--wait", "--uid=patch-gateway", "--property=LoadCredentialEncrypted=kek:/etc/k"} <= set(command)
    assert command[-3:] == ["/opt/x/patch-gateway", "status", "--json"]


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
