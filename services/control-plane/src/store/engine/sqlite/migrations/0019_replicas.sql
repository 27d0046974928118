-- Control planes that run, and the ids of the master keys that each of them has (JSON).
CREATE TABLE replicas (
    id      TEXT PRIMARY KEY NOT NULL,
    name    TEXT NOT NULL,
    keys    TEXT NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT;
