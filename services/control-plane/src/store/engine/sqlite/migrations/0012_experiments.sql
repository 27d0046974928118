-- Exports of all experiments: they name no project, and a run finds which there are. Only partitions are of a project.
-- SQLite cannot allow NULL in a column that is there, so the values move to a new one.
ALTER TABLE exports RENAME COLUMN session_id TO one_session;
ALTER TABLE exports ADD COLUMN session_id TEXT;                      -- NULL: all experiments
UPDATE exports SET session_id = one_session;
ALTER TABLE exports DROP COLUMN one_session;
ALTER TABLE runs RENAME COLUMN session_id TO one_session;
ALTER TABLE runs ADD COLUMN session_id TEXT;                         -- NULL unless it is a partition
UPDATE runs SET session_id = one_session WHERE kind = 'partition';
ALTER TABLE runs DROP COLUMN one_session;
CREATE UNIQUE INDEX one_finder ON runs (export_id) WHERE kind = 'find_experiments';
