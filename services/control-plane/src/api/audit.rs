//! The audit log as callers see it.

use std::sync::{Mutex, PoisonError};

use tonic::{Request, Status};
use tracelift_core::{
    Invalid, InvalidKind,
    audit::{Chain, Chained},
    id::TenantId,
    invalid::Faults,
};
use tracelift_proto::{status::invalid, time_from, v1};

use super::{pages, unavailable};
use crate::{
    auth::Admin,
    store::{AuditFilter, Store},
};

/// The prefix of page tokens.
const RECORDS: &str = "audit-records";
/// Most actions in a request, and the longest name of one.
const MOST_ACTIONS: usize = 100;
const LONGEST_ACTION: usize = 100;

/// Whose records a request is about; `None` for those about no tenant.
pub(crate) fn whose(
    request: &Request<v1::ListAuditRecordsRequest>,
) -> Result<Option<TenantId>, Status> {
    match (Admin::of(request)?, request.get_ref().tenant_id.as_str()) {
        (Admin::Operator, "") => Ok(None),
        (_, id) => Admin::about(request, "tenant_id", id).map(Some),
    }
}

/// A page of records, newest first.
pub(crate) async fn list(
    store: &Store,
    tenant: Option<TenantId>,
    request: &v1::ListAuditRecordsRequest,
) -> Result<v1::ListAuditRecordsResponse, Status> {
    let wanted = wanted(request).map_err(invalid)?;
    let limit = pages::limited(request.limit)?;
    let before: Option<u64> = pages::place(RECORDS, &request.page_token)?;
    // The end of the chain when the first of the records was read, its beginning when the last was.
    let chain = Mutex::new(None);
    let read = async |before: Option<u64>, most| {
        let wanted = AuditFilter { before, ..wanted.clone() };
        let page = store.audit_records(tenant, wanted, most).await.map_err(unavailable)?;
        let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
        let head = chain.map_or(page.chain.head, |chain: Chain| chain.head);
        *chain = Some(Chain { head, ..page.chain });
        Ok(page.records)
    };
    let show = |of: Chained| (of.record.number, v1::AuditRecord::from(of));
    let (records, next_page_token) = pages::fill(RECORDS, limit, before, read, show).await?;
    let chain = chain.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or(Chain::EMPTY);
    let (anchor, head) = (Some(chain.anchor.into()), Some(chain.head.into()));
    Ok(v1::ListAuditRecordsResponse { records, next_page_token, anchor, head })
}

fn wanted(request: &v1::ListAuditRecordsRequest) -> Result<AuditFilter, Vec<Invalid>> {
    let mut faults = Faults::default();
    let mut time = |field: &str, time: &Option<prost_types::Timestamp>| {
        faults.take(time.as_ref().map(|time| time_from(field, Some(time))).transpose())
    };
    let from = time("start_time", &request.start_time);
    let until = time("end_time", &request.end_time);
    let is_name = |text: &String| {
        text.len() <= LONGEST_ACTION && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let actions = &request.actions;
    let names = match actions.len() <= MOST_ACTIONS && actions.iter().all(is_name) {
        true => Ok(actions.clone()),
        false => {
            let words = format!("must be at most {MOST_ACTIONS} names such as create_bulk_export");
            Err(Invalid::new("actions", words).of_kind(InvalidKind::OneOf))
        }
    };
    let names = faults.take(names);
    let filter = from.zip(until).zip(names).map(|((from, until), actions)| AuditFilter {
        from,
        until,
        actions,
        before: None,
    });
    faults.finish(filter)
}
