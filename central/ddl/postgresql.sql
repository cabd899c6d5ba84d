-- PostgreSQL 15 and later. The contract's columns keep their names and order; every addition is marked "+".
-- Why it differs from the contract where it does: docs/central.md.
CREATE TABLE events (
  id              BIGSERIAL,
  type            VARCHAR(64)  NOT NULL,
  occurred_at     TIMESTAMPTZ  NOT NULL CHECK (isfinite(occurred_at)),
  received_at     TIMESTAMPTZ  NOT NULL DEFAULT now(),
  producer        VARCHAR(255),
  source_service  VARCHAR(255),
  user_id         VARCHAR(255),
  order_id        VARCHAR(255),
  session_id      VARCHAR(255),
  trace_id        VARCHAR(255),
  idempotency_key VARCHAR(255),
  tenant_id       VARCHAR(64)  NOT NULL,
  data_json       JSONB        NOT NULL,
  PRIMARY KEY (id, occurred_at)                       -- contract: (id)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX events_occurred_at  ON events (tenant_id, occurred_at DESC, id DESC);
CREATE INDEX events_type         ON events (tenant_id, type, occurred_at DESC, id DESC);
CREATE INDEX events_user         ON events (tenant_id, user_id, occurred_at)  WHERE user_id  IS NOT NULL;
CREATE INDEX events_order        ON events (tenant_id, order_id, occurred_at) WHERE order_id IS NOT NULL;
CREATE INDEX events_device       ON events (tenant_id, (data_json->>'device_id'), occurred_at) WHERE data_json ? 'device_id';

-- + the contract's "unique on idempotency_key (nullable)", made per tenant
CREATE TABLE event_keys (
  tenant_id       VARCHAR(64)  NOT NULL,
  idempotency_key VARCHAR(255) COLLATE "C" NOT NULL,
  event_id        BIGINT       NOT NULL,
  occurred_at     TIMESTAMPTZ  NOT NULL,
  received_at     TIMESTAMPTZ  NOT NULL DEFAULT now(),
  payload_hash    BYTEA        NOT NULL,
  PRIMARY KEY (tenant_id, idempotency_key)
);
CREATE INDEX event_keys_received ON event_keys USING brin (received_at);

-- + transactional outbox to ClickHouse
CREATE TABLE olap_outbox (
  event_id    BIGINT NOT NULL,
  occurred_at TIMESTAMPTZ NOT NULL,
  block_id    BIGINT,
  PRIMARY KEY (event_id)
) WITH (fillfactor=70);
CREATE INDEX olap_outbox_block ON olap_outbox (block_id, event_id);
CREATE SEQUENCE olap_block_seq;
-- + part of every deduplication token: another database that feeds the same ClickHouse counts its blocks from 1 too
CREATE TABLE olap_source (token UUID NOT NULL DEFAULT gen_random_uuid());
INSERT INTO olap_source DEFAULT VALUES;

CREATE TABLE batch_operations (
  id           BIGSERIAL PRIMARY KEY,
  batch_id     VARCHAR(255) UNIQUE NOT NULL,
  status       VARCHAR(32) NOT NULL CHECK (status IN ('received','processing','completed','partial','failed')),
  total_events INT,
  created_at   TIMESTAMPTZ DEFAULT now(),
  updated_at   TIMESTAMPTZ DEFAULT now(),
  tracking_url TEXT,
  tenant_id    VARCHAR(64) NOT NULL                   -- + contract 7
);
CREATE TABLE compliance_audit_logs (
  id                  BIGSERIAL PRIMARY KEY,
  timestamp           TIMESTAMPTZ NOT NULL DEFAULT now(),
  user_id             VARCHAR(255),
  action              VARCHAR(64),
  resource            TEXT,
  ip_address          VARCHAR(64),
  user_agent          TEXT,
  data_classification VARCHAR(64),
  flags               TEXT[],
  tenant_id           VARCHAR(64) NOT NULL            -- +
);
CREATE INDEX audit_tenant ON compliance_audit_logs (tenant_id, timestamp DESC);
CREATE TABLE gdpr_export_requests (
  id           BIGSERIAL PRIMARY KEY,
  request_id   VARCHAR(255) UNIQUE NOT NULL,
  user_id      VARCHAR(255) NOT NULL,
  status       VARCHAR(32) NOT NULL CHECK (status IN ('pending','running','completed','failed','expired')),
  created_at   TIMESTAMPTZ DEFAULT now(),
  completed_at TIMESTAMPTZ,
  download_url TEXT,
  tenant_id    VARCHAR(64) NOT NULL                   -- +
);
CREATE TABLE api_keys (
  id         BIGSERIAL PRIMARY KEY,
  key_hash   BYTEA UNIQUE NOT NULL,                   -- SHA-256 of a >=128-bit random key
  service    VARCHAR(255) NOT NULL,
  scopes     TEXT[] NOT NULL DEFAULT '{}',
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  rotated_at TIMESTAMPTZ,
  tenant_id  VARCHAR(64) NOT NULL                     -- + "server-assigned based on auth"
);
CREATE TABLE rate_limits (
  id         BIGSERIAL PRIMARY KEY,
  key_id     BIGINT NOT NULL REFERENCES api_keys(id) ON DELETE CASCADE,
  "limit"    INT NOT NULL CHECK ("limit" > 0),        -- reserved words: always quoted
  "window"   INT NOT NULL CHECK ("window" > 0),       -- seconds
  created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TABLE data_retention_policies (
  id       BIGSERIAL PRIMARY KEY,
  category VARCHAR(64) UNIQUE NOT NULL,
  ttl_days INT NOT NULL CHECK (ttl_days > 0)
);
CREATE TABLE ml_models (
  id         BIGSERIAL PRIMARY KEY,
  name       VARCHAR(255) NOT NULL,
  version    VARCHAR(64)  NOT NULL,
  uri        TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  UNIQUE (name, version)
);

-- + rows ClickHouse will not take (a JSON path of another type): PostgreSQL keeps them, the forwarder goes on
CREATE TABLE olap_refused (
  event_id    BIGINT PRIMARY KEY,
  occurred_at TIMESTAMPTZ NOT NULL,
  reason      TEXT NOT NULL,
  refused_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- append-only audit
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'compliance_audit_logs is append-only'; END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON compliance_audit_logs FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON compliance_audit_logs FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- + monthly partitions. UTC months whatever the session's TimeZone; idempotent; safe beside writers.
-- LOCK TABLE .. SHARE UPDATE EXCLUSIVE serialises creators and refreshes the catalog cache
-- (an advisory lock does not: the second creator still fails with "already exists");
-- it conflicts with neither INSERT nor SELECT. No DEFAULT partition: attaching
-- a month would block behind every writer of it.
CREATE FUNCTION ensure_events_partition(at TIMESTAMPTZ) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  m   TIMESTAMP   := date_trunc('month', at AT TIME ZONE 'UTC');
  lo  TIMESTAMPTZ := m AT TIME ZONE 'UTC';
  hi  TIMESTAMPTZ := (m + interval '1 month') AT TIME ZONE 'UTC';
  nam TEXT        := 'events_' || to_char(m, 'YYYY_MM');
BEGIN
  IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'events'::regclass AND inhrelid = to_regclass(nam)) THEN RETURN NULL; END IF;
  LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'events'::regclass AND inhrelid = to_regclass(nam)) THEN RETURN NULL; END IF;
  IF to_regclass(nam) IS NOT NULL THEN       -- detached by retention: never re-open a month silently
    RAISE EXCEPTION 'partition % exists but is detached', nam USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', nam);
  -- lets ATTACH skip its full scan of the new table
  EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I CHECK (occurred_at >= %L AND occurred_at < %L)', nam, nam || '_month', lo, hi);
  EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', nam, lo, hi);
  EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', nam, nam || '_month');
  RETURN nam;
END $$;
