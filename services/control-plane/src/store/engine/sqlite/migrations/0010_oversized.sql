-- How many values of a file, and of a run's files, are larger than warehouses take: limit to count, as JSON.
ALTER TABLE files ADD COLUMN oversized TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN oversized TEXT NOT NULL DEFAULT '{}';
