"""One buffer with one glucose patch, for the tests of records and of bonds."""

import pytest
from glucose import KEK, RECORD, Gateway

from buffer.store import EventBuffer


@pytest.fixture
async def gateway(tmp_path):
    opened = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.01)
    await opened.submit(lambda draft: draft.put_device(RECORD), now=True)
    yield Gateway(opened)
    await opened.close()
