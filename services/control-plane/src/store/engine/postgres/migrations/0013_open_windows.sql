-- When a run's rows were first read. Of runs made before this: when they were begun, or made, whichever is known to be early enough.
ALTER TABLE runs ADD COLUMN read_at bigint;
UPDATE runs SET read_at = CASE WHEN spent > 0 THEN created_at ELSE started_at END WHERE kind IN ('partition', 'find_experiments');
