-- Keys expire and say when they were last used. A suspended tenant makes no calls and has nothing begun; of a deleted one
-- everything ends, and `emptied_at` is when it had.
ALTER TABLE api_keys ADD COLUMN expires_at bigint;
ALTER TABLE api_keys ADD COLUMN last_used_at bigint;
ALTER TABLE tenants ADD COLUMN suspended_at bigint;
ALTER TABLE tenants ADD COLUMN deleted_at bigint;
ALTER TABLE tenants ADD COLUMN emptied_at bigint;
CREATE INDEX tenants_to_empty ON tenants (deleted_at) WHERE deleted_at IS NOT NULL AND emptied_at IS NULL;
