-- What was done and what was refused, by whom. Each record's hash covers the one before it in its chain.
CREATE TABLE audit_chains (
    chain         text PRIMARY KEY,            -- a tenant's id, or 'operator'
    number        bigint NOT NULL,             -- of the newest record, with its hash and time
    hash          bytea NOT NULL CHECK (length(hash) = 32),
    at            bigint NOT NULL,
    anchor_number bigint NOT NULL,             -- of the last record that was removed for its age
    anchor_hash   bytea NOT NULL CHECK (length(anchor_hash) = 32)
);

CREATE TABLE audit_log (
    chain      text NOT NULL REFERENCES audit_chains (chain),
    number     bigint NOT NULL,
    at         bigint NOT NULL,
    tenant_id  uuid,
    actor_kind text NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    object     text NOT NULL,
    refused    text,                           -- why; NULL if it was done
    request_id text NOT NULL,
    address    text NOT NULL,
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (chain, number)
);
CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX audit_log_of_chain_by_time ON audit_log (chain, at);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.number <= (SELECT anchor_number FROM audit_chains WHERE chain = OLD.chain) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_log is append only';
END $$;
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON audit_log
FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();

-- Beside `permission`, so that replicas of the previous version take such a key for one that manages.
ALTER TABLE api_keys ADD COLUMN is_admin boolean NOT NULL DEFAULT false;
