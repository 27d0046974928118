//! A claimed run, as its exporter is told of it.

use std::collections::BTreeSet;

use tracelift_core::{
    file::File,
    plan::Partition,
    run::{Run, Work},
};
use tracelift_proto::{
    fleet::v1::{self, assignment::Work as Kind},
    oversized_to, time_to,
};

use crate::store::{Claimed, PublishedRun};

/// A run past its commit point, with its frozen list of files.
pub(super) fn publish(run: &Run, files: &[File]) -> v1::Publish {
    let partition = run.work.partition();
    v1::Publish {
        run_id: run.id.to_string(),
        fence: run.fence.0,
        start_time: partition.map(|partition| time_to(partition.window.start())),
        end_time: partition.map(|partition| time_to(partition.window.end())),
        session_id: partition.map(|partition| partition.session.to_string()).unwrap_or_default(),
        files: files.iter().map(Into::into).collect(),
        left_out: Some(v1::LeftOut {
            undecided: run.totals.undecided,
            decided_against: run.totals.decided_against,
            named: run.undecided.iter().map(Into::into).collect(),
        }),
        identity: identity(run).into(),
        read_at: run.read_at.map(time_to),
    }
}

fn identity(run: &Run) -> v1::Identity {
    run.identity.map_or(v1::Identity::Unspecified, Into::into)
}

fn published(of: &PublishedRun) -> v1::PublishedRun {
    let (Partition { session, window }, totals) = (of.partition, of.run.totals);
    v1::PublishedRun {
        run_id: of.run.id.to_string(),
        session_id: session.to_string(),
        start_time: Some(time_to(window.start())),
        end_time: Some(time_to(window.end())),
        files: totals.files,
        rows: totals.rows,
        bytes: totals.bytes,
        hydration_misses: totals.hydration_misses,
        oversized: oversized_to(totals.oversized),
        undecided: totals.undecided,
        decided_against: totals.decided_against,
        identity: identity(&of.run).into(),
        read_at: of.run.read_at.map(time_to),
    }
}

fn unresolved(run: &Run) -> Option<v1::FileIntent> {
    run.intent.as_ref().map(|intent| v1::FileIntent {
        run_id: run.id.to_string(),
        fence: run.fence.0,
        ..intent.into()
    })
}

fn clean_up(left: &Run) -> v1::CleanUp {
    let partition = left.work.partition();
    v1::CleanUp {
        run_id: left.id.to_string(),
        session_id: partition.map(|partition| partition.session.to_string()).unwrap_or_default(),
        start_time: partition.map(|partition| time_to(partition.window.start())),
        end_time: partition.map(|partition| time_to(partition.window.end())),
        next_file: left.totals.files,
        unresolved: unresolved(left),
    }
}

/// What the exporter of a claimed run is told.
pub(super) fn assignment(claimed: Claimed) -> v1::Assignment {
    let Claimed { run, export, files, published: of_export, read, left } = claimed;
    let work = match run.work {
        Work::FindExperiments(_) => Kind::FindExperiments(v1::FindExperiments {}),
        Work::Finalise => Kind::Finalise(v1::FinaliseExport {
            runs: of_export.iter().map(published).collect(),
            read_at: read.map(|(at, _)| time_to(at)),
            window_open: read.is_some_and(|(_, open)| open),
        }),
        Work::CleanUp(_) => Kind::CleanUp(left.as_ref().map(clean_up).unwrap_or_default()),
        Work::Reconcile => {
            let sessions: BTreeSet<_> =
                of_export.iter().map(|published| published.partition.session).collect();
            Kind::Reconcile(v1::Reconcile {
                session_ids: sessions.iter().map(ToString::to_string).collect(),
            })
        }
        Work::Partition(_) if run.frozen => Kind::Publish(publish(&run, &files)),
        Work::Partition(Partition { session, window }) => Kind::Slice(v1::ExportSlice {
            session_id: session.to_string(),
            start_time: Some(time_to(window.start())),
            end_time: Some(time_to(window.end())),
            cursor: run.cursor.as_ref().map(Into::into),
            next_file: run.totals.files,
            rows_before: run.totals.rows,
            unresolved: unresolved(&run),
            narrow: run.narrow,
        }),
    };
    v1::Assignment {
        run_id: run.id.to_string(),
        export_id: run.export.to_string(),
        tenant_id: run.tenant.to_string(),
        fence: run.fence.0,
        attempt: run.attempt,
        spec: Some((&export.spec).into()),
        work: Some(work),
    }
}
