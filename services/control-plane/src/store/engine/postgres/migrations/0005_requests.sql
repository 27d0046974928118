-- Keys under which callers may repeat a request, for a day.
CREATE TABLE requests (
    tenant_id  uuid NOT NULL REFERENCES tenants (id),
    key        text NOT NULL,
    hash       bytea NOT NULL CHECK (length(hash) = 32),                    -- SHA-256 of the request
    export_id  uuid NOT NULL REFERENCES exports (id),
    created_at bigint NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX requests_by_age ON requests (created_at);
CREATE INDEX requests_of_export ON requests (export_id);
