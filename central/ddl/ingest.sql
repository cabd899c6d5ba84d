-- One statement per batch: keys, events and outbox rows, each once. READ COMMITTED. Both orders matter: without the
-- first, concurrent batches deadlock; without `ord`, a key that stands twice in a batch could store one copy and
-- describe the other. An ord that is not returned is a duplicate.
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($2::text[],$3::timestamptz[],$4::text[],$5::text[],$6::text[],$7::text[],$8::text[],$9::text[],$10::text[],$11::text[],$12::bytea[]) WITH ORDINALITY
    AS i(type,occurred_at,producer,source_service,user_id,order_id,session_id,trace_id,idempotency_key,data_json,payload_hash,ord)
), k AS (
  INSERT INTO event_keys(tenant_id,idempotency_key,event_id,occurred_at,payload_hash)
  SELECT $1, idempotency_key, nextval('events_id_seq'), occurred_at, payload_hash FROM input WHERE idempotency_key IS NOT NULL ORDER BY idempotency_key COLLATE "C", ord
  ON CONFLICT DO NOTHING RETURNING idempotency_key, event_id
), new AS (
  (SELECT DISTINCT ON (k.event_id) k.event_id, i.* FROM k JOIN input i USING (idempotency_key) ORDER BY k.event_id, i.ord)
  UNION ALL SELECT nextval('events_id_seq'), i.* FROM input i WHERE idempotency_key IS NULL
), ins AS (
  INSERT INTO events(id,type,occurred_at,producer,source_service,user_id,order_id,session_id,trace_id,idempotency_key,tenant_id,data_json)
  SELECT event_id,type,occurred_at,producer,source_service,user_id,order_id,session_id,trace_id,idempotency_key,$1,data_json::jsonb FROM new
), ob AS (
  INSERT INTO olap_outbox(event_id,occurred_at) SELECT event_id,occurred_at FROM new
)
SELECT ord, event_id FROM new;
