-- Control planes that run, and the ids of the master keys that each of them has (JSON).
CREATE TABLE replicas (
    id      uuid PRIMARY KEY NOT NULL,
    name    text NOT NULL,
    keys    text NOT NULL,
    seen_at bigint NOT NULL
);
