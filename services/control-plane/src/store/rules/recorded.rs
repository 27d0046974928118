//! What callers, admins and exporters do, together with its record in the audit log. A request that
//! is repeated or changes nothing leaves no record.

use tracelift_core::{
    destination::Destination,
    export::ExportStatus,
    id::{DestinationId, ExportId, ExporterId, TaskId, TenantId},
    task::Fence,
    time::Timestamp,
};

use super::{
    audit::{about, record},
    destinations as destination_rules, exports, leases,
};
use crate::store::{
    Access, Act, Action, AuditEntry, CreateDestinationOutcome, CreateOutcome, Deletion, ExportView,
    NewDestination, NewExport, NewIdentity, Retry, StoreError, tables::destinations,
    transaction::Transaction,
};

const OTHER_REQUEST: &str = "the idempotency key was given to another request";
const NO_DESTINATION: &str = "the destination does not exist";
const NO_EXPORT: &str = "the export does not exist";

type Tx<'a> = &'a mut dyn Transaction;

pub(in crate::store) fn create_destination(
    tx: Tx<'_>,
    act: &Act,
    new: &NewDestination,
) -> Result<CreateDestinationOutcome, StoreError> {
    let made = destination_rules::create(tx, new)?;
    let refused = match &made {
        CreateDestinationOutcome::Now(_) => None,
        CreateDestinationOutcome::Before(_) => return Ok(made),
        CreateDestinationOutcome::OtherRequest => Some(OTHER_REQUEST),
    };
    let of = &new.destination;
    let object = if refused.is_none() { of.id.to_string() } else { String::new() };
    record(tx, act, of.created_at, about(of.tenant, Action::CreateDestination, object, refused))?;
    Ok(made)
}

pub(in crate::store) fn replace_identity(
    tx: Tx<'_>,
    act: &Act,
    tenant: TenantId,
    id: DestinationId,
    new: &NewIdentity,
    now: Timestamp,
) -> Result<Option<Destination>, StoreError> {
    let NewIdentity { identity, sealed, keys } = new;
    let changed =
        destinations::replace_identity(tx, tenant, id, identity, sealed.as_ref(), keys, now)?;
    let refused = changed.is_none().then_some(NO_DESTINATION);
    record(tx, act, now, about(tenant, Action::UpdateDestination, id, refused))?;
    Ok(changed)
}

pub(in crate::store) fn delete_destination(
    tx: Tx<'_>,
    act: &Act,
    tenant: TenantId,
    id: DestinationId,
    now: Timestamp,
) -> Result<Deletion, StoreError> {
    let deleted = destinations::delete(tx, tenant, id, now)?;
    let refused = match deleted {
        Deletion::Done => None,
        Deletion::Absent => Some(NO_DESTINATION),
        Deletion::InUse(_) => Some("an export uses the destination"),
    };
    record(tx, act, now, about(tenant, Action::DeleteDestination, id, refused))?;
    Ok(deleted)
}

pub(in crate::store) fn create_export(
    tx: Tx<'_>,
    act: &Act,
    new: &NewExport,
) -> Result<CreateOutcome, StoreError> {
    let made = exports::create(tx, new)?;
    let refused = match &made {
        CreateOutcome::Now(_) => None,
        CreateOutcome::Before(_) => return Ok(made),
        CreateOutcome::OtherRequest => Some(OTHER_REQUEST),
        CreateOutcome::NoDestination => Some(NO_DESTINATION),
        CreateOutcome::Full(_) => Some("a limit of the workspace is reached"),
    };
    let of = &new.export;
    let object = if refused.is_none() { of.id.to_string() } else { String::new() };
    record(tx, act, of.created_at, about(of.tenant, Action::CreateExport, object, refused))?;
    Ok(made)
}

pub(in crate::store) fn cancel_export(
    tx: Tx<'_>,
    act: &Act,
    tenant: TenantId,
    id: ExportId,
    now: Timestamp,
) -> Result<Option<ExportView>, StoreError> {
    let cancelled = exports::cancel(tx, tenant, id, now)?;
    let refused = match &cancelled {
        Some((true, _)) => None,
        Some((false, view)) if view.export.status == ExportStatus::Cancelled => {
            return Ok(cancelled.map(|(_, view)| view));
        }
        Some((false, _)) => Some("the export has ended"),
        None => Some(NO_EXPORT),
    };
    record(tx, act, now, about(tenant, Action::CancelExport, id, refused))?;
    Ok(cancelled.map(|(_, view)| view))
}

pub(in crate::store) fn retry_run(
    tx: Tx<'_>,
    act: &Act,
    tenant: TenantId,
    export: ExportId,
    task: TaskId,
    now: Timestamp,
) -> Result<Option<Retry>, StoreError> {
    let retried = exports::retry(tx, tenant, export, task, now)?;
    let refused = match &retried {
        Some(Retry::Queued(_)) => None,
        Some(Retry::Cancelled) => Some("the export was cancelled"),
        Some(Retry::Spent) => Some("the run was tried as often as it may be"),
        Some(Retry::Not(_)) => Some("the run has not failed"),
        Some(Retry::NoDestination) => Some(NO_DESTINATION),
        None => Some("the run does not exist"),
    };
    record(tx, act, now, about(tenant, Action::RetryRun, task, refused))?;
    Ok(retried)
}

pub(in crate::store) fn access(
    tx: Tx<'_>,
    act: &Act,
    (task, fence): (TaskId, Fence),
    exporter: &ExporterId,
    incarnation: &str,
    now: Timestamp,
) -> Result<Option<Access>, StoreError> {
    let access = leases::access(tx, task, fence, exporter, incarnation)?;
    let entry = match &access {
        Some(access) => about(access.tenant, Action::ReadCredentials, access.destination, None),
        None => AuditEntry {
            tenant: None,
            action: Action::ReadCredentials,
            object: task.to_string(),
            refused: Some("the exporter does not hold the task's lease".to_owned()),
        },
    };
    record(tx, act, now, entry)?;
    Ok(access)
}
