-- Two deadlines, timeouts, cleaning up, reconciling.
ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'partition';
ALTER TABLE runs ADD COLUMN subject TEXT;                        -- the run to clean up after
ALTER TABLE runs ADD COLUMN narrow INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN started_at INTEGER;
ALTER TABLE runs ADD COLUMN progressed_at INTEGER;               -- while leased: when it last got on
ALTER TABLE runs ADD COLUMN patience INTEGER;                    -- while leased: seconds until it must get on again
UPDATE runs SET kind = 'finalise' WHERE window_start IS NULL;
UPDATE runs SET started_at = created_at WHERE fence > 0;
ALTER TABLE exports ADD COLUMN rows_in_source INTEGER;
ALTER TABLE exports ADD COLUMN reconciled_at INTEGER;
CREATE INDEX exports_by_status ON exports (status);
