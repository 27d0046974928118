-- Keys under which callers may repeat the making of a destination, for a day.
CREATE TABLE destination_requests (
    tenant_id      uuid NOT NULL REFERENCES tenants (id),
    key            text NOT NULL,
    hash           bytea NOT NULL CHECK (length(hash) = 32),                -- of the request, keyed: it may hold secrets
    destination_id uuid NOT NULL REFERENCES destinations (id),
    created_at     bigint NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX destination_requests_by_age ON destination_requests (created_at);
