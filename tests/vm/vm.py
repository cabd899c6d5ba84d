"""One throw-away Debian machine per test: qemu without KVM, controlled over a virtio-serial port.

    with VM(image, share, snapshot).start() as vm:
        assert vm.run("uname -r").ok().startswith("6.12")

A boot takes 15 s of emulated CPU, so tests do not boot: `make_snapshot` boots once and keeps RAM and disk, and a VM
with a snapshot continues from there in about a second. From the guest, 10.0.2.2 is the loopback of the host.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lines import PATIENCE, Lines

KERNEL_COMMAND_LINE = (
    "console=ttyS0 loglevel=4 panic=1 mitigations=off random.trust_cpu=on net.ifnames=0 audit=0 apparmor=0 nokaslr"
)
PORTS = ("agent", "hci0", "aux")  # command channel, Bluetooth radio, output of `spawn`
DISK = "state"  # what `plug_disk` plugs in: its serial number in the guest
STATE_FILE, DISK_FILE = "state", "disk.qcow2"  # of a snapshot: RAM and devices; the root disk that belongs to it


# Errors go to the guest: on ENOSPC qemu would pause the machine.
_DISK_DEVICE = {
    "driver": "virtio-blk-pci", "id": DISK, "drive": DISK, "serial": DISK, "bus": "plug",
    "werror": "report", "rerror": "report", "write-cache": "on",
}  # fmt: skip


class VMError(RuntimeError):
    """qemu stopped, or the guest does not answer."""


@dataclass(frozen=True)
class Result:
    """Outcome of one command in the guest."""

    rc: int
    out: str
    err: str

    def ok(self) -> str:
        """The output, after checking that the command succeeded."""
        assert self.rc == 0, f"exit status {self.rc}\n{self.out}\n{self.err}"
        return self.out


class VM:
    """A guest with the host folder `share` on /src; it continues from `snapshot` if there is one."""

    def __init__(self, image: Path, share: Path, snapshot: Path | None = None) -> None:
        self.image, self.share, self.snapshot = image, share, snapshot
        self.work = Path(tempfile.mkdtemp(prefix="vm."))
        self.root_disk = self.work / "root.qcow2"
        self.process: subprocess.Popen[bytes] | None = None
        self._disk: Path | None = None
        self._waiting: dict[int, Future[Result]] = {}
        self._lock = threading.Lock()
        self._last_id = 0
        self._followed: Lines | None = None

    # ---- life

    def start(self) -> Self:
        """Boot, or continue from the snapshot. Returns when the guest executes commands and has /src."""
        base = (self.snapshot / DISK_FILE, "qcow2") if self.snapshot else (self.image / "base.raw", "raw")
        try:
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base[0], "-F", base[1], self.root_disk], check=True
            )
            if self.snapshot:
                self._launch("-incoming", f"exec:cat {self.snapshot / STATE_FILE}")
                self._continue()
            else:
                self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def power_cut(self) -> None:
        """Stop the CPU at once; nothing in the guest gets a chance to flush."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def power_cut_and_boot(self) -> None:
        """Cut the power, then boot from the disk as the cut left it. Units that are enabled start by themselves."""
        self.power_cut()
        self._boot()

    def shutdown(self, timeout: float = 60) -> None:
        """Orderly stop, for tests that look at what a clean shutdown leaves behind."""
        self._send({"id": 0, "cmd": "systemctl poweroff"})
        self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.power_cut()
        shutil.rmtree(self.work, ignore_errors=True)

    # ---- commands

    def run(self, command: str, timeout: float = 60, stdin: str = "") -> Result:
        """Run a shell command in the guest. Status 124 means it was killed after `timeout` seconds (times PATIENCE)."""
        reply: Future[Result] = Future()
        process = self.process  # a boot in another thread brings a new one, which will not answer
        with self._lock:
            self._last_id = number = self._last_id + 1
        self._waiting[number] = reply
        timeout *= PATIENCE
        self._send({"id": number, "cmd": command, "timeout": timeout, "in": stdin})
        deadline = time.monotonic() + timeout + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return reply.result(0.25)
            if process.poll() is not None:
                raise VMError(f"qemu stopped during {command!r}: {self._qemu_errors()}")
        raise VMError(f"no answer to {command!r}")

    def put(self, path: str, text: str, mode: str = "644") -> None:
        """Write a text file into the guest."""
        self.run(f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", stdin=text).ok()

    def spawn(self, command: str, unit: str = "job") -> Lines:
        """Start a command as a systemd unit in the background and follow its output line by line.

        One at a time: a virtio-serial port has one reader, so the lines of an earlier command end here.
        """
        if self._followed:
            self._followed.close()
        lines = self._followed = Lines(self._connect("aux"))
        output = "-p StandardOutput=file:/dev/virtio-ports/aux -p StandardError=journal"
        self.run(f"systemd-run -q --collect --unit {unit} {output} -E PYTHONUNBUFFERED=1 {command}").ok()
        return lines

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One qemu monitor command; returns its answer."""
        with self._connect("qmp") as connection, connection.makefile("rw") as stream:
            stream.readline()  # greeting
            for name, args in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": args}) + "\n")
                stream.flush()
                while "event" in (reply := json.loads(stream.readline())):
                    pass
                if "error" in reply:
                    raise VMError(f"{name}: {reply['error']['desc']}")
        return reply["return"]

    def plug_disk(self, path: Path) -> None:
        """Plug in the disk that is served there over NBD, as /dev/disk/by-id/virtio-state. A boot finds it again."""
        self._disk = path
        self.qmp("blockdev-add", **_blockdev(path))
        self.qmp("device_add", **_DISK_DEVICE)
        self.run(f"until [ -e /dev/disk/by-id/virtio-{DISK} ]; do sleep .05; done", timeout=20).ok()

    # ---- inside

    def _launch(self, *options: str) -> None:
        with (self.work / "qemu.err").open("wb") as errors:
            self.process = subprocess.Popen(
                [*self._command_line(), *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
        self._agent = self._connect("agent")
        self._up = threading.Event()
        threading.Thread(target=self._read_replies, args=(self._agent, self._up), daemon=True).start()

    def _boot(self) -> None:
        self._launch()
        if not self._up.wait(120):
            raise VMError("no answer:\n" + (self.work / "console.log").read_text(errors="replace")[-2000:])

    def _continue(self) -> None:
        deadline = time.monotonic() + 60
        while self.qmp("query-status")["status"] == "inmigrate":
            if time.monotonic() > deadline:
                raise VMError("snapshot not loaded: " + self._qemu_errors())
            time.sleep(0.05)
        self.qmp("cont")
        # The guest's clock stands at the time of the snapshot; qemu saves no machine that has a 9p share mounted.
        self.run(f"date -s @{time.time():.3f} && mount /src").ok()

    def _command_line(self) -> list[str]:
        command = [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max",
            "-m", "384", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", f"{self.image}/vmlinuz", "-initrd", f"{self.image}/initrd.gz", "-append", KERNEL_COMMAND_LINE,
            "-chardev", f"file,id=console,path={self.work}/console.log", "-serial", "chardev:console",
            "-chardev", f"socket,id=qmp,path={self.work}/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-drive", f"file={self.root_disk},if=none,id=root,format=qcow2", "-device", "virtio-blk-pci,drive=root",
            "-device", "virtio-rng-pci", "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net",
            "-fsdev", f"local,id=src,path={self.share},security_model=none,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=src,mount_tag=src", "-device", "virtio-serial-pci",
        ]  # fmt: skip
        for port in PORTS:
            command += ["-chardev", f"socket,id={port},path={self.work}/{port},server=on,wait=off"]
            command += ["-device", f"virtserialport,chardev={port},name={port}"]
        command += ["-device", f"pcie-root-port,id={_DISK_DEVICE['bus']},chassis=1,slot=1"]
        if self._disk:
            command += ["-blockdev", json.dumps(_blockdev(self._disk)), "-device", json.dumps(_DISK_DEVICE)]
        return command

    def _connect(self, name: str) -> socket.socket:
        for _ in range(1000):
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.work / name))
            except OSError:
                connection.close()
            else:
                return connection
            if self.process.poll() is not None:
                raise VMError("qemu did not start: " + self._qemu_errors())
            time.sleep(0.01)
        raise VMError(f"cannot connect to {name}")

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._agent.sendall((json.dumps(message) + "\n").encode())
        except OSError as error:
            raise VMError(f"the machine is off: {error}") from error

    def _read_replies(self, agent: socket.socket, up: threading.Event) -> None:
        with agent, agent.makefile("rb") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                reply = json.loads(line)
                if reply["id"] == 0:
                    up.set()
                elif waiting := self._waiting.pop(reply["id"], None):
                    waiting.set_result(Result(reply["rc"], reply["out"], reply["err"]))

    def _qemu_errors(self) -> str:
        return (self.work / "qemu.err").read_text(errors="replace")[-1000:]


def _blockdev(path: Path) -> dict[str, Any]:
    """A disk behind NBD whose flushes and errors pass through qemu."""
    server = {"driver": "nbd", "server": {"type": "unix", "path": str(path)}}
    return {"driver": "raw", "node-name": DISK, "file": server, "cache": {"direct": False, "no-flush": False}}


def make_snapshot(image: Path, share: Path, target: Path, prepare: str) -> None:
    """Boot once, run `prepare` in the guest, and keep the machine in the folder `target` for VM(snapshot=target)."""
    with VM(image, share).start() as vm:
        state = vm.run("systemctl is-system-running --wait", timeout=120).out.strip()
        if state != "running":
            raise VMError(f"the image boots to {state!r}: " + vm.run("systemctl --failed; journalctl -b -p 4").out)
        vm.run(prepare, timeout=120).ok()
        # Fewer used pages make a smaller, faster state file; qemu refuses to save a mounted 9p share.
        vm.run("umount /src && sync && echo 3 > /proc/sys/vm/drop_caches").ok()
        target.mkdir(parents=True)
        vm.qmp("stop")
        vm.qmp("migrate-set-parameters", **{"max-bandwidth": 2**40})
        vm.qmp("migrate", uri=f"exec:cat > {target / STATE_FILE}")
        while (status := vm.qmp("query-migrate")["status"]) not in {"completed", "failed"}:
            time.sleep(0.05)
        if status == "failed":
            raise VMError("qemu could not save its state")
        vm.qmp("quit")
        vm.process.wait()
        shutil.move(vm.root_disk, target / DISK_FILE)
