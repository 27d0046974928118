-- Exports of all experiments: they name no project, and a run finds which there are. Only partitions are of a project.
ALTER TABLE exports ALTER COLUMN session_id DROP NOT NULL;         -- NULL: all experiments
ALTER TABLE runs ALTER COLUMN session_id DROP NOT NULL;            -- NULL unless it is a partition
ALTER TABLE runs DROP CONSTRAINT runs_kind_check;
ALTER TABLE runs ADD CONSTRAINT runs_kind_check CHECK (kind IN ('find_experiments', 'partition', 'finalise', 'clean_up', 'reconcile'));
ALTER TABLE runs DROP CONSTRAINT runs_check;
ALTER TABLE runs ADD CONSTRAINT runs_check
    CHECK ((window_start IS NULL) = (window_end IS NULL) AND (window_start IS NOT NULL) = (kind IN ('find_experiments', 'partition')));
ALTER TABLE runs ADD CONSTRAINT partitions_are_of_a_project CHECK (kind <> 'partition' OR session_id IS NOT NULL);
CREATE UNIQUE INDEX one_finder ON runs (export_id) WHERE kind = 'find_experiments';
