"""Settings: file, environment, and one sentence for each mistake."""

import re
from pathlib import Path

import pytest

from config import load as loading
from config.load import SettingsError, load, setting_names, variable_of

EXAMPLE = Path(loading.__file__).with_name("gateway.example.toml")
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def write(tmp_path, text):
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def test_the_example_is_valid():
    assert load(EXAMPLE, {}).mqtt.broker_inflight == 4_000


def test_defaults_need_no_file(monkeypatch):
    monkeypatch.setattr(loading, "DEFAULT_FILE", Path("/nonexistent/gateway.toml"))
    settings = load(None, {})
    assert settings.mqtt.enabled is False
    assert settings.gateway.id.startswith("gw-")


def test_environment_overrides_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PATCH_GATEWAY_MQTT__PORT", "1999")
    settings = load(write(tmp_path, '[mqtt]\nhost = "broker"\nport = 1\n'))
    assert (settings.mqtt.host, settings.mqtt.port) == ("broker", 1999)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mqtt]\nenabeld = true", "mqtt.enabeld is not a setting. Did you mean mqtt.enabled?"),
        ("[mqqt]\nenabled = true", "mqqt is not a setting. Did you mean mqtt?"),
        ("enabled = true", "enabled is not a setting"),
        ("[mqtt]\nport = 0", "The setting mqtt.port"),
        ("[buffer]\ncommit_cap = 5000", "PATCH_GATEWAY_BUFFER__COMMIT_CAP"),
        ('[gateway]\nid = "a.b"', "The setting gateway.id"),
        ("[mqtt", "is not TOML"),
        ("[ble]\nstay_connected = 5", "with ble.stay_connected = 5 it must be 6 or more"),
        ("[ble]\nconnection_slots = 4", "or ble.stay_connected 3 or less"),
        ('[ble]\nadapters = ["hci0", "HCI0"]', "ble.adapters.1"),
        ('[ble]\nadapters = ["00:1B:DC:0F:00:01", "00:1b:dc:0f:00:01"]', "an adapter is named twice"),
        ('[ble]\nadapters = ["x"]', "an adapter is a name such as hci0, or its address"),
        ('[ble]\nadapters = ["x"]', """or PATCH_GATEWAY_BLE__ADAPTERS='["hci0"]')"""),
    ],
)
def test_mistakes(tmp_path, text, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        load(write(tmp_path, text), {})


def test_a_list_in_a_variable(tmp_path, monkeypatch):
    path = write(tmp_path, "[ble]\nstay_connected = 2\nconnection_slots = 3\n")
    monkeypatch.setenv("PATCH_GATEWAY_BLE__ADAPTERS", '["hci1"]')
    assert load(path).ble.adapters == ["hci1"]
    monkeypatch.setenv("PATCH_GATEWAY_BLE__ADAPTERS", "hci1")
    with pytest.raises(SettingsError, match=r"A list in a variable is JSON: PATCH_GATEWAY_BLE__ADAPTERS='\[\"hci0"):
        load(path)


def test_a_variable_with_a_typo():
    with pytest.raises(SettingsError, match="Did you mean PATCH_GATEWAY_MQTT__PORT"):
        load(EXAMPLE, {"PATCH_GATEWAY_MQTT__PROT": "1"})
    load(EXAMPLE, {"PATCH_GATEWAY_BOOT_ID": "x"})


def test_a_file_that_is_not_there():
    with pytest.raises(SettingsError, match="There is no settings file"):
        load(Path("/nonexistent.toml"), {})


def test_every_setting_is_documented():
    document = DOCUMENT.read_text()
    for name in setting_names():
        section, key = name.split(".")
        assert f"## [{section}]" in document, section
        assert f"| `{key}` |" in document.split(f"## [{section}]")[1].split("\n## ")[0], name
        assert variable_of(name).startswith("PATCH_GATEWAY_")
