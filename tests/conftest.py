"""Real parts, once per run: Mosquitto, and central with PostgreSQL and ClickHouse."""

import shutil
import tempfile
from pathlib import Path

import httpx
import pytest
from rig import make_broker, missing

from agent.demo.processes import Central, DemoError, find_mosquitto


@pytest.fixture(scope="session")
def short_folder():
    """Not pytest's own: Unix sockets need short paths, and PostgreSQL's user must get through as root."""
    folder = Path(tempfile.mkdtemp(prefix="pgw-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(short_folder):
    """A fresh short folder for one test."""
    made = Path(tempfile.mkdtemp(dir=short_folder))
    made.chmod(0o711)
    return made


@pytest.fixture
def broker(folder):
    """A real Mosquitto."""
    try:
        find_mosquitto()
    except DemoError as error:
        missing(str(error))
    made = make_broker(folder / "mosquitto")
    yield made
    made.server.stop()


class CentralService:
    """The central service with both engines, shared by the tests of a run: use keys of your own."""

    def __init__(self, folder: Path) -> None:
        self._process = Central(folder)
        self._process.launch()
        self.where = self._process.wait()
        self.url = self.where["url"]
        self.key = self._process.key_file.read_text().strip()
        self.headers = {"authorization": f"Bearer {self.key}"}

    def post(self, path: str, body, **headers: str) -> httpx.Response:
        kind = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.url + path, headers={**self.headers, **headers}, trust_env=False, **kind)

    def stats(self) -> dict:
        return httpx.get(self.url + "/v1/stats", headers=self.headers, trust_env=False).raise_for_status().json()

    def clickhouse(self, query: str) -> str:
        assert self.where["clickhouse"], self.where["note"]
        answer = httpx.post(self.where["clickhouse"], content=query, trust_env=False)
        return answer.raise_for_status().text.strip()

    def stop(self) -> None:
        self._process.stop()


@pytest.fixture(scope="session")
def central(short_folder):
    """`patch-central serve` on embedded engines."""
    service = CentralService(short_folder / "central")
    yield service
    service.stop()
