-- Limits: whose turn it is, and what waits, by a few steps through an index however much is queued.
ALTER TABLE tenants ADD COLUMN served_at INTEGER;                 -- when one of its runs was given out last
CREATE INDEX exports_open ON exports (tenant_id, created_at, id) WHERE status IN ('Created', 'Running');
CREATE INDEX exports_begun ON exports (tenant_id, created_at, id) WHERE status IN ('Created', 'Running') AND started_at IS NOT NULL;
CREATE INDEX exports_not_begun ON exports (tenant_id, created_at, id) WHERE status IN ('Created', 'Running') AND started_at IS NULL;
CREATE INDEX partitions_at_work ON runs (tenant_id, export_id) WHERE state = 'leased' AND window_start IS NOT NULL;
CREATE INDEX partitions_queued ON runs (export_id, window_start, id) WHERE state = 'queued' AND window_start IS NOT NULL;
CREATE INDEX unseen_queued ON runs (state_at) WHERE state = 'queued' AND window_start IS NULL;
-- Without figures SQLite would rather take these, and read all that is queued.
DROP INDEX runs_by_state;
CREATE INDEX runs_leased ON runs (id) WHERE state = 'leased';
CREATE INDEX runs_open ON runs (export_id) WHERE state IN ('queued', 'leased');
CREATE INDEX runs_stopped ON runs (exporter_id, state_at) WHERE state IN ('cancelled', 'timed_out');
DROP INDEX exports_by_status;
CREATE INDEX exports_ended ON exports (finished_at) WHERE status IN ('Completed', 'Failed', 'Cancelled', 'TimedOut');
-- An export that nobody has worked on has not begun, whatever a version before wrote.
UPDATE exports SET started_at = NULL WHERE status = 'Created';
