"""What several tests need: missing programs, ports, a broker, a gateway process."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.demo.processes import Mosquitto, free_port
from agent.mosquitto_files import BrokerFiles, gateway_access
from buffer.keys import make_key_file

PROGRAM = Path(sys.executable).with_name("patch-gateway")
PATIENT = "pt_testpatientaaaaaaa"
BATCH = "BATCH_20261101_ABC"


def missing(what: str) -> None:
    """Skip with a sentence; in CI a skip is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def need(program: str, package: str) -> str:
    """The program's path, or a skip that says which Debian package brings it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        missing(f"{program} is not here: install the Debian package {package}")
    return str(found)


def wait_for(condition, seconds: float = 30.0, what: str = "it"):
    """Poll until the condition gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


@dataclass
class Broker:
    """A real Mosquitto with the demo's settings."""

    server: Mosquitto
    gateway_password: str

    @property
    def port(self) -> int:
        return self.server.port

    def reload(self) -> None:
        """Read the password and access files again."""
        assert self.server.process
        self.server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)


def make_broker(folder: Path) -> Broker:
    folder.mkdir(parents=True, exist_ok=True)
    server = Mosquitto(folder, free_port())
    password = BrokerFiles(server.passwords, server.access).add("patch-gateway", gateway_access("patch-gateway"))
    server.start()
    return Broker(server, password)


@dataclass
class GatewayProcess:
    """`patch-gateway run` as a process that may be killed, with its settings file."""

    folder: Path
    settings: Path
    process: subprocess.Popen | None = None
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ})

    def start(self) -> None:
        with (self.folder / "gateway.log").open("ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, "--config", self.settings, "run"], stdout=output, stderr=output, env=self.environment
            )

    def wait_connected(self) -> None:
        def connected() -> bool:
            shown = self.ask("status")
            return shown is not None and bool(shown.get("links")) and all(link["connected"] for link in shown["links"])

        try:
            wait_for(connected, what="the gateway's sessions")
        except AssertionError as error:
            raise AssertionError(
                f"{error}; status: {self.command('status').stdout}; log: {self.log[-3_000:]}"
            ) from None

    def ask(self, *command: str) -> dict | None:
        done = self.command(*command, "--json")
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.startswith("{") else None

    def command(self, *command: str, given: str | None = None) -> subprocess.CompletedProcess:
        """`given` is its standard input."""
        return subprocess.run(
            [PROGRAM, "--config", self.settings, *command],
            check=False, capture_output=True, text=True, timeout=60, input=given,
        )  # fmt: skip

    def pair_mqtt(self, device_id: str, device_type: str = "diagnostic_sensor", *more: str) -> str:
        """Pair by hand; the MQTT password."""
        claims = ["--device-id", device_id, "--batch", BATCH, "--type", device_type]
        done = self.command("pair", *claims, "--transport", "mqtt", "--patient", PATIENT, *more, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["mqtt_password"]

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()


def make_gateway(folder: Path, broker: Broker | None = None, upstream: tuple[str, str] | None = None) -> GatewayProcess:
    """A gateway's folder, key and settings; `upstream` is (url, API key)."""
    folder.mkdir(parents=True, exist_ok=True)
    make_key_file(folder / "state" / "kek")
    text = f'[gateway]\nid = "gw-test"\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n'
    text += "[ble]\nenabled = false\n"
    if broker:
        (folder / "mqtt-password").write_text(broker.gateway_password)
        text += (
            f'[mqtt]\nenabled = true\nport = {broker.port}\nusername = "patch-gateway"\n'
            f'password_file = "{folder}/mqtt-password"\nbroker_inflight = 4000\n'
            f'broker_password_file = "{broker.server.passwords}"\nbroker_acl_file = "{broker.server.access}"\n'
        )
    if upstream:
        (folder / "api-key").write_text(upstream[1])
        text += (
            f'[upstream]\nurl = "{upstream[0]}"\napi_key_file = "{folder}/api-key"\n'
            "retry_first_seconds = 0.1\nretry_most_seconds = 1\n"
        )
    settings = folder / "gateway.toml"
    settings.write_text(text)
    return GatewayProcess(folder, settings)


def random_device() -> str:
    return "NFLX_" + "".join(secrets.choice("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(8))
