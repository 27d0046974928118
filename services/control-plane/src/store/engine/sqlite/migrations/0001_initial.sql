-- Times are microseconds since 1970 (UTC), ids lower-case UUID text, lists JSON text.
CREATE TABLE tenants (
    id           TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    display_name TEXT NOT NULL,
    permission   TEXT NOT NULL CHECK (permission IN ('read', 'manage')),
    hash         BLOB NOT NULL UNIQUE,            -- SHA-256 of the key; the key itself is nowhere
    created_at   INTEGER NOT NULL,
    revoked_at   INTEGER
) STRICT;

CREATE TABLE destinations (
    id                       TEXT PRIMARY KEY,
    tenant_id                TEXT NOT NULL REFERENCES tenants (id),
    display_name             TEXT NOT NULL,
    bucket_name              TEXT NOT NULL,
    prefix                   TEXT NOT NULL,
    region                   TEXT,
    endpoint_url             TEXT,
    include_bucket_in_prefix INTEGER NOT NULL,
    addressing               TEXT NOT NULL,
    write_options            TEXT NOT NULL,
    sealed                   TEXT NOT NULL,       -- the credentials, under the vault's key
    credentials_keys         TEXT NOT NULL,       -- their names only
    created_at               INTEGER NOT NULL,
    updated_at               INTEGER NOT NULL
) STRICT;
CREATE INDEX destinations_of_tenant ON destinations (tenant_id, created_at);

CREATE TABLE exports (
    id             TEXT PRIMARY KEY,
    tenant_id      TEXT NOT NULL REFERENCES tenants (id),
    destination_id TEXT NOT NULL REFERENCES destinations (id),
    session_id     TEXT NOT NULL,
    window_start   INTEGER NOT NULL,
    window_end     INTEGER NOT NULL,
    compression    TEXT NOT NULL,
    format_version TEXT NOT NULL,
    columns        TEXT NOT NULL,
    status         TEXT NOT NULL,
    source_id      TEXT REFERENCES exports (id),
    error          TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    started_at     INTEGER,
    finished_at    INTEGER
) STRICT;
CREATE INDEX exports_of_tenant ON exports (tenant_id, created_at);
CREATE INDEX exports_of_source ON exports (source_id) WHERE source_id IS NOT NULL;

CREATE TABLE runs (
    id               TEXT PRIMARY KEY,
    export_id        TEXT NOT NULL REFERENCES exports (id),
    tenant_id        TEXT NOT NULL,
    session_id       TEXT NOT NULL,
    window_start     INTEGER,                     -- both NULL for the finalising run
    window_end       INTEGER,
    state            TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'completed', 'failed', 'cancelled', 'timed_out')),
    state_at         INTEGER NOT NULL,            -- queued: not before; leased: lease's end; otherwise: when it ended
    exporter_id      TEXT,
    incarnation      TEXT,
    fence            INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,
    errors           TEXT NOT NULL,
    files            INTEGER NOT NULL,
    rows             INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    hydrated_objects INTEGER NOT NULL,
    hydration_misses INTEGER NOT NULL,
    cursor_time      INTEGER,
    cursor_id        TEXT,
    intent           TEXT,
    frozen           INTEGER NOT NULL,
    reported         TEXT NOT NULL DEFAULT '{}',  -- what the exporter said last
    rows_estimate    INTEGER,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_of_export ON runs (export_id, window_start);
CREATE INDEX runs_by_state ON runs (state, state_at);
CREATE INDEX runs_of_exporter ON runs (exporter_id) WHERE state = 'leased';

CREATE TABLE files (
    run_id           TEXT NOT NULL REFERENCES runs (id),
    number           INTEGER NOT NULL,
    key              TEXT NOT NULL,
    rows             INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    etag             TEXT NOT NULL,
    sha256           TEXT NOT NULL,
    min_start_time   INTEGER NOT NULL,
    max_start_time   INTEGER NOT NULL,
    cursor_time      INTEGER NOT NULL,
    cursor_id        TEXT NOT NULL,
    hydrated_objects INTEGER NOT NULL,
    hydration_misses INTEGER NOT NULL,
    misses           TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;
