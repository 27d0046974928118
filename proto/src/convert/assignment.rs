//! fleet.proto: assignments.

use tracelift_core::{
    Invalid,
    assignment::{Assigned, Assignment, Frozen, Leftover, PublishedPartition, ReadTime, Resume},
    export::Compression,
    file::{Cursor, File, FileIntent, Totals},
    id::{ExportId, SessionId, TaskId, TenantId},
    time::Timestamp,
};

use super::{
    fleet::{identity_from, left_out_from, oversized_from, oversized_to, partition_from, under},
    required, time_from, time_to,
};
use crate::fleet::v1::{self, assignment::Kind};

impl From<&Assignment> for v1::Assignment {
    fn from(assignment: &Assignment) -> Self {
        let kind = match &assignment.work {
            Assigned::Partition(resume) => Kind::Partition(resume.into()),
            Assigned::Publish(frozen) => Kind::Publish(frozen.into()),
            Assigned::Finalize { partitions, read } => Kind::Finalize(v1::FinalizeExport {
                partitions: partitions.iter().map(Into::into).collect(),
                read_at: read.at.map(time_to),
                window_open: read.window_open,
            }),
            Assigned::CleanUp(leftover) => Kind::CleanUp(leftover.into()),
            Assigned::Reconcile { sessions } => Kind::Reconcile(v1::Reconcile {
                session_ids: sessions.iter().map(ToString::to_string).collect(),
            }),
            Assigned::FindExperiments => Kind::FindExperiments(v1::FindExperiments {}),
        };
        Self {
            task_id: assignment.task.to_string(),
            export_id: assignment.export.to_string(),
            tenant_id: assignment.tenant.to_string(),
            fence: assignment.fence.0,
            attempt: assignment.attempt,
            spec: Some((&assignment.spec).into()),
            kind: Some(kind),
        }
    }
}

impl TryFrom<&v1::Assignment> for Assignment {
    type Error = Invalid;

    fn try_from(message: &v1::Assignment) -> Result<Self, Invalid> {
        let (task, fence) = under(&message.task_id, message.fence)?;
        // The control plane has already checked the range against the operator's limit.
        let spec = required("spec", message.spec.as_ref())?
            .check(u64::MAX, Compression::default())
            .map_err(|mut faults| faults.swap_remove(0).within("spec"))?;
        Ok(Self {
            task,
            fence,
            export: ExportId::parse("export_id", &message.export_id)?,
            tenant: TenantId::parse("tenant_id", &message.tenant_id)?,
            attempt: message.attempt,
            spec,
            work: work(required("kind", message.kind.as_ref())?)?,
        })
    }
}

fn work(kind: &Kind) -> Result<Assigned, Invalid> {
    let within = |path: &'static str| move |fault: Invalid| fault.within(path);
    match kind {
        Kind::Partition(message) => {
            Resume::try_from(message).map(Assigned::Partition).map_err(within("partition"))
        }
        Kind::Publish(files) => {
            Frozen::try_from(files).map(Assigned::Publish).map_err(within("publish"))
        }
        Kind::Finalize(message) => finalize(message).map_err(within("finalize")),
        Kind::CleanUp(message) => {
            Leftover::try_from(message).map(Assigned::CleanUp).map_err(within("clean_up"))
        }
        Kind::Reconcile(message) => {
            let sessions = message.session_ids.iter();
            let sessions = sessions.map(|id| SessionId::parse("reconcile.session_ids", id));
            Ok(Assigned::Reconcile { sessions: sessions.collect::<Result<_, _>>()? })
        }
        Kind::FindExperiments(_) => Ok(Assigned::FindExperiments),
    }
}

fn finalize(message: &v1::FinalizeExport) -> Result<Assigned, Invalid> {
    let partitions = message.partitions.iter().map(PublishedPartition::try_from);
    Ok(Assigned::Finalize {
        partitions: partitions.collect::<Result<_, _>>()?,
        read: ReadTime { at: read_at(message.read_at.as_ref())?, window_open: message.window_open },
    })
}

