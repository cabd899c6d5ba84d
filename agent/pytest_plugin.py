"""pytest plugin for firmware teams (docs/firmware-testing.md): captures replayed, compared with expected files.

Imported by every pytest that has the package: the gateway itself is imported only when a test asks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.expected import Line
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
    if len(marker.args) != 1:
        pytest.fail('the marker names a folder: @pytest.mark.captures("captures")', pytrace=False)
    folder = metafunc.definition.path.parent / marker.args[0]
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if not path.name.endswith(_SUFFIX)]
    if not found:
        pytest.fail(f"no capture stands in {folder}", pytrace=False)
    for path in files:
        # One expected file may be shared by captures of several formats.
        stem = path.name.removesuffix(_SUFFIX)
        if stem != path.name and not any(capture.name.startswith(stem) for capture in found):
            pytest.fail(f"{path}: the capture that it belongs to is not there", pytrace=False)
    metafunc.parametrize("capture", found, ids=[path.name for path in found])


@pytest.fixture
def capture() -> Path:
    """Given by the marker."""
    pytest.fail('`capture` comes from a marker: @pytest.mark.captures("captures")', pytrace=False)


class ReplayResult:
    """What a capture came to: `events` as they would be sent (dicts), `refused` reasons, `counts`, `damage` or None,
    and how many frames are `encrypted`.
    """

    def __init__(
        self, found: list[Replayed], counts: Mapping[str, int], damage: str | None, encrypted: int = 0
    ) -> None:
        self.events = [item.event for item in found if item.event is not None]
        self.refused = [item.refused for item in found if item.refused is not None]
        self.counts, self.damage, self.encrypted, self.found = dict(counts), damage, encrypted, found

    def of_type(self, name: str) -> list[dict[str, Any]]:
        """The payloads of one event type; ValueError where there is no such type."""
        from schemas.event_types import EventType

        EventType(name)
        return [dict(event["data"]) for event in self.events if event["type"] == name]


class Replayer:
    """The fixture `replay`: call it with a capture."""

    def __init__(self, folder: Path, *, update: bool) -> None:
        self._folder, self._update = folder, update

    def __call__(
        self,
        capture: Path | str,
        *,
        device: str | None = None,
        gatt: Path | str | None = None,
        faults: Mapping[str, float] | None = None,
        seed: int = 1,
    ) -> ReplayResult:
        """Decode it as the gateway would. Paths are beside the test file. `device` and `gatt` (a file) as of
        `patch-gateway replay`; `faults` with `seed`.
        """
        from agent.replay import Replay, UsageError, parse_devices, read_table
        from device_drivers.captures import Capture
        from device_drivers.captures.faults import Faults

        path = self._folder / capture
        if not path.is_file():
            pytest.fail(f"there is no file {path}", pytrace=False)
        try:
            table = read_table((self._folder / gatt).read_bytes()) if gatt else None
            replay = Replay(parse_devices([device] if device else []), capture=Capture(table))
            replay.faults = Faults(faults, seed) if faults else None
            strangers = {device.partition("=")[0].upper()} if device else set()
        except (UsageError, ValueError, OSError) as error:
            problem = str(error)
        else:
            with path.open("rb") as stream:
                found = list(replay.events(replay.operations(stream)))
            for address in strangers:
                if any(note.startswith(address) for note in replay.notes):
                    pytest.fail(f"{path}: {address} is not in it", pytrace=False)
            return ReplayResult(found, replay.counts, replay.damage, replay.capture.counts.encrypted)
        pytest.fail(problem, pytrace=False)

    def expect(self, capture: Path | str, expected: Path | str | None = None, **options: Any) -> ReplayResult:
        """Compare with `expected`, else with NAME.expected.jsonl beside the capture; fail with what differs."""
        from agent import expected as expectations

        result = self(capture, **options)
        capture = self._folder / capture
        path = self._folder / expected if expected else capture.with_name(capture.name + _SUFFIX)
        lines = [expectations.line_of(item) for item in result.found]
        try:
            problems = self._differences(path, lines, result, capture)
        except expectations.ExpectedError as error:
            problems = [f"{path}: {error}"]
        if problems:
            pytest.fail("\n\n".join(problems), pytrace=False)
        return result

    def _differences(self, path: Path, lines: list[Line], result: ReplayResult, capture: Path) -> list[str]:
        from agent import expected as expectations

        unread = [f"{capture} is damaged: {result.damage}"] if result.damage else []
        if result.encrypted:
            unread.append(f"{capture}: {result.encrypted} frames are encrypted, and no key is there to read them")
        if self._update and not unread:
            expectations.replace(path, lines)
            return []
        if self._update:
            return [*unread, f"{path} is not written"]
        if unread and not path.exists():
            return unread
        if not path.exists():
            return [f"{path} is not there: `pytest --capture-update` writes it, then read it"]
        different = list(expectations.differences(expectations.read(path.read_bytes()), lines))
        return [f"{capture} decodes otherwise than {path}", *different, *unread] if different or unread else []


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Replayer:
    """Replays captures through the gateway's decoders."""
    return Replayer(request.path.parent, update=bool(request.config.getoption("--capture-update")))
