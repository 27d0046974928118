-- Times are microseconds since 1970 (UTC). Lists and records are JSON text: they are read whole, and jsonb refuses \u0000.
CREATE TABLE tenants (
    id           uuid PRIMARY KEY,
    display_name text NOT NULL,
    created_at   bigint NOT NULL
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants (id),
    display_name text NOT NULL,
    permission   text NOT NULL CHECK (permission IN ('read', 'manage')),
    hash         bytea NOT NULL UNIQUE CHECK (length(hash) = 32),   -- SHA-256 of the key; the key itself is nowhere
    created_at   bigint NOT NULL,
    revoked_at   bigint
);
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id);

CREATE TABLE destinations (
    id                       uuid PRIMARY KEY,
    tenant_id                uuid NOT NULL REFERENCES tenants (id),
    display_name             text NOT NULL,
    bucket_name              text NOT NULL,
    prefix                   text NOT NULL,
    region                   text,
    endpoint_url             text,
    include_bucket_in_prefix boolean NOT NULL,
    addressing               text NOT NULL,
    write_options            text NOT NULL,
    sealed                   text NOT NULL,       -- the credentials, under the vault's key
    credentials_keys         text NOT NULL,       -- their names only
    created_at               bigint NOT NULL,
    updated_at               bigint NOT NULL
);
CREATE INDEX destinations_of_tenant ON destinations (tenant_id, created_at);

CREATE TABLE exports (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants (id),
    destination_id uuid NOT NULL REFERENCES destinations (id),
    session_id     uuid NOT NULL,
    window_start   bigint NOT NULL,
    window_end     bigint NOT NULL CHECK (window_end > window_start),
    compression    text NOT NULL,
    format_version text NOT NULL,
    columns        text NOT NULL,
    status         text NOT NULL,
    source_id      uuid REFERENCES exports (id),
    error          text,
    created_at     bigint NOT NULL,
    updated_at     bigint NOT NULL,
    started_at     bigint,
    finished_at    bigint,
    rows_in_source bigint,
    reconciled_at  bigint
);
CREATE INDEX exports_by_status ON exports (status);
CREATE INDEX exports_of_tenant ON exports (tenant_id, created_at);
CREATE INDEX exports_of_source ON exports (source_id) WHERE source_id IS NOT NULL;

CREATE TABLE runs (
    id               uuid PRIMARY KEY,
    export_id        uuid NOT NULL REFERENCES exports (id),
    tenant_id        uuid NOT NULL,
    session_id       uuid NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('partition', 'finalise', 'clean_up', 'reconcile')),
    subject          uuid REFERENCES runs (id),   -- the run to clean up after
    window_start     bigint,                      -- both NULL but for a partition
    window_end       bigint,
    state            text NOT NULL CHECK (state IN ('queued', 'leased', 'completed', 'failed', 'cancelled', 'timed_out')),
    state_at         bigint NOT NULL,             -- queued: not before; leased: lease's end; otherwise: when it ended
    exporter_id      text,
    incarnation      text,
    fence            bigint NOT NULL CHECK (fence >= 0),
    attempt          bigint NOT NULL CHECK (attempt >= 0),
    errors           text NOT NULL,
    narrow           bigint NOT NULL,
    started_at       bigint,
    progressed_at    bigint,                      -- while leased: when it last got on
    patience         bigint,                      -- while leased: seconds until it must get on again
    files            bigint NOT NULL CHECK (files >= 0),
    rows             bigint NOT NULL CHECK (rows >= 0),
    bytes            bigint NOT NULL CHECK (bytes >= 0),
    hydrated_objects bigint NOT NULL,
    hydration_misses bigint NOT NULL,
    cursor_time      bigint,
    cursor_id        uuid,
    intent           text,
    frozen           boolean NOT NULL,
    reported         text NOT NULL DEFAULT '{}',  -- what the exporter said last
    reported_rows    bigint NOT NULL DEFAULT 0,
    reported_bytes   bigint NOT NULL DEFAULT 0,
    rows_estimate    bigint,
    created_at       bigint NOT NULL,
    updated_at       bigint NOT NULL,
    CHECK ((window_start IS NULL) = (window_end IS NULL) AND (window_start IS NOT NULL) = (kind = 'partition')),
    CHECK ((subject IS NOT NULL) = (kind = 'clean_up')),
    CHECK (state <> 'leased' OR (exporter_id IS NOT NULL AND incarnation IS NOT NULL))
);
CREATE INDEX runs_of_export ON runs (export_id, window_start);
CREATE INDEX runs_by_state ON runs (state, state_at) WHERE state IN ('queued', 'leased', 'cancelled', 'timed_out');
CREATE INDEX runs_of_exporter ON runs (exporter_id) WHERE state = 'leased';
CREATE UNIQUE INDEX one_of_a_kind ON runs (export_id, kind) WHERE kind IN ('finalise', 'reconcile');
CREATE UNIQUE INDEX one_cleaning ON runs (subject) WHERE subject IS NOT NULL;

CREATE TABLE files (
    run_id           uuid NOT NULL REFERENCES runs (id),
    number           bigint NOT NULL CHECK (number >= 0),
    key              text NOT NULL,
    rows             bigint NOT NULL CHECK (rows > 0),
    bytes            bigint NOT NULL,
    etag             text NOT NULL,
    sha256           text NOT NULL,
    min_start_time   bigint NOT NULL,
    max_start_time   bigint NOT NULL,
    cursor_time      bigint NOT NULL,
    cursor_id        uuid NOT NULL,
    hydrated_objects bigint NOT NULL,
    hydration_misses bigint NOT NULL,
    misses           text NOT NULL,
    PRIMARY KEY (run_id, number)
);
