-- Keys under which callers may repeat the making of a destination, for a day.
CREATE TABLE destination_requests (
    tenant_id      TEXT NOT NULL REFERENCES tenants (id),
    key            TEXT NOT NULL,
    hash           BLOB NOT NULL,                     -- of the request, keyed: it may hold secrets
    destination_id TEXT NOT NULL REFERENCES destinations (id),
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT;
CREATE INDEX destination_requests_by_age ON destination_requests (created_at);
