-- Sealed under the key itself: what its events repeat (gateway, patch, patient, wear, day). NULL: their rows say it all.

ALTER TABLE dek ADD COLUMN words BLOB;

-- Events from before the clock was right, each with what will tell its time: not sent until then.

CREATE TABLE held (
  id     INTEGER PRIMARY KEY,
  lane   INTEGER NOT NULL,
  dek_id INTEGER NOT NULL,
  sealed BLOB    NOT NULL
);

-- How many events of each patch were given up, and of what time, until a gap marker names them.

CREATE TABLE lost (
  blind  BLOB    PRIMARY KEY,
  dek_id INTEGER NOT NULL,
  sealed BLOB    NOT NULL
) WITHOUT ROWID;
