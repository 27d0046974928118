-- By what a bucket lets us in, how requests are made, deletion.
ALTER TABLE destinations ADD COLUMN identity TEXT NOT NULL DEFAULT 'keys';       -- keys, environment, or a role's ARN
ALTER TABLE destinations ADD COLUMN client_options TEXT NOT NULL DEFAULT '{}';
ALTER TABLE destinations ADD COLUMN deleted_at INTEGER;
CREATE INDEX exports_of_destination ON exports (destination_id);
