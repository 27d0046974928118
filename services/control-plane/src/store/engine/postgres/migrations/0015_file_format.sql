-- How rows are written. Exports of before are Parquet.
ALTER TABLE exports ADD COLUMN file_format text NOT NULL DEFAULT 'Parquet';
