-- Whose partitions wait, by a step through this index for each tenant; where nothing waits there is none to take.
CREATE INDEX partitions_waiting ON runs (tenant_id) WHERE state = 'queued' AND window_start IS NOT NULL;
DROP INDEX exports_open;
-- While its figures are young PostgreSQL would rather take these, and read all that is queued or worked on.
DROP INDEX runs_by_state;
CREATE INDEX runs_leased ON runs (id) WHERE state = 'leased';
CREATE INDEX runs_open ON runs (export_id) WHERE state IN ('queued', 'leased');
CREATE INDEX runs_stopped ON runs (exporter_id, state_at) WHERE state IN ('cancelled', 'timed_out');
DROP INDEX exports_by_status;
CREATE INDEX exports_ended ON exports (finished_at) WHERE status IN ('Completed', 'Failed', 'Cancelled', 'TimedOut');
-- Of indexes that seem equal to it PostgreSQL takes the youngest: the one that leads to the fewest rows.
DROP INDEX runs_of_exporter;
CREATE INDEX runs_of_exporter ON runs (exporter_id) WHERE state = 'leased';
DROP INDEX partitions_at_work;
CREATE INDEX partitions_at_work ON runs (tenant_id, export_id) WHERE state = 'leased' AND window_start IS NOT NULL;
DROP INDEX partitions_queued;
CREATE INDEX partitions_queued ON runs (export_id, window_start, id) WHERE state = 'queued' AND window_start IS NOT NULL;
