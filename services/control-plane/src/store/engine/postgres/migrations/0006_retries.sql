-- Runs that a caller asks for anew. One may be cleaned up after more than once, but never twice at a time.
ALTER TABLE runs ADD COLUMN spent bigint NOT NULL DEFAULT 0;        -- attempts before it was last asked for
ALTER TABLE exports ADD COLUMN rows_before bigint NOT NULL DEFAULT 0; -- rows that were there when it was last begun anew
DROP INDEX IF EXISTS one_cleaning;
CREATE UNIQUE INDEX one_cleaning ON runs (subject) WHERE subject IS NOT NULL AND state IN ('queued', 'leased');