impl From<&Resume> for v1::ExportPartition {
    fn from(resume: &Resume) -> Self {
        Self {
            partition: Some(resume.partition.into()),
            cursor: resume.cursor.as_ref().map(Into::into),
            next_file: resume.before.files,
            rows_before: resume.before.rows,
            unresolved: resume.unresolved.as_ref().map(Into::into),
            batch_shrink: resume.batch_shrink,
        }
    }
}

impl TryFrom<&v1::ExportPartition> for Resume {
    type Error = Invalid;

    fn try_from(message: &v1::ExportPartition) -> Result<Self, Invalid> {
        Ok(Self {
            partition: partition_from(message.partition.as_ref())?,
            cursor: message.cursor.as_ref().map(Cursor::try_from).transpose()?,
            before: Totals {
                files: message.next_file,
                rows: message.rows_before,
                ..Totals::default()
            },
            unresolved: message.unresolved.as_ref().map(FileIntent::try_from).transpose()?,
            batch_shrink: message.batch_shrink,
        })
    }
}

impl From<&Frozen> for v1::FrozenFiles {
    fn from(frozen: &Frozen) -> Self {
        Self {
            partition: Some(frozen.partition.into()),
            files: frozen.files.iter().map(Into::into).collect(),
            left_out: Some((&frozen.left_out).into()),
            identity: v1::Identity::from(frozen.identity).into(),
            read_at: frozen.read_at.map(time_to),
        }
    }
}

impl TryFrom<&v1::FrozenFiles> for Frozen {
    type Error = Invalid;

    fn try_from(message: &v1::FrozenFiles) -> Result<Self, Invalid> {
        Ok(Self {
            partition: partition_from(message.partition.as_ref())?,
            files: message.files.iter().map(File::try_from).collect::<Result<_, _>>()?,
            left_out: left_out_from("left_out", message.left_out.as_ref())?,
            identity: identity_from(message.identity),
            read_at: read_at(message.read_at.as_ref())?,
        })
    }
}

impl From<&PublishedPartition> for v1::PublishedPartition {
    fn from(published: &PublishedPartition) -> Self {
        let totals = published.totals;
        Self {
            task_id: published.task.to_string(),
            partition: Some(published.partition.into()),
            files: totals.files,
            rows: totals.rows,
            bytes: totals.bytes,
            hydration_misses: totals.hydration_misses,
            oversized: oversized_to(totals.oversized),
            undecided: totals.undecided,
            decided_against: totals.decided_against,
            identity: v1::Identity::from(published.identity).into(),
            read_at: published.read_at.map(time_to),
        }
    }
}

impl TryFrom<&v1::PublishedPartition> for PublishedPartition {
    type Error = Invalid;

    fn try_from(message: &v1::PublishedPartition) -> Result<Self, Invalid> {
        Ok(Self {
            task: TaskId::parse("partitions.task_id", &message.task_id)?,
            partition: partition_from(message.partition.as_ref())?,
            totals: Totals {
                files: message.files,
                rows: message.rows,
                bytes: message.bytes,
                hydrated_objects: 0,
                hydration_misses: message.hydration_misses,
                oversized: oversized_from(&message.oversized),
                undecided: message.undecided,
                decided_against: message.decided_against,
            },
            identity: identity_from(message.identity),
            read_at: read_at(message.read_at.as_ref())?,
        })
    }
}

impl From<&Leftover> for v1::CleanUp {
    fn from(leftover: &Leftover) -> Self {
        Self {
            task_id: leftover.task.to_string(),
            partition: Some(leftover.partition.into()),
            next_file: leftover.next_file,
            unresolved: leftover.unresolved.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<&v1::CleanUp> for Leftover {
    type Error = Invalid;

    fn try_from(message: &v1::CleanUp) -> Result<Self, Invalid> {
        Ok(Self {
            task: TaskId::parse("task_id", &message.task_id)?,
            partition: partition_from(message.partition.as_ref())?,
            next_file: message.next_file,
            unresolved: message.unresolved.as_ref().map(FileIntent::try_from).transpose()?,
        })
    }
}

fn read_at(time: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Invalid> {
    time.map(|time| time_from("read_at", Some(time))).transpose()
}
