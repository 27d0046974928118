-- How rows are written. Exports of before are Parquet.
ALTER TABLE exports ADD COLUMN file_format TEXT NOT NULL DEFAULT 'Parquet';
