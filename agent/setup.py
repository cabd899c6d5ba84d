"""From settings to the objects of the floors below: the only place that spells both out."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from os import environ
from pathlib import Path

from buffer.errors import InUseError
from buffer.keys import read_kek
from buffer.quarantine import Limits
from buffer.store import EventBuffer
from config.load import SettingsError
from config.settings import Buffer, Settings
from device_drivers.links.mqtt import MqttLink
from device_drivers.links.mqtt_connection import MqttOptions
from device_drivers.profiles.mqtt_topics import SESSIONS
from uploader.ingest_api import IngestApi

# How long a starting daemon and a command wait for each other.
PATIENCE_SECONDS = 5.0


def database_path(settings: Settings) -> Path:
    """Where the buffer is."""
    return settings.gateway.state_dir / "buffer.db"


def socket_path(settings: Settings) -> Path:
    """Where the control socket is."""
    return settings.gateway.runtime_dir / "control.sock"


def kek_path(settings: Settings) -> Path:
    """Where the key file is, when systemd hands over no credential."""
    return settings.keys.kek_file or settings.gateway.state_dir / "kek"


def credentials_directory() -> Path | None:
    """Where systemd put the unit's credentials."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


async def open_buffer_soon(settings: Settings) -> EventBuffer:
    """`open_buffer` for the daemon: a command that has the buffer open is done in a moment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await open_buffer(settings)
        except InUseError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def open_buffer(settings: Settings) -> EventBuffer:
    """The buffer under its key; InUseError, SealError, SchemaError or MediumError otherwise."""
    kek = read_kek(kek_path(settings), credentials_directory(), database_path(settings))
    return await EventBuffer.open(
        database_path(settings),
        kek,
        gateway_id=settings.gateway.id,
        quota_octets=settings.buffer.quota_mib << 20,
        limits=_limits(settings.buffer),
        reserve_octets=settings.buffer.reserve_mib << 20,
        tick=settings.buffer.tick_seconds,
        cap=settings.buffer.commit_cap,
    )


def _limits(section: Buffer) -> Limits:
    """What strangers send must not fill the buffer."""
    return Limits(min(section.quarantine_mib, section.quota_mib // 4) << 20, section.quarantine_per_sender)


def secret(file: Path | None, credential: str, setting: str) -> str | None:
    """A secret from the unit's credentials, else from the file a setting names; None where neither is given."""
    credentials = credentials_directory()
    source = credentials / credential if credentials and (credentials / credential).exists() else file
    if source is None:
        return None
    try:
        return source.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{source} ({setting}) cannot be read: {reason}.") from None


def tls_context(ca_file: Path | None, certificate: Path | None, key: Path | None, setting: str) -> ssl.SSLContext:
    """A client's context; with `ca_file` only that authority is trusted."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise SettingsError(f"The certificates of {setting} cannot be used: {error}.") from None
    return context


def mqtt_links(settings: Settings) -> list[MqttLink]:
    """The sessions, the bulk last: what is urgent waits behind no full window of doses, and neither behind readings."""
    mqtt = settings.mqtt
    if not mqtt.enabled:
        return []
    password = secret(mqtt.password_file, "mqtt-password", "mqtt.password_file")
    tls = tls_context(mqtt.ca_file, mqtt.certificate_file, mqtt.key_file, "mqtt") if mqtt.tls else None
    links = []
    for name, kinds in SESSIONS.items():
        options = MqttOptions(
            mqtt.host,
            mqtt.port,
            client_id=f"{settings.gateway.id}-{name}",
            username=mqtt.username,
            password=password,
            tls=tls,
            protocol=None if mqtt.protocol == "auto" else mqtt.protocol,
            keepalive=mqtt.keepalive_seconds,
            session_expiry=mqtt.session_expiry_days * 86_400,
            window=mqtt.broker_inflight,
        )
        links.append(MqttLink(options, kinds))
    return links


@dataclass(frozen=True, slots=True)
class NoUpstream:
    """Why nothing is sent."""

    reason: str


def upstream(settings: Settings) -> IngestApi | NoUpstream:
    """The client of the central service, or why there is none."""
    section = settings.upstream
    if section.url is None:
        return NoUpstream("no upstream is configured (upstream.url): events are kept here")
    api_key = secret(section.api_key_file, "api-key", "upstream.api_key_file")
    if api_key is None:
        raise SettingsError("upstream.url is set, but there is no API key: set upstream.api_key_file.")
    tls = tls_context(section.ca_file, None, None, "upstream") if section.url.startswith("https") else None
    return IngestApi(section.url, api_key, deadline=section.deadline_seconds, compression=section.compression, tls=tls)
