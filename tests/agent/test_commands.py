"""`pair`, `status`, `patches` and `unpair` while the daemon runs and while it does not; labels; keys; refusals."""

import json
import os
import socket

import pytest
from rig import BATCH, PATIENT, PROGRAM, make_gateway, random_device, wait_for


@pytest.fixture
def gateway(folder):
    made = make_gateway(folder / "gateway")
    yield made
    made.stop()


def address_of(device_id):
    return ":".join(f"{octet:02X}" for octet in device_id[-6:].encode())


def claims_of(device_id, device_type="diagnostic_sensor"):
    return ("pair", "--device-id", device_id, "--batch", BATCH, "--type", device_type)


def by_hand(device_id, *more):
    radio = ("--address", address_of(device_id), "--passkey", "012345")
    return (*claims_of(device_id), *radio, "--patient", PATIENT, *more)


def running(gateway):
    gateway.start()
    wait_for(lambda: (gateway.ask("status") or {}).get("daemon") == "running", what="the daemon")


@pytest.mark.parametrize("daemon", [True, False], ids=["running", "not running"])
def test_pair_status_unpair(gateway, daemon):
    if daemon:
        running(gateway)
    device_id = random_device()
    done = gateway.command(*by_hand(device_id))
    assert done.returncode == 0, done.stderr
    assert f"Paired: {device_id}" in done.stdout
    assert gateway.command(*by_hand(device_id)).stdout.startswith("Already paired")
    shown = gateway.ask("status")
    assert shown["daemon"] == ("running" if daemon else "not running")
    assert shown["queue"]["dosage"] == 1, "the device_activation, once"
    (row,) = gateway.ask("patches")["patches"]
    assert (row["device_id"], row["activation_method"], row["application"]) == (
        device_id,
        "manual_entry",
        "not recorded",
    )
    assert PATIENT not in json.dumps(shown) + gateway.command("status").stdout
    assert gateway.command("unpair", device_id).returncode == 0
    gone = gateway.command("unpair", device_id)
    assert gone.returncode == 1
    assert "not paired here" in gone.stderr
    assert gateway.ask("patches")["patches"] == []


def test_what_was_paired_offline_is_there_for_the_daemon_and_back(gateway):
    device_id = random_device()
    gateway.command(*by_hand(device_id))
    running(gateway)
    assert [row["device_id"] for row in gateway.ask("patches")["patches"]] == [device_id]
    gateway.kill()
    assert [row["device_id"] for row in gateway.ask("patches")["patches"]] == [device_id]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--patient", "Jane Doe"], "token of the form pt_"),
        (["--site", "back"], "--site and --applied-at together"),
        (["--site", "back", "--applied-at", "2026-11-24T10:00:00"], "with a zone"),
        (["--site", "back", "--applied-at", "2199-01-01T00:00:00Z"], "in the future"),
        (["--batch", "BATCH_20260230_ABC"], "a date that exists"),
        (["--device-id", "NFLX_1"], "a device id is NFLX_ and 8 capital letters or digits"),
        (["--address", "F0:F1"], "an address has six pairs of hex digits"),
        (["--address", "00:00:00:00:00:00"], "no patch has this address"),
        (["--transport", "mqtt"], "--address and --passkey are for BLE"),
        (["--type", "insulin_patch"], "An insulin_patch is read over MQTT only: add --transport mqtt."),
        (["--type", "pain_relief_patch"], "A pain_relief_patch is read over MQTT only"),
    ],
)
def test_refused_by_hand(gateway, more, words):
    done = gateway.command(*by_hand(random_device()), *more)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert gateway.ask("patches")["patches"] == []


def test_conflicts(gateway):
    device_id = random_device()
    gateway.command(*by_hand(device_id))
    for more, words in (
        (["--patient", "pt_anotherpatientaaaa"], "another patient"),
        (["--batch", "BATCH_20261102_ABC"], "another batch"),
        (["--address", "F0:F1:F2:F3:F4:00"], f"paired with the address {address_of(device_id)}"),
    ):
        done = gateway.command(*by_hand(device_id), *more)
        assert done.returncode == 1
        assert words in done.stderr
        assert f"unpair {device_id}" in done.stderr
    over_mqtt = gateway.command(*claims_of(device_id), "--patient", PATIENT, "--transport", "mqtt")
    assert "paired over ble" in over_mqtt.stderr
    assert gateway.command(*by_hand(device_id), "--address", address_of(device_id).lower()).returncode == 0


