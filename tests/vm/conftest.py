"""Fresh machines that continue from one snapshot. Both come from run.py: `make test-vm`."""

import contextlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # vm, ward, clinic

from lines import PATIENCE  # noqa: E402
from vm import VM, VMError  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(240 * PATIENCE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of the guest's journal."""
    report = yield
    if report.failed and call.when != "teardown" and hasattr(item, "machine"):
        with contextlib.suppress(VMError):
            report.sections.append(("journal of the guest", item.machine.run("journalctl -b -n 60").out))
    return report


@pytest.fixture(scope="session")
def rig(pytestconfig):
    """Image, stage and snapshot, as run.py made them."""
    if not hasattr(pytestconfig, "vm_rig"):
        pytest.fail("These tests need their machine: run them with `make test-vm`.", pytrace=False)
    return pytestconfig.vm_rig


@pytest.fixture(scope="session")
def snapshot(rig):
    """The folder of the snapshot."""
    return rig.snapshot


@pytest.fixture
def vm(request, rig, snapshot):
    """A fresh machine, set up as docs/deployment.md says, with the product on /src."""
    with VM(rig.image, rig.stage, snapshot).start() as machine:
        request.node.machine = machine
        yield machine
