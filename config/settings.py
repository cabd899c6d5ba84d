"""The settings. One TOML file, overridden by `PATCH_GATEWAY_<SECTION>__<NAME>`; docs/settings.md describes each."""

import hashlib
import hmac
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Section(BaseModel):
    """A table of the TOML file: unknown keys are refused, defaults are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def default_gateway_id() -> str:
    """Stable per installation and not the machine id itself (machine-id(5): hash it with an application key)."""
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = socket.gethostname().encode()
    return "gw-" + hmac.digest(b"patch-gateway gateway id", machine, hashlib.sha256).hex()[:12]


_ADAPTER = re.compile(r"hci[0-9]{1,2}|([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", re.ASCII)


def _adapter(value: str) -> str:
    if not _ADAPTER.fullmatch(value):
        raise ValueError("an adapter is a name such as hci0, or its address, such as 00:1B:DC:0F:00:01")
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
AdapterName = Annotated[str, AfterValidator(_adapter)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Gateway(Section):
    """Who this gateway is and where it keeps things."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = Field(default_factory=default_gateway_id)
    state_dir: Path = Path("/var/lib/patch-gateway")
    runtime_dir: Path = Path("/run/patch-gateway")


class Buffer(Section):
    """The store-and-forward database."""

    quota_mib: Annotated[int, Field(ge=16, le=1_048_576)] = 1_024
    reserve_mib: Annotated[int, Field(ge=0, le=1_024)] = 16
    tick_seconds: Annotated[float, Field(ge=0.01, le=60)] = 0.8
    commit_cap: Annotated[int, Field(ge=1, le=4_000)] = 4_000
    quarantine_mib: Annotated[int, Field(ge=1, le=4_096)] = 64
    quarantine_per_sender: Annotated[int, Field(ge=1, le=100_000)] = 1_000


class Keys(Section):
    """Where the key that seals the buffer comes from, when systemd does not hand it over as a credential."""

    kek_file: Path | None = None


class Mqtt(Section):
    """The broker whose topics the patches publish to."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 1883
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_seconds: Annotated[int, Field(ge=5, le=300)] = 15
    session_expiry_days: Annotated[int, Field(ge=1, le=365)] = 30
    broker_inflight: Annotated[int, Field(ge=1, le=4_000)] = 20
    broker_password_file: Path | None = None
    broker_acl_file: Path | None = None


class Ble(Section):
    """The Bluetooth adapters, and how many patches each may hold."""

    enabled: bool = True
    adapters: Annotated[list[AdapterName], Field(min_length=1, max_length=8)] = ["hci0"]
    stay_connected: Annotated[int, Field(ge=0, le=32)] = 4
    connection_slots: Annotated[int, Field(ge=2, le=32)] = 5
    visit_seconds: Seconds = 300
    scan_silence_seconds: Seconds = 90
    stale_link_seconds: Seconds = 900
    pairing_window_seconds: Seconds = 600

    @field_validator("adapters")
    @classmethod
    def _no_adapter_twice(cls, adapters: list[str]) -> list[str]:
        if len({name.lower() for name in adapters}) < len(adapters):
            raise ValueError("an adapter is named twice")
        return adapters

    @field_validator("connection_slots")
    @classmethod
    def _one_is_kept_free(cls, slots: int, info: ValidationInfo) -> int:
        stay = info.data.get("stay_connected", 0)
        if stay >= slots:
            raise ValueError(
                f"one slot is kept free, so with ble.stay_connected = {stay} it must be {stay + 1} or more, or"
                f" ble.stay_connected {slots - 1} or less"
            )
        return slots


class Upstream(Section):
    """The central ingestion service."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    batch_events: Annotated[int, Field(ge=1, le=1_000)] = 500
    batch_kib: Annotated[int, Field(ge=16, le=4_096)] = 1_024
    deadline_seconds: Seconds = 30
    retry_first_seconds: Seconds = 1
    retry_most_seconds: Seconds = 300
    compression: Literal["zstd", "gzip", "none"] = "zstd"


class Pairing(Section):
    """How pairing labels are verified."""

    key_list: Path | None = None
    root_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")] | None = None


class Logging(Section):
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Settings(Section):
    """All of it."""

    gateway: Gateway = Field(default_factory=Gateway)
    buffer: Buffer = Buffer()
    keys: Keys = Keys()
    mqtt: Mqtt = Mqtt()
    ble: Ble = Ble()
    upstream: Upstream = Upstream()
    pairing: Pairing = Pairing()
    logging: Logging = Logging()
