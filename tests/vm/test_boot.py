"""The machine itself, and the real unit on it: starts in its sandbox, stops in order, comes back."""

import http.server
import json
import threading
import time

import pytest
from vm import VM


@pytest.fixture(scope="module")
def vm(rig):
    """One machine for all of these."""
    with VM(rig.image, rig.stage, rig.snapshot).start() as machine:
        yield machine


@pytest.fixture
def gateway(vm):
    """A machine whose unit has said READY=1."""
    vm.put("/etc/patch-gateway/gateway.toml", '[gateway]\nid = "gw-vm"\n')
    vm.run("systemctl start patch-gateway", timeout=90).ok()
    return vm


def status(vm):
    return json.loads(vm.run("/opt/patch-gateway/venv/bin/patch-gateway status --json").ok())


def shown(vm, name):
    return vm.run(f"systemctl show --property {name} --value patch-gateway").ok().strip()


def test_a_restored_machine_has_the_right_time(vm):
    assert abs(float(vm.run("date +%s.%N").ok()) - time.time()) < 2


def test_bluez_runs_as_we_configure_it(vm):
    assert vm.run("systemctl is-active bluetooth").ok() == "active\n"
    assert vm.run("systemctl show --property Restart --value bluetooth").ok() == "on-failure\n"


def test_the_guest_reaches_a_port_of_the_host(vm):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    with server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        ask = f"exec 3<>/dev/tcp/10.0.2.2/{server.server_port}; printf 'PUT / HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3"
        assert " 501 " in vm.run(ask).ok()
        thread.join()


def test_a_command_that_hangs_is_killed(vm):
    assert vm.run("sleep 60", timeout=1).rc == 124
    assert vm.run("echo alive").ok() == "alive\n"


def test_the_unit_is_back_after_a_kill(gateway):
    assert (shown(gateway, "ActiveState"), shown(gateway, "NRestarts")) == ("active", "0")
    gateway.run("kill -9 $(systemctl show --property MainPID --value patch-gateway)").ok()
    gateway.run("until systemctl is-active patch-gateway; do sleep .2; done", timeout=90).ok()
    assert shown(gateway, "NRestarts") == "1"
    assert status(gateway)["daemon"] == "running"


def test_the_unit_runs_answers_and_stops_in_order(gateway):
    assert (online := status(gateway))["daemon"] == "running"
    assert online["gateway"] == "gw-vm"

    gateway.run("systemctl stop patch-gateway", timeout=70).ok()
    assert (shown(gateway, "ActiveState"), shown(gateway, "Result")) == ("inactive", "success")
    assert status(gateway)["daemon"] == "not running"
    assert gateway.run("find /var/lib/patch-gateway ! -user patch-gateway").ok() == ""
