//! An assignment, read: the lease, what to export, what to do.

use std::sync::Arc;

use tracelift_core::{
    Invalid,
    export::{Compression, ExportSpec},
    file::{Cursor, FileIntent, Totals},
    id::{ExportId, RunId, SessionId, TenantId},
    plan::Partition,
    time::{Timestamp, Window},
};
use tracelift_proto::{
    fleet::v1::{self, assignment::Work},
    identity_from, oversized_from, time_from, under,
};

use crate::{
    job::{Frozen, Left, Task, slice},
    lease::{Lease, Trust},
    publish::{PublishedRun, Read},
};

/// The lease, the spec, the task, and what earlier attempts have done.
pub(super) fn read(
    assignment: &v1::Assignment,
    trust: &Arc<Trust>,
) -> Result<(Lease, ExportSpec, Task, Totals), Invalid> {
    let (run, fence) = under(&assignment.run_id, assignment.fence)?;
    let export = ExportId::parse("export_id", &assignment.export_id)?;
    let tenant = TenantId::parse("tenant_id", &assignment.tenant_id)?;
    let lease = Lease::new(run, fence, export, tenant, trust.clone());
    let spec = assignment.spec.as_ref().ok_or_else(|| Invalid::new("spec", "is required"))?;
    // The control plane has checked the range against its own limit.
    let spec = spec
        .check(u64::MAX, Compression::default())
        .map_err(|mut faults| faults.swap_remove(0).within("spec"))?;
    let work = assignment.work.as_ref().ok_or_else(|| Invalid::new("work", "is required"))?;
    let (task, before) = match work {
        Work::FindExperiments(_) => (Task::FindExperiments, Totals::default()),
        Work::Slice(work) => rows(&lease, &spec, work)?,
        Work::Publish(work) => {
            let partition =
                partition(&work.session_id, work.start_time.as_ref(), work.end_time.as_ref())?;
            let frozen =
                Frozen::of(work, partition.window).map_err(|fault| fault.within("publish"))?;
            let before = Totals::of(&frozen.files);
            (Task::Publish { slice: slice(&spec, &lease, partition), frozen }, before)
        }
        Work::Finalise(work) => {
            let runs = work.runs.iter().map(published).collect::<Result<_, _>>()?;
            let read = Read {
                at: moment("finalise.read_at", work.read_at.as_ref())?,
                window_open: work.window_open,
            };
            (Task::Finalise { runs, read }, Totals::default())
        }
        Work::CleanUp(work) => (
            Task::CleanUp(left(work).map_err(|fault| fault.within("clean_up"))?),
            Totals::default(),
        ),
        Work::Reconcile(work) => {
            let of = |id: &String| {
                Ok(Partition {
                    session: SessionId::parse("reconcile.session_ids", id)?,
                    window: spec.window,
                })
            };
            let slices = work
                .session_ids
                .iter()
                .map(|id| of(id).map(|partition| slice(&spec, &lease, partition)));
            (Task::Reconcile { slices: slices.collect::<Result<_, Invalid>>()? }, Totals::default())
        }
    };
    Ok((lease, spec, task, before))
}

fn rows(
    lease: &Lease,
    spec: &ExportSpec,
    work: &v1::ExportSlice,
) -> Result<(Task, Totals), Invalid> {
    let cursor = work
        .cursor
        .as_ref()
        .map(Cursor::try_from)
        .transpose()
        .map_err(|fault| fault.within("slice.cursor"))?;
    let mut slice = slice(
        spec,
        lease,
        partition(&work.session_id, work.start_time.as_ref(), work.end_time.as_ref())?,
    );
    slice.cursor = cursor;
    slice.narrow = work.narrow;
    let before = Totals { files: work.next_file, rows: work.rows_before, ..Totals::default() };
    let unresolved = work
        .unresolved
        .as_ref()
        .map(FileIntent::try_from)
        .transpose()
        .map_err(|fault| fault.within("slice.unresolved"))?;
    Ok((Task::Slice { slice, before, unresolved }, before))
}

fn left(work: &v1::CleanUp) -> Result<Left, Invalid> {
    let unresolved = work
        .unresolved
        .as_ref()
        .map(FileIntent::try_from)
        .transpose()
        .map_err(|fault| fault.within("unresolved"))?;
    let partition = partition(&work.session_id, work.start_time.as_ref(), work.end_time.as_ref())?;
    Ok(Left {
        run: RunId::parse("run_id", &work.run_id)?,
        partition,
        next_file: work.next_file,
        unresolved,
    })
}

fn published(run: &v1::PublishedRun) -> Result<PublishedRun, Invalid> {
    Ok(PublishedRun {
        run: RunId::parse("finalise.runs.run_id", &run.run_id)?,
        partition: partition(&run.session_id, run.start_time.as_ref(), run.end_time.as_ref())?,
        totals: Totals {
            files: run.files,
            rows: run.rows,
            bytes: run.bytes,
            hydrated_objects: 0,
            hydration_misses: run.hydration_misses,
            oversized: oversized_from(&run.oversized),
            undecided: run.undecided,
            decided_against: run.decided_against,
        },
        identity: identity_from(run.identity),
        read_at: moment("finalise.runs.read_at", run.read_at.as_ref())?,
    })
}

/// A time that an older control plane does not say.
fn moment(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Invalid> {
    time.map(|time| time_from(field, Some(time))).transpose()
}

fn partition(
    session: &str,
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
) -> Result<Partition, Invalid> {
    let window = Window::new(time_from("start_time", start)?, time_from("end_time", end)?);
    let window = window.ok_or_else(|| Invalid::new("end_time", "must be after start_time"))?;
    Ok(Partition { session: SessionId::parse("session_id", session)?, window })
}
