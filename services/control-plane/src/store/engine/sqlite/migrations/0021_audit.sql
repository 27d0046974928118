-- What was done and what was refused, by whom. Each record's hash covers the one before it in its chain.
CREATE TABLE audit_chains (
    chain         TEXT PRIMARY KEY NOT NULL,   -- a tenant's id, or 'operator'
    number        INTEGER NOT NULL,            -- of the newest record, with its hash and time
    hash          BLOB NOT NULL,
    at            INTEGER NOT NULL,
    anchor_number INTEGER NOT NULL,            -- of the last record that was removed for its age
    anchor_hash   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    chain      TEXT NOT NULL REFERENCES audit_chains (chain),
    number     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    tenant_id  TEXT,
    actor_kind TEXT NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    refused    TEXT,                           -- why; NULL if it was done
    request_id TEXT NOT NULL,
    address    TEXT NOT NULL,
    hash       BLOB NOT NULL,
    PRIMARY KEY (chain, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX audit_log_of_chain_by_time ON audit_log (chain, at);

CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE ON audit_log BEGIN
    SELECT RAISE(ABORT, 'audit_log is append only');
END;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log
WHEN OLD.number > (SELECT anchor_number FROM audit_chains WHERE chain = OLD.chain) BEGIN
    SELECT RAISE(ABORT, 'audit_log is append only');
END;

-- Beside `permission`, so that replicas of the previous version take such a key for one that manages.
ALTER TABLE api_keys ADD COLUMN is_admin INTEGER NOT NULL DEFAULT 0;
