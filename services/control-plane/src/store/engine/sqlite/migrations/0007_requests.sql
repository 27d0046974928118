-- Keys under which callers may repeat a request, for a day.
CREATE TABLE requests (
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    key        TEXT NOT NULL,
    hash       BLOB NOT NULL,                     -- SHA-256 of the request
    export_id  TEXT NOT NULL REFERENCES exports (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT;
CREATE INDEX requests_by_age ON requests (created_at);
CREATE INDEX requests_of_export ON requests (export_id);
