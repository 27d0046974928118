-- The filter of an export as it was written; NULL when there is none.
ALTER TABLE exports ADD COLUMN filter TEXT;
