"""File and environment to Settings, or one SettingsError that a person can act on."""

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from config.settings import Settings

PREFIX = "PATCH_GATEWAY_"
DEFAULT_FILE = Path("/etc/patch-gateway/gateway.toml")
# Not settings: which file to read, and the boot id that the unit passes because its sandbox hides the kernel's file.
_OTHER_VARIABLES = {"PATCH_GATEWAY_CONFIG", "PATCH_GATEWAY_BOOT_ID"}


class SettingsError(Exception):
    """One sentence: which setting, what is wrong, what to do."""


class _Sources(Settings, BaseSettings):
    """Settings read from the environment, on top of what the file said."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls by keyword
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `file`, else `PATCH_GATEWAY_CONFIG`, else /etc/patch-gateway/gateway.toml where that exists."""
    named = file or (Path(environment["PATCH_GATEWAY_CONFIG"]) if "PATCH_GATEWAY_CONFIG" in environment else None)
    path = named or DEFAULT_FILE
    values: dict[str, Any] = {}
    if named or path.exists():
        values = _read(path)
    _refuse_unknown_variables(environment)
    try:
        return _Sources(**values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, path)) from None
    except SourceError:
        given = [name for name in _lists() if variable_of(name) in environment]
        raise SettingsError(f"A list in a variable is JSON: {' '.join(map(_example, given))}.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"There is no settings file {path}.") from None
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None


def setting_names(model: type[BaseModel] = Settings) -> list[str]:
    """Every setting as `section.name`."""
    names = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            names += [f"{name}.{inner}" for inner in setting_names(section)]
        else:
            names.append(name)
    return names


def _lists() -> dict[str, Any]:
    """The settings that are lists, with their defaults."""
    return {
        f"{section}.{name}": field.default
        for section, table in Settings.model_fields.items()
        if isinstance(table.annotation, type) and issubclass(table.annotation, BaseModel)
        for name, field in table.annotation.model_fields.items()
        if get_origin(field.annotation) is list
    }


def _example(name: str) -> str:
    return f"{variable_of(name)}='{json.dumps(_lists()[name])}'"


def variable_of(name: str) -> str:
    """The environment variable of `section.name`."""
    return PREFIX + name.upper().replace(".", "__")


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {variable_of(name) for name in setting_names()} | _OTHER_VARIABLES
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"{variable} is not a setting.{_nearest(variable, known)}")


def _sentence(error: ValidationError, path: Path) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = {*setting_names(), *Settings.model_fields}
        return f"{path}: {name} is not a setting.{_nearest(name, known)}"
    setting = ".".join(str(part) for part in first["loc"][:2])
    where = _example(setting) if setting in _lists() else variable_of(setting)
    message = first["msg"].removeprefix("Value error, ")
    return f"The setting {name} ({path} or {where}) is wrong: {message}."


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else " docs/settings.md lists them all."
