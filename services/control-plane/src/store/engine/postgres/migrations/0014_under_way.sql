-- What a schedule has under way: a few of all that it has spawned.
CREATE INDEX exports_under_way ON exports (source_id) WHERE status IN ('Created', 'Running');
