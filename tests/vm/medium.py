"""The file system that the buffer is on, on a disk that fails. It outlives the machines that it is plugged into."""

import subprocess
from contextlib import suppress

from clinic import Clinic
from volatile_disk import VolatileDisk

STATE = "/var/lib/patch-gateway"
LABEL = "state"
FSTAB = f"LABEL={LABEL} {STATE} ext4 noatime,commit=60,nofail 0 2"


class UnnoticedError(AssertionError):
    """Each failing request was one that nobody waited for."""


class Medium:
    """An empty ext4 of `mib` MiB, served from `folder`."""

    def __init__(self, folder, mib=96):
        self._folder, self._socket = folder, folder / "disk"
        self.image = folder / "state.img"
        # No blocks are kept for root, and nothing is left for the kernel to do in the background.
        options = ["-m", "0", "-L", LABEL, "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]
        subprocess.run(["mke2fs", "-q", "-t", "ext4", *options, self.image, f"{mib}M"], check=True, capture_output=True)
        self.disk = VolatileDisk(self.image, self._socket)

    def plug_into(self, vm):
        """As the state directory, of every boot too."""
        vm.plug_disk(self._socket)
        vm.run(
            f"echo '{FSTAB}' >> /etc/fstab && sync -f /etc/fstab && mkdir -p {STATE} && mount {STATE}"
            f" && chown patch-gateway: {STATE} && chmod 700 {STATE} && sync -f {STATE}"
        ).ok()

    def fail_commit(self, kind, noticed, provoke=lambda: None):
        """A commit of the database fails; again until `noticed`, as it may be a write that nobody waits for."""
        for _ in range(5):
            self.disk.fail_commit(kind)
            provoke()
            with suppress(AssertionError):
                Clinic.wait_for(noticed, 8)
                return
        raise UnnoticedError(f"nobody notices that a {kind} fails")

    def read_after_cut(self, *names):
        """Files as the next boot would find them, the journal replayed; their copies."""
        copies = [self._folder / name for name in names]
        subprocess.run(["e2fsck", "-p", "-E", "journal_only", self.image], check=True, capture_output=True)
        for copy in copies:
            subprocess.run(["debugfs", "-R", f"dump {copy.name} {copy}", self.image], check=True, capture_output=True)
        return copies
