-- What an exporter said of rows and bytes is added up by columns, not out of JSON.
ALTER TABLE runs ADD COLUMN reported_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN reported_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET reported_rows = coalesce(json_extract(reported, '$.rows'), 0), reported_bytes = coalesce(json_extract(reported, '$.bytes'), 0);
