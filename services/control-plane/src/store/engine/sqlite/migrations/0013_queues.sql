-- Whose partitions wait, by a step through this index for each tenant; where nothing waits there is none to take.
CREATE INDEX partitions_waiting ON runs (tenant_id) WHERE state = 'queued' AND window_start IS NOT NULL;
DROP INDEX exports_open;
