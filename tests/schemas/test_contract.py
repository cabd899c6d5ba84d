"""The models against the contract document, field by field."""

import re
from pathlib import Path

import pytest

from schemas import responses, shared
from schemas.envelope import IngestEnvelope
from schemas.event_types import EventType
from schemas.payloads import PAYLOADS

DOCUMENT = Path(__file__).parents[3] / "shared" / "contract.md"
# Absent on the wire: the server assigns it from the API key.
ABSENT = {("IngestEnvelope", "tenant_id")}


@pytest.fixture(scope="module")
def document() -> str:
    if not DOCUMENT.exists():
        pytest.skip("the contract document is not beside this checkout (../shared/contract.md)")
    return DOCUMENT.read_text()


def sections(document: str) -> dict[str, list[str]]:
    """Heading name -> its `- field` lines."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in document.splitlines():
        heading = re.fullmatch(r"\d\.\d+ (\w+)", line.strip())
        if heading:
            name = heading[1]
            found[name] = []
        elif line.startswith("- ") and name:
            found[name].append(line[2:].strip())
        elif re.match(r"\d+\. ", line):
            name = ""
    return found


def models():
    named = {model.__name__: model for model in PAYLOADS.values()}
    for module in (shared, responses):
        named |= {
            name: getattr(module, name)
            for name in ("Money", "Geo", "Device", "IngestResponse", "Event", "EventsResponse", "ErrorResponse")
            if hasattr(module, name)
        }
    return named | {"IngestEnvelope": IngestEnvelope}


def properties_of(model, schema=None):
    schema = schema or model.model_json_schema()
    definitions = schema.get("$defs", {})
    return schema.get("properties", {}), set(schema.get("required", [])), definitions


def resolved(prop: dict, definitions: dict) -> dict:
    """Without the null of an optional field and without references."""
    while True:
        if "anyOf" in prop:
            branches = [branch for branch in prop["anyOf"] if branch.get("type") != "null"]
            assert len(branches) == 1, prop
            prop = {**branches[0], **{k: v for k, v in prop.items() if k not in ("anyOf", "default")}}
        elif "$ref" in prop:
            prop = definitions[prop["$ref"].split("/")[-1]]
        else:
            return prop


def enum_of(prop: dict) -> list[str]:
    return prop["enum"] if "enum" in prop else [prop["const"]]


def check(kind: str, prop: dict, definitions: dict, where: str) -> None:
    """One field's type text of the document against its JSON Schema."""
    prop = resolved(prop, definitions)
    kind = kind.strip()
    if kind.startswith("enum ["):
        assert enum_of(prop) == [item.strip() for item in kind[6:].rstrip("]").split(",")], where
    elif kind.startswith("[{"):
        assert prop["type"] == "array", where
        check(kind[1 : kind.rindex("}") + 1], prop["items"], definitions, where)
    elif kind.startswith("{"):
        check_object(kind[1 : kind.rindex("}")], prop, definitions, where)
    elif kind.startswith("["):
        inner = kind[1 : kind.index("]")]
        assert prop["type"] == "array", where
        if "min 2" in kind:
            assert prop["minItems"] == 2, where
        if inner != "Event":
            check(inner, prop["items"], definitions, where)
    else:
        check_scalar(kind, prop, where)


def check_object(fields: str, prop: dict, definitions: dict, where: str) -> None:
    assert prop["type"] == "object", where
    parts, depth, current = [], 0, ""
    for char in fields:
        depth += char in "{["
        depth -= char in "}]"
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    names = set()
    for part in [*parts, current]:
        name, _, kind = part.strip().partition(":")
        names.add(name)
        assert name in prop["properties"], f"{where}.{name}"
        check(kind, prop["properties"][name], definitions, f"{where}.{name}")
    assert names == set(prop["properties"]), where
    assert set(prop.get("required", [])) == names, where


def check_scalar(kind: str, prop: dict, where: str) -> None:
    name = re.match(r"\w+", kind)[0]
    bound = re.search(r"([\d.]+)\.\.(\d+)", kind)
    expected = {
        "string": "string",
        "number": "number",
        "int": "integer",
        "bool": "boolean",
        "datetime": "string",
        "duration": "string",
        "uri": "string",
        "date": "string",
    }
    if name in ("Money", "Geo", "Device"):
        assert prop["title"] == name, where
        return
    if name == "EventType":
        assert enum_of(prop) == [item.value for item in EventType], where
        return
    if name == "object":
        return
    assert prop["type"] == expected[name], where
    if ">=" in kind:
        assert prop["minimum"] == float(re.search(r">=\s*(\d+)", kind)[1]), where
    elif bound:
        assert (prop["minimum"], prop["maximum"]) == (float(bound[1]), float(bound[2])), where
    elif name in ("number", "int"):
        assert "minimum" not in prop, where
        assert "maximum" not in prop, where
    if name in ("duration", "uri"):
        assert prop["format"] == name, where
    if "NFLX" in kind:
        assert re.fullmatch(prop["pattern"], "NFLX_0A1B2C3D"), where
    if "BATCH" in kind:
        assert re.fullmatch(prop["pattern"], "BATCH_20261124_0AZ"), where
    if "ISO-4217" in kind:
        assert re.fullmatch(prop["pattern"], "INR"), where
    if "safe characters" in kind:
        assert not re.fullmatch(prop["pattern"], "a b"), where


def test_all_event_types(document):
    line = next(line for line in document.splitlines() if line.startswith("- cart, checkout"))
    names = [name.strip() for name in line[2:].split(",")]
    assert names == [item.value for item in EventType]
    assert len(names) == 45


def test_every_section_has_its_model(document):
    found = sections(document)
    wanted = {name for name in found if name in models() or name.endswith(("Event", "Report", "Response"))}
    assert wanted <= set(models())
    assert len(PAYLOADS) == 25


@pytest.mark.parametrize("name", sorted(models()))
def test_fields(document, name):
    lines = sections(document)[name]
    properties, required, definitions = properties_of(models()[name])
    seen = set()
    for line in lines:
        field, _, kind = line.partition(":")
        optional = field.endswith("?") or "(optional unless" in kind
        field = field.rstrip("?")
        if (name, field) in ABSENT:
            assert field not in properties
            continue
        seen.add(field)
        assert field in properties, f"{name}.{field}"
        assert (field in required) is not optional, f"{name}.{field} required?"
        check(
            re.sub(
                r"\((optional unless|e\.g\.|event-specific|one of event|negative|percentage|anonymized).*", "", kind
            ),
            properties[field],
            definitions,
            f"{name}.{field}",
        )
    assert seen == set(properties), name
