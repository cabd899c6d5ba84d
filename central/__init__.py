"""Reference ingestion service: HTTP API, PostgreSQL as the master copy, ClickHouse as its projection."""
