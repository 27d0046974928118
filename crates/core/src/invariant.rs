//! Invariants of tasks and their files: named predicates over observed states.
//!
//! The simulation evaluates them after every step. A predicate that returns `false` is a violation.

use crate::{
    file::{File, Totals},
    plan::Partition,
    task::{RunStatus, State, Task, TaskKind},
};

/// A task and its files at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The task.
    pub task: Task,
    /// Its complete files, in order.
    pub files: Vec<File>,
}

/// An invariant of one task at one moment.
pub type Moment = (&'static str, fn(&Seen) -> bool);
/// An invariant of two moments of the same task, the earlier one first.
pub type Change = (&'static str, fn(&Seen, &Seen) -> bool);
/// An invariant of all tasks of one export at one moment.
pub type Whole = (&'static str, fn(&[Seen]) -> bool);

/// Invariants of a task at any moment.
pub const MOMENTS: &[Moment] = &[
    ("TotalsAddUp", |now| Totals::of(&now.files) == now.task.totals),
    ("FilesAreDense", |now| now.files.iter().zip(0..).all(|(file, number)| file.number == number)),
    ("FilesFollowEachOther", |now| {
        now.files.windows(2).all(|pair| pair[0].cursor < pair[1].cursor)
    }),
    ("CursorIsTheLastFiles", |now| now.task.cursor == now.files.last().map(|file| file.cursor)),
    ("FilesLieInTheirPartition", |now| match now.task.kind {
        TaskKind::Partition(Partition { window, .. }) => now.files.iter().all(|file| {
            window.start() <= file.min_start_time && file.max_start_time < window.end()
        }),
        TaskKind::FindExperiments(_)
        | TaskKind::Finalize
        | TaskKind::CleanUp(_)
        | TaskKind::Reconcile => now.files.is_empty(),
    }),
    ("CompletedMeansFrozen", |now| {
        now.task.status() != RunStatus::Completed || now.task.frozen || !partition(now)
    }),
    ("IntentIsTheNextFile", |now| {
        now.task.intent.as_ref().is_none_or(|intent| intent.number == now.task.totals.files)
    }),
];

/// Invariants between any moment of a task and a later one.
pub const CHANGES: &[Change] = &[
    ("FenceNeverGoesBack", |before, after| before.task.fence <= after.task.fence),
    ("CursorNeverGoesBack", |before, after| before.task.cursor <= after.task.cursor),
    ("FilesNeverShrinkOrChange", |before, after| after.files.starts_with(&before.files)),
    ("FrozenNeverChanges", |before, after| {
        !before.task.frozen || (after.task.frozen && before.files == after.files)
    }),
    ("EndedStaysEndedUnlessAskedForAnew", |before, after| {
        let retried = matches!(before.task.state, State::Failed(_) | State::TimedOut(_))
            && partition(before)
            && after.task.spent > before.task.attempt;
        before.task.finished_at().is_none() || before.task.state == after.task.state || retried
    }),
    ("AttemptsNeverGoBack", |before, after| before.task.attempt <= after.task.attempt),
    ("ANewHolderHasANewFence", |before, after| match (&before.task.state, &after.task.state) {
        (State::Leased(one), State::Leased(other))
            if (&one.exporter, &one.incarnation) != (&other.exporter, &other.incarnation) =>
        {
            before.task.fence < after.task.fence
        }
        _ => true,
    }),
];

/// Invariants of an export's tasks at any moment.
pub const WHOLES: &[Whole] = &[
    ("OneFinalisingRun", |tasks| {
        tasks.iter().filter(|seen| seen.task.kind == TaskKind::Finalize).count() <= 1
    }),
    ("FinalisingMeansAllBeforeItCompleted", |tasks| {
        let finalizing = tasks.iter().any(|seen| seen.task.kind == TaskKind::Finalize);
        !finalizing
            || tasks
                .iter()
                .filter(|seen| seen.task.kind.comes_first())
                .all(|seen| seen.task.status() == RunStatus::Completed)
    }),
    ("PartitionsDoNotOverlap", |tasks| {
        let partitions = || tasks.iter().filter_map(|seen| seen.task.kind.partition());
        partitions()
            .enumerate()
            .all(|(index, one)| partitions().skip(index + 1).all(|other| !one.overlaps(other)))
    }),
    ("PartitionsMeanExperimentsAreFound", |tasks| {
        let finds = |seen: &&Seen| matches!(seen.task.kind, TaskKind::FindExperiments(_));
        let found =
            tasks.iter().filter(finds).all(|seen| seen.task.status() == RunStatus::Completed);
        found || !tasks.iter().any(partition)
    }),
];

fn partition(seen: &Seen) -> bool {
    seen.task.kind.partition().is_some()
}

/// Names of the invariants that `now` violates, alone or together with an earlier moment.
pub fn broken(before: Option<&Seen>, now: &Seen) -> Vec<&'static str> {
    let moments = MOMENTS.iter().filter(|(_, holds)| !holds(now)).map(|(name, _)| *name);
    let changes = before.into_iter().flat_map(|before| {
        CHANGES.iter().filter(|(_, holds)| !holds(before, now)).map(|(name, _)| *name)
    });
    moments.chain(changes).collect()
}

/// Names of the invariants that an export's tasks violate together.
pub fn broken_together(tasks: &[Seen]) -> Vec<&'static str> {
    WHOLES.iter().filter(|(_, holds)| !holds(tasks)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        file::Cursor,
        id::{ExportId, ExporterId, SessionId, TaskId, TenantId},
        task::{Fence, Lease},
        time::{Timestamp, Window},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::EPOCH.plus_seconds(seconds)
    }

    fn file(number: u32) -> File {
        let cursor = Cursor { start_time: at(i64::from(number) + 1), id: Uuid::from_u128(1) };
        File {
            number,
            key: format!("file {number}"),
            rows: 3,
            bytes: 10,
            etag: String::new(),
            sha256: String::new(),
            min_start_time: cursor.start_time,
            max_start_time: cursor.start_time,
            cursor,
            hydrated_objects: 0,
            hydration_misses: 0,
            misses: Vec::new(),
            oversized: crate::oversized::Oversized::default(),
            left_out: crate::file::LeftOut::default(),
        }
    }

    fn seen(files: u32) -> Seen {
        let window = Window::new(at(0), at(100)).unwrap();
        let id = Uuid::from_u128(7);
        let kind = TaskKind::Partition(Partition { session: SessionId(id), window });
        let mut task = Task::new(TaskId(id), ExportId(id), TenantId(id), kind, at(0));
        let files: Vec<File> = (0..files).map(file).collect();
        let lease = Lease {
            exporter: ExporterId::parse("exporter", "a").unwrap(),
            incarnation: "1".to_owned(),
            until: at(9),
            progressed_at: at(0),
            patience: 600,
            asked_back: None,
        };
        (task.state, task.fence) = (State::Leased(lease), Fence(2));
        (task.totals, task.cursor) = (Totals::of(&files), files.last().map(|file| file.cursor));
        Seen { task, files }
    }

    fn changed(mut seen: Seen, change: impl FnOnce(&mut Seen)) -> Seen {
        change(&mut seen);
        seen
    }

    #[test]
    fn a_run_that_adds_files_breaks_nothing() {
        assert_eq!(broken(Some(&seen(1)), &seen(3)), Vec::<&str>::new());
    }

    #[test]
    fn each_rule_of_a_moment_can_be_broken() {
        let breaks = |change: fn(&mut Seen)| broken(None, &changed(seen(2), change));
        assert_eq!(breaks(|seen| seen.task.totals.rows += 1), ["TotalsAddUp"]);
        assert_eq!(breaks(|seen| seen.files[1].number = 2), ["FilesAreDense"]);
        assert_eq!(
            breaks(|seen| seen.files[0].cursor = seen.files[1].cursor),
            ["FilesFollowEachOther"]
        );
        assert_eq!(breaks(|seen| seen.task.cursor = None), ["CursorIsTheLastFiles"]);
        assert_eq!(
            breaks(|seen| seen.files[1].max_start_time = at(100)),
            ["FilesLieInTheirPartition"]
        );
        assert_eq!(
            breaks(|seen| seen.task.state = State::Completed(at(9))),
            ["CompletedMeansFrozen"]
        );
        let intent = |number| crate::file::FileIntent {
            number,
            key: String::new(),
            upload_id: String::new(),
            token: String::new(),
            whole: None,
        };
        assert_eq!(
            broken(None, &changed(seen(2), |seen| seen.task.intent = Some(intent(1)))),
            ["IntentIsTheNextFile"]
        );
    }

    #[test]
    fn each_rule_of_a_change_can_be_broken() {
        let breaks = |change: fn(&mut Seen)| broken(Some(&changed(seen(2), change)), &seen(2));
        assert_eq!(breaks(|seen| seen.task.fence = Fence(3)), ["FenceNeverGoesBack"]);
        assert_eq!(
            broken(Some(&seen(2)), &seen(1)),
            ["CursorNeverGoesBack", "FilesNeverShrinkOrChange"]
        );
        assert_eq!(breaks(|seen| seen.task.frozen = true), ["FrozenNeverChanges"]);
        assert_eq!(
            breaks(|seen| seen.task.state = State::Cancelled(at(1))),
            ["EndedStaysEndedUnlessAskedForAnew"]
        );
        assert_eq!(breaks(|seen| seen.task.attempt = 1), ["AttemptsNeverGoBack"]);
        let failed = changed(seen(2), |seen| seen.task.state = State::Failed(at(1)));
        let asked_for = changed(seen(2), |seen| (seen.task.attempt, seen.task.spent) = (1, 1));
        assert_eq!(broken(Some(&failed), &asked_for), Vec::<&str>::new());
        assert_eq!(broken(Some(&failed), &seen(2)), ["EndedStaysEndedUnlessAskedForAnew"]);
        let stranger = |seen: &mut Seen| {
            if let State::Leased(lease) = &mut seen.task.state {
                lease.incarnation = "2".to_owned();
            }
        };
        assert_eq!(breaks(stranger), ["ANewHolderHasANewFence"]);
    }

    #[test]
    fn each_rule_of_an_export_can_be_broken() {
        let finalizing = || changed(seen(0), |seen| seen.task.kind = TaskKind::Finalize);
        let complete = changed(seen(1), |seen| {
            (seen.task.state, seen.task.frozen) = (State::Completed(at(9)), true)
        });
        assert_eq!(broken_together(&[complete.clone(), finalizing()]), Vec::<&str>::new());
        assert_eq!(broken_together(&[complete, finalizing(), finalizing()]), ["OneFinalisingRun"]);
        assert_eq!(
            broken_together(&[seen(1), finalizing()]),
            ["FinalisingMeansAllBeforeItCompleted"]
        );
        assert_eq!(broken_together(&[seen(1), seen(1)]), ["PartitionsDoNotOverlap"]);
        let finds = changed(seen(0), |seen| {
            seen.task.kind = TaskKind::FindExperiments(Window::new(at(0), at(100)).unwrap())
        });
        assert_eq!(
            broken_together(&[finds.clone(), seen(1)]),
            ["PartitionsMeanExperimentsAreFound"]
        );
        assert_eq!(
            broken_together(&[finds, finalizing()]),
            ["FinalisingMeansAllBeforeItCompleted"]
        );
        let of_another = changed(seen(1), |seen| {
            let window = Window::new(at(0), at(100)).unwrap();
            seen.task.kind =
                TaskKind::Partition(Partition { session: SessionId(Uuid::from_u128(8)), window });
        });
        assert_eq!(
            broken_together(&[seen(1), of_another]),
            Vec::<&str>::new(),
            "the same day of another project"
        );
    }
}
