-- Rows of a run that were read and not exported, because its filter reads content: how many nobody can decide, how many do not match, and which
-- content could not be had (JSON). What was read as one row is known once the run is past its commit point.
ALTER TABLE runs ADD COLUMN undecided INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN decided_against INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN undecided_fields TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN identity TEXT;
-- What a version before has read was told apart by both.
UPDATE runs SET identity = 'id_and_start_time' WHERE frozen;
