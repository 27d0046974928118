//! Builds the assignment of a claimed task. Pure.

use std::collections::BTreeSet;

use tracelift_core::{
    assignment::{Assigned, Assignment, Frozen, Leftover, PublishedPartition, Resume},
    file::{File, LeftOut, Totals},
    plan::Partition,
    task::{Identity, Task, TaskKind},
};

use crate::store::Claimed;

/// The assignment of a claimed task; `None` for a clean-up whose partition is gone.
pub(super) fn assignment(claimed: Claimed) -> Option<Assignment> {
    let Claimed { task, export, files, published, read, leftover } = claimed;
    let work = match task.kind {
        TaskKind::FindExperiments(_) => Assigned::FindExperiments,
        TaskKind::Finalize => {
            Assigned::Finalize { partitions: published.iter().map(entry).collect(), read }
        }
        TaskKind::CleanUp(_) => Assigned::CleanUp(left_by(&leftover?)?),
        TaskKind::Reconcile => {
            let sessions: BTreeSet<_> = published.iter().map(|(found, _)| found.session).collect();
            Assigned::Reconcile { sessions: sessions.into_iter().collect() }
        }
        TaskKind::Partition(partition) if task.frozen => {
            Assigned::Publish(frozen(&task, partition, files))
        }
        TaskKind::Partition(partition) => Assigned::Partition(resume(&task, partition)),
    };
    Some(Assignment {
        task: task.id,
        fence: task.fence,
        export: task.export,
        tenant: task.tenant,
        attempt: task.attempt,
        spec: export.spec,
        work,
    })
}

/// How many misses are named to the exporter of a partition past its commit point, over all files:
/// the list of its files is one message, which must stay below
/// [`MAX_FLEET_BYTES`](tracelift_proto::MAX_FLEET_BYTES). All of them are counted.
const MAX_NAMED: usize = 20_000;

/// A partition past its commit point, with its frozen list of files.
pub(super) fn frozen(task: &Task, partition: Partition, mut files: Vec<File>) -> Frozen {
    let mut room = MAX_NAMED;
    for file in &mut files {
        file.misses.truncate(room);
        room -= file.misses.len();
    }
    let left_out = LeftOut {
        undecided: task.totals.undecided,
        decided_against: task.totals.decided_against,
        named: task.undecided.clone(),
    };
    Frozen { partition, files, left_out, identity: identity(task), read_at: task.read_at }
}

fn resume(task: &Task, partition: Partition) -> Resume {
    let Totals { files, rows, .. } = task.totals;
    Resume {
        partition,
        cursor: task.cursor,
        before: Totals { files, rows, ..Totals::default() },
        unresolved: task.intent.clone(),
        batch_shrink: task.batch_shrink,
    }
}

fn entry((partition, task): &(Partition, Task)) -> PublishedPartition {
    PublishedPartition {
        task: task.id,
        partition: *partition,
        totals: task.totals,
        identity: identity(task),
        read_at: task.read_at,
    }
}

fn left_by(task: &Task) -> Option<Leftover> {
    Some(Leftover {
        task: task.id,
        partition: task.kind.partition()?,
        next_file: task.totals.files,
        unresolved: task.intent.clone(),
    })
}

/// An exporter that reported no identity predates [`Identity::Id`].
fn identity(task: &Task) -> Identity {
    task.identity.unwrap_or(Identity::IdAndStartTime)
}
