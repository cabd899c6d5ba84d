"""pytest plugin for firmware teams (docs/firmware-testing.md): captures replayed, compared with expected files.

Imported by every pytest that has the package: the gateway itself is imported only when a test asks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.replay import Replayed

_SUFFIX = ".expected.jsonl"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--capture-update`."""
    group = parser.getgroup("patch-gateway")
    group.addoption("--capture-update", action="store_true", help="write the expected files of captures anew")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers", "captures(folder): run the test once for each capture of the folder, given as fixture `capture`"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The test once for each capture of the marker's folder."""
    marker = metafunc.definition.get_closest_marker("captures")
    if marker is None or "capture" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.definition.path.parent, *marker.args)
    found = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.endswith(_SUFFIX))
    if not found:
        raise pytest.UsageError(f"no capture stands in {folder}")
    metafunc.parametrize("capture", found, ids=[path.name for path in found])


class ReplayResult:
    """What a capture came to: `events` as they would be sent, `refused` reasons, `counts`, `damage` or None."""

    def __init__(self, found: list[Replayed], counts: Mapping[str, int], damage: str | None) -> None:
        self.events = [item.event for item in found if item.event is not None]
        self.refused = [item.refused for item in found if item.refused is not None]
        self.counts, self.damage, self.found = dict(counts), damage, found

    def of_type(self, name: str) -> list[dict[str, Any]]:
        """The payloads of one event type."""
        return [dict(event["data"]) for event in self.events if event["type"] == name]


class Replayer:
    """The fixture `replay`: call it with a capture."""

    def __init__(self, update: bool) -> None:
        self._update = update

    def __call__(
        self,
        capture: Path | str,
        *,
        device: str | None = None,
        gatt: Path | str | None = None,
        faults: Mapping[str, float] | None = None,
        seed: int = 1,
    ) -> ReplayResult:
        """Decode it as the gateway would. `device` and `gatt` as of `patch-gateway replay`; `faults` with `seed`."""
        from agent.replay import Replay, parse_device, read_table
        from device_drivers.captures import Capture
        from device_drivers.captures.faults import Faults

        table = read_table(Path(gatt).read_bytes()) if gatt else None
        devices = dict([parse_device(device)]) if device else {}
        replay = Replay(devices, capture=Capture(table), faults=Faults(faults, seed) if faults else None)
        with Path(capture).open("rb") as stream:
            found = list(replay.events(replay.operations(stream)))
        return ReplayResult(found, replay.counts, replay.damage)

    def expect(self, capture: Path | str, expected: Path | str | None = None, **options: Any) -> ReplayResult:
        """Compare with `expected`, else with NAME.expected.jsonl beside the capture; fail with what differs."""
        from agent import expected as expectations

        capture = Path(capture)
        path = Path(expected) if expected else capture.with_name(capture.name + _SUFFIX)
        result = self(capture, **options)
        lines = [expectations.line_of(item) for item in result.found]
        if self._update:
            path.write_bytes(expectations.write(lines))
            return result
        if not path.exists():
            pytest.fail(f"{path} is not there: `pytest --capture-update` writes it, then read it", pytrace=False)
        try:
            wanted = expectations.read(path.read_bytes())
        except expectations.ExpectedError as error:
            pytest.fail(f"{path}: {error}", pytrace=False)
        different = list(expectations.differences(wanted, lines))
        if result.damage:
            different.append(f"{capture} is damaged: {result.damage}")
        if different:
            pytest.fail("\n\n".join([f"{capture} decodes otherwise than {path}", *different]), pytrace=False)
        return result


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Replayer:
    """Replays captures through the gateway's decoders."""
    return Replayer(bool(request.config.getoption("--capture-update")))
