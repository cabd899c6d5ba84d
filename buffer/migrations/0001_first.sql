-- Nothing in clear names a person, a device or a value: identities are blind indexes (HMAC) or local numbers,
-- everything else is sealed.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value NOT NULL
) WITHOUT ROWID;

CREATE TABLE kek (
  epoch       INTEGER PRIMARY KEY,
  check_value BLOB NOT NULL
);

-- device_ref 0 is the gateway itself. day is the UTC day of receipt, or 'registry'.
CREATE TABLE dek (
  id         INTEGER PRIMARY KEY,
  device_ref INTEGER NOT NULL,
  day        TEXT    NOT NULL,
  epoch      INTEGER NOT NULL,
  dict_id    INTEGER NOT NULL,
  wrapped    BLOB    NOT NULL
);

CREATE TABLE device (
  ref    INTEGER PRIMARY KEY,
  blind  BLOB    NOT NULL UNIQUE,
  dek_id INTEGER NOT NULL,
  sealed BLOB    NOT NULL
);

-- Who wore an unpaired patch, until when: what it measured then must not reach its next patient.
CREATE TABLE former (
  blind  BLOB    PRIMARY KEY,
  dek_id INTEGER NOT NULL,
  sealed BLOB    NOT NULL
) WITHOUT ROWID;

-- The order of ids is the order of boots.
CREATE TABLE mark (
  id         INTEGER PRIMARY KEY,
  device_ref INTEGER NOT NULL,
  stream     TEXT    NOT NULL,
  boot       BLOB    NOT NULL,
  floor      INTEGER NOT NULL,
  high       INTEGER NOT NULL,
  gaps       TEXT    NOT NULL,
  UNIQUE (device_ref, stream, boot)
);

CREATE TABLE event (
  id     INTEGER PRIMARY KEY,
  lane   INTEGER NOT NULL,
  dek_id INTEGER NOT NULL,
  sealed BLOB    NOT NULL
);

-- The oldest urgent row is found without walking past thousands of sensor rows (lane 2), which need no index.
CREATE INDEX event_few ON event (lane, id) WHERE lane <> 2;

-- Adhesion reports that wait for their application (site and time) to be recorded.
CREATE TABLE waiting (
  id         INTEGER PRIMARY KEY,
  device_ref INTEGER NOT NULL,
  dek_id     INTEGER NOT NULL,
  sealed     BLOB    NOT NULL
);

CREATE TABLE quarantine (
  id     INTEGER PRIMARY KEY,
  digest BLOB    NOT NULL UNIQUE,
  sender BLOB    NOT NULL,
  seen   INTEGER NOT NULL,
  dek_id INTEGER NOT NULL,
  sealed BLOB    NOT NULL
);

-- What a full quarantine could not keep, until a gap marker names it.
CREATE TABLE overflow (
  sender   BLOB    PRIMARY KEY,
  count    INTEGER NOT NULL,
  first_at TEXT    NOT NULL,
  last_at  TEXT    NOT NULL,
  dek_id   INTEGER NOT NULL,
  sealed   BLOB    NOT NULL
) WITHOUT ROWID;
