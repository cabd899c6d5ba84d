"""The systemd units: valid, and as closed as measured. Nothing here starts them: that needs a service manager."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from rig import need

UNITS = Path(__file__).parents[1] / "systemd"


def verify(folder, *names):
    analyze = need("systemd-analyze", "systemd")
    done = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", *(folder / name for name in names)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.fixture
def units(tmp_path):
    """A copy whose ExecStart is a program of this environment."""
    program = Path(sys.executable).with_name("patch-gateway")
    for path in filter(Path.is_file, UNITS.iterdir()):
        text = re.sub(
            r"(?m)^ExecStart=/opt/patch-gateway/venv/bin/patch-gateway", f"ExecStart={program}", path.read_text()
        )
        (tmp_path / path.name).write_text(text)
    (tmp_path / "mosquitto.service").write_text("[Service]\nExecStart=/bin/true\nExecReload=/bin/true\n")
    return tmp_path


def test_the_units_are_valid(units):
    names = ["patch-gateway.service", "patch-gateway-broker.path", "patch-gateway-broker.service"]
    assert verify(units, *names) == (0, "")


def test_a_mistake_would_be_found(units):
    unit = units / "patch-gateway.service"
    unit.write_text(unit.read_text().replace("ProtectClock=yes", "ProtectClok=yes"))
    assert "ProtectClok" in verify(units, "patch-gateway.service")[1]


def test_the_sandbox_is_as_closed_as_measured(units):
    analyze = need("systemd-analyze", "systemd")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=11", "patch-gateway.service"],
        check=False, capture_output=True, text=True, cwd=units,
        env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_unit_has_what_the_daemon_relies_on():
    text = (UNITS / "patch-gateway.service").read_text()
    for line in (
        "Type=notify", "WatchdogSec=180", "Environment=PATCH_GATEWAY_BOOT_ID=%b", "LimitCORE=0", "MemorySwapMax=0",
        "LoadCredentialEncrypted=kek:/etc/credstore.encrypted/patch-gateway.kek",
    ):  # fmt: skip
        assert line in text
    drop_in = (UNITS / "bluetooth.service.d" / "patch-gateway.conf").read_text()
    assert "Restart=on-failure" in drop_in
    assert "ConnectionSupervisionTimeout=600" in (UNITS / "bluetooth-main.conf").read_text()
