"""ClickHouse over HTTP: schema, inserts under a deduplication token, counts."""

from importlib.resources import files

import httpx

# Defaults differ between versions, so every writer says them itself.
INSERT_SETTINGS = {
    "async_insert": "0",
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "date_time_input_format": "best_effort",
    "input_format_null_as_default": "0",
    "input_format_skip_unknown_fields": "0",
    "type_json_skip_duplicated_paths": "1",
    "max_partitions_per_insert_block": "0",
}
_INSERT = (
    "INSERT INTO central.events_raw (tenant_id,type,occurred_at,user_id,order_id,session_id,producer,source_service,"
    "idempotency_key,data_json) FORMAT JSONEachRow"
)
_COUNTS = (
    "SELECT count(), countIf(splitByChar('.', idempotency_key)[2] = 'gateway'), uniqExact(tenant_id, idempotency_key)"
    " FROM central.events_raw FORMAT TSV"
)


class ClickHouseError(Exception):
    """The server answered, but not with 200. `code` is ClickHouse's own."""

    def __init__(self, code: str) -> None:
        # Only the code: the message quotes the row.
        super().__init__(f"ClickHouse code {code}")
        self.code = code


class ClickHouse:
    """One server. httpx.HTTPError when it cannot be reached."""

    def __init__(self, url: str, user: str = "default", password: str = "") -> None:
        headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=30.0, trust_env=False)

    async def create_schema(self) -> None:
        sql = (files("central") / "ddl" / "clickhouse.sql").read_text(encoding="utf-8")
        plain = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
        for statement in filter(str.strip, plain.split(";")):
            await self._post(statement.encode(), {})

    async def insert(self, token: str, rows: bytes) -> None:
        """Insert a block of JSON lines; a block with this token that is there already is dropped."""
        await self._post(rows, {"query": _INSERT, "insert_deduplication_token": token, **INSERT_SETTINGS})

    async def counts(self) -> dict[str, int]:
        """Rows, the gateways' own among them, distinct keys."""
        text = await self._post(_COUNTS.encode(), {})
        events, own, keys = map(int, text.split())
        return {"events": events, "own": own, "keys": keys}

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, body: bytes, parameters: dict[str, str]) -> str:
        response = await self._client.post("/", content=body, params=parameters)
        if response.status_code != httpx.codes.OK:
            raise ClickHouseError(response.headers.get("x-clickhouse-exception-code", str(response.status_code)))
        return response.text
