-- Schedules: how long their windows are, and which one is next.
ALTER TABLE exports ADD COLUMN interval_hours INTEGER;
ALTER TABLE exports ADD COLUMN next_window INTEGER;                 -- its number, from 0
ALTER TABLE exports ADD COLUMN next_end INTEGER;                    -- when it ends; NULL after the last one
CREATE INDEX schedules_by_end ON exports (next_end) WHERE status = 'IntervalScheduled';
CREATE UNIQUE INDEX one_export_of_a_window ON exports (source_id, window_start) WHERE source_id IS NOT NULL;
