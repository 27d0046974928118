//! Exports and their runs, with new ids: the only place where both are made from a spec.

use tracelift_core::{
    export::{Export, ExportSpec},
    id::{ExportId, RunId, TenantId},
    plan,
    run::{Run, Work},
    time::Timestamp,
};
use uuid::Uuid;

/// An export of `spec`, and its runs, which tile its window. A schedule has none.
pub(crate) fn planned(tenant: TenantId, spec: ExportSpec, source: Option<ExportId>, now: Timestamp) -> (Export, Vec<Run>) {
    let id = ExportId(Uuid::now_v7());
    let windows = if spec.every.is_some() { Vec::new() } else { plan::partitions(spec.window) };
    let partition = |window| Run::new(RunId(Uuid::now_v7()), id, tenant, spec.session, Work::Partition(window), now);
    let runs = windows.into_iter().map(partition).collect();
    let status = spec.first_status();
    let export = Export { id, tenant, spec, status, source, error: None, created_at: now, updated_at: now, finished_at: None };
    (export, runs)
}
