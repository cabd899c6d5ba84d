"""Settings: file, environment, and one sentence for each mistake."""

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
    ],
)
def test_mistakes(tmp_path, text, words):
    with pytest.raises(SettingsError, match=words.replace(".", r"\.").replace("?", r"\?")):
        load(write(tmp_path, text), {})


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
