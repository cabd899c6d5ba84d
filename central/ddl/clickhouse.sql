-- events_raw of the contract (6.1). A retry under the same insert_deduplication_token is dropped while the token is
-- among the last 10,000: MergeTree's default window of 0 would double the rows.
CREATE DATABASE IF NOT EXISTS central;
CREATE TABLE IF NOT EXISTS central.events_raw (
  tenant_id       String,
  type            LowCardinality(String),
  occurred_at     DateTime64(3, 'UTC'),
  user_id         String,
  order_id        String,
  session_id      String,
  producer        String,
  source_service  String,
  idempotency_key String,
  data_json       JSON(max_dynamic_paths = 256,
                       device_id String, device_type LowCardinality(String), sensor_type LowCardinality(String),
                       reading_value Nullable(Float64), dosage_amount Nullable(Float64), delivery_success Nullable(Bool)),
  CONSTRAINT tenant_is_set CHECK tenant_id != '',
  CONSTRAINT occurred_at_sane CHECK occurred_at >= toDateTime64('2000-01-01 00:00:00', 3, 'UTC') AND occurred_at < toDateTime64('2100-01-01 00:00:00', 3, 'UTC')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (type, occurred_at, user_id, order_id)
SETTINGS non_replicated_deduplication_window = 10000;