def test_pairing_again_for_a_lost_bond_needs_no_patient(gateway):
    device_id = random_device()
    gateway.command(*by_hand(device_id))
    again = gateway.command("pair", "--device-id", device_id, "--passkey", "000000", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["new"] is False
    assert gateway.ask("status")["queue"]["dosage"] == 1, "no second activation"
    site = ["--site", "back", "--applied-at", "2026-11-24T10:00:00Z"]
    refused = gateway.command("pair", "--device-id", device_id, "--passkey", "000000", *site)
    assert "give --patient" in refused.stderr
    assert "give --passkey" in gateway.command("pair", "--device-id", device_id).stderr
    unknown = gateway.command("pair", "--device-id", random_device(), "--passkey", "000000")
    assert "give --device-id, --batch and --type" in unknown.stderr


def test_a_patch_paired_without_a_patient(gateway):
    device_id = random_device()
    radio = ("--address", address_of(device_id), "--passkey", "012345")
    assert "No patient was given" in gateway.command(*claims_of(device_id), *radio).stdout
    assert "No patient was given" not in gateway.command(*claims_of(device_id), *radio).stdout
    refused = gateway.command(*by_hand(device_id))
    assert f"is paired without a patient: run `patch-gateway unpair {device_id}` first" in refused.stderr


@pytest.mark.parametrize("passkey", ["12345", "1234567", "12345a", "123 456", " 12345", "", "١٢٣٤٥٦"])
def test_a_passkey_has_six_digits(gateway, passkey):
    for argument, given in ((f"--passkey={passkey}", None), ("--passkey=-", f"{passkey}\n")):
        done = gateway.command(*claims_of(random_device()), argument, given=given)
        assert (done.returncode, "--passkey is the six digits" in done.stderr) == (2, True)


def test_a_passkey_from_the_input(gateway):
    done = gateway.command(*by_hand(random_device()), "--passkey", "-", given="000000\n")
    assert done.returncode == 0, done.stderr


def test_pairing_offline_says_how_long_the_window_is(gateway):
    text = gateway.settings.read_text().replace("enabled = false", "pairing_window_seconds = 300")
    gateway.settings.write_text(text)
    assert "start it within 5 minutes" in gateway.command(*by_hand(random_device())).stdout


def with_labels(gateway, folder, *more):
    """A test label, and settings under which it is accepted."""
    made = gateway.command("label", "make", "--keys", str(folder / "label-keys"), "--json", *more)
    assert made.returncode == 0, made.stderr
    label = json.loads(made.stdout)
    if "[pairing]" not in gateway.settings.read_text():
        pairing = f'[pairing]\nkey_list = "{label["key_list"]}"\nroot_key = "{label["root_key"]}"\n'
        gateway.settings.write_text(gateway.settings.read_text() + pairing)
    return label


def test_a_label(gateway, folder):
    label = with_labels(gateway, folder)
    site = ["--site", "thigh", "--applied-at", "2026-11-24T08:00:00Z"]
    done = gateway.command("pair", label["label"], "--patient", PATIENT, *site, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["application_recorded"] is True
    (row,) = gateway.ask("patches")["patches"]
    assert (row["device_id"], row["activation_method"]) == (label["device_id"], "qr_scan")
    assert gateway.ask("status")["queue"]["dosage"] == 2, "device_activation and patch_application"


def test_an_address_beside_a_label(gateway, folder):
    label = with_labels(gateway, folder)["label"]
    done = gateway.command("pair", label, "--address", "F0:F1:F2:F3:F4:00")
    assert (done.returncode, "The label names the address" in done.stderr) == (1, True)


def test_a_label_can_be_paired_again_by_hand(gateway, folder):
    """The gateway knows its secret."""
    label = with_labels(gateway, folder)
    assert gateway.command("pair", label["label"]).returncode == 0
    assert gateway.command("pair", "--device-id", label["device_id"]).stdout.startswith("Already paired")


def test_labels_that_are_refused(gateway, folder):
    good = with_labels(gateway, folder)["label"]
    expired = with_labels(gateway, folder, "--expiry", "2026-01-01")["label"]
    flipped = good[:40] + ("A" if good[40] != "A" else "B") + good[41:]
    for text, words in (
        (expired, "expired"),
        (flipped, "forged"),
        ("(01)0123", "not a pairing label"),
        (good[:-9], "damaged or incomplete"),
        (good.lower(), "damaged or incomplete"),
    ):
        done = gateway.command("pair", text)
        assert done.returncode == 1
        assert words in done.stderr
    key_list = folder / "label-keys" / "key-list.json"
    key_list.write_bytes(key_list.read_bytes()[:-10])
    assert "key list" in gateway.command("pair", good).stderr


def test_label_make_says_that_it_is_a_test(gateway, folder):
    done = gateway.command("label", "make", "--keys", str(folder / "k"))
    assert done.stdout.startswith("NFLX1:")
    assert "TEST keys" in done.stderr
    wrong = gateway.command("label", "make", "--keys", str(folder / "k"), "--device-id", "x")
    assert (wrong.returncode, "NFLX_ and 8 capital letters or digits" in wrong.stderr) == (2, True)


def test_label_make_in_a_folder_that_cannot_be(gateway, folder):
    (folder / "file").write_text("")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "maker.key").write_bytes(b"short")
    for name, words in (("file/k", "cannot be used"), ("damaged", "maker.key is no key")):
        done = gateway.command("label", "make", "--keys", str(folder / name))
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_key_list(gateway):
    assert "No key list is configured" in gateway.command("pair", "NFLX1:AAAA").stderr


def test_the_daemon_refuses_to_start_with_one_sentence(gateway):
    kek = gateway.folder / "state" / "kek"
    key = kek.read_bytes()
    kek.chmod(0o640)
    assert one_line(gateway.command("run")) == (1, True)
    kek.chmod(0o600)
    kek.write_bytes(b"short")
    assert one_line(gateway.command("run")) == (1, True)
    kek.unlink()
    assert "keys init" in gateway.command("run").stderr
    assert gateway.command("keys", "init").returncode == 0
    assert gateway.command("keys", "init").returncode == 1
    assert "There is no buffer at" in gateway.command("patches").stderr
    gateway.command(
        "pair", "--device-id", random_device(), "--batch", BATCH, "--type", "insulin_patch"
    )  # binds the new database to this key
    kek.write_bytes(key)
    assert "not the one this buffer was made with" in gateway.command("run").stderr
    kek.unlink()
    assert "restore the one" in gateway.command("run").stderr, "a new key opens nothing of it"
    gateway.settings.write_text("[mqtt]\nenabeld = true\n")
    done = gateway.command("run")
    assert (done.returncode, "Did you mean mqtt.enabled?" in done.stderr) == (2, True)


def one_line(done):
    return done.returncode, done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_secret_that_cannot_be_read(gateway):
    gateway.settings.write_text(
        gateway.settings.read_text() + '[upstream]\nurl = "http://127.0.0.1:1"\napi_key_file = "/nonexistent"\n'
    )
    done = gateway.command("run")
    assert (done.returncode, "upstream.api_key_file" in done.stderr) == (2, True)


def test_the_control_socket(gateway):
    running(gateway)
    path = gateway.folder / "run" / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    for line in (
        b"\n",
        b"nonsense\n",
        b'{"command":"explode"}\n',
        b'{"command":"unpair","arguments":[]}\n',
        b"x" * 70_000,
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(os.fspath(path))
            try:
                sock.sendall(line)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.makefile("rb").readline()
            except OSError:
                answer = b""
            assert answer == b"" or json.loads(answer)["ok"] is False
    assert gateway.ask("status")["daemon"] == "running"


def test_a_second_daemon_does_not_start(gateway):
    running(gateway)
    done = gateway.command("run")
    assert done.returncode == 1
    assert "has the buffer" in done.stderr
    assert gateway.ask("status")["daemon"] == "running"


def test_usage_errors_exit_2():
    import subprocess

    for arguments in ([], ["nonsense"], ["schema", "nonsense"], ["pair", "--site", "nose"], ["demo", "--once", "0"],
                      ["pair", "--passk=123456"], ["--conf", "x", "status"], ["patches", "--js"]):  # fmt: skip
        done = subprocess.run([PROGRAM, *arguments], check=False, capture_output=True)
        assert (done.returncode, b"Traceback" in done.stderr) == (2, False)
