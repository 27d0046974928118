//! Creates exports and their tasks, with new ids: the only place where a spec becomes either.

use tracelift_core::{
    export::{Export, ExportSpec},
    id::{ExportId, TaskId, TenantId},
    plan,
    task::Task,
    time::Timestamp,
};
use uuid::Uuid;

/// An export of `spec`, and its initial tasks. A schedule has none.
pub(crate) fn planned(
    tenant: TenantId,
    spec: ExportSpec,
    source: Option<ExportId>,
    now: Timestamp,
) -> (Export, Vec<Task>) {
    let id = ExportId(Uuid::now_v7());
    let tasks = plan::first(&spec)
        .into_iter()
        .map(|kind| Task::new(TaskId(Uuid::now_v7()), id, tenant, kind, now))
        .collect();
    let status = spec.first_status();
    let export = Export {
        id,
        tenant,
        spec,
        status,
        source,
        error: None,
        created_at: now,
        updated_at: now,
        finished_at: None,
    };
    (export, tasks)
}
