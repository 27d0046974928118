//! The audit log in the form of LangSmith's: events of the class API Activity of OCSF 1.7, and in
//! each, under `unmapped`, the record as it is stored.

use std::fmt::Write as _;

use serde::Serialize;
use tracelift_proto::{time_from, v1};
use utoipa::ToSchema;

use crate::{text, time};

/// A page of records, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLogs {
    items: Vec<AuditLog>,
    /// To be given as `cursor`; null on the last page.
    next_cursor: Option<String>,
}

/// One record as an OCSF event of the class API Activity.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditLog {
    category_uid: u32,
    class_uid: u32,
    type_uid: u32,
    activity_id: u32,
    severity_id: u32,
    /// Milliseconds since 1970.
    time: i64,
    actor: Actor,
    api: Operation,
    src_endpoint: Endpoint,
    /// `Success` or `Failure`.
    status: &'static str,
    status_id: u32,
    /// Why it was refused.
    status_detail: Option<String>,
    resources: Vec<Resource>,
    metadata: Metadata,
    unmapped: Unmapped,
}

#[derive(Debug, Serialize, ToSchema)]
struct Actor {
    user: User,
}

#[derive(Debug, Serialize, ToSchema)]
struct User {
    /// Id or name of the actor.
    uid: Option<String>,
    r#type: String,
    /// Id of the API key.
    credential_uid: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Operation {
    operation: String,
    request: OperationRequest,
}

#[derive(Debug, Serialize, ToSchema)]
struct OperationRequest {
    uid: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Endpoint {
    ip: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Resource {
    uid: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Metadata {
    /// Number within the chain of the workspace.
    uid: String,
    version: &'static str,
    product: Product,
}

#[derive(Debug, Serialize, ToSchema)]
struct Product {
    name: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct Unmapped {
    original_audit_log: AuditRecord,
}

/// A record as it is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditRecord {
    number: u64,
    time: Option<String>,
    workspace_id: Option<String>,
    actor_kind: String,
    actor: Option<String>,
    action: String,
    object: Option<String>,
    outcome: &'static str,
    reason: Option<String>,
    request_id: Option<String>,
    peer_address: Option<String>,
    /// SHA-256 of the hash before it and of the fields above.
    hash: String,
}

impl From<v1::ListAuditRecordsResponse> for AuditLogs {
    fn from(page: v1::ListAuditRecordsResponse) -> Self {
        Self {
            items: page.records.into_iter().map(Into::into).collect(),
            next_cursor: text(page.next_page_token),
        }
    }
}

/// API Activity.
const CLASS: u32 = 6003;
/// Application Activity.
const CATEGORY: u32 = 6;
/// Informational.
const SEVERITY: u32 = 1;
const VERSION: &str = "1.7.0";

impl From<v1::AuditRecord> for AuditLog {
    fn from(record: v1::AuditRecord) -> Self {
        let activity_id = activity(&record.action);
        let is_key = record.actor_kind == "api_key";
        Self {
            category_uid: CATEGORY,
            class_uid: CLASS,
            type_uid: CLASS * 100 + activity_id,
            activity_id,
            severity_id: SEVERITY,
            time: time_from("", record.time.as_ref()).map_or(0, |at| at.micros().div_euclid(1000)),
            actor: Actor {
                user: User {
                    uid: text(record.actor.clone()),
                    r#type: record.actor_kind.clone(),
                    credential_uid: text(record.actor.clone()).filter(|_| is_key),
                },
            },
            api: Operation {
                operation: record.action.clone(),
                request: OperationRequest { uid: text(record.request_id.clone()) },
            },
            src_endpoint: Endpoint { ip: text(record.peer_address.clone()) },
            status: if record.refused.is_none() { "Success" } else { "Failure" },
            status_id: if record.refused.is_none() { 1 } else { 2 },
            status_detail: record.refused.clone(),
            resources: text(record.object.clone())
                .map(|uid| Resource { uid })
                .into_iter()
                .collect(),
            metadata: Metadata {
                uid: record.number.to_string(),
                version: VERSION,
                product: Product { name: "Tracelift" },
            },
            unmapped: Unmapped { original_audit_log: record.into() },
        }
    }
}

impl From<v1::AuditRecord> for AuditRecord {
    fn from(record: v1::AuditRecord) -> Self {
        Self {
            number: record.number,
            time: time(record.time.as_ref()),
            workspace_id: text(record.tenant_id),
            actor_kind: record.actor_kind,
            actor: text(record.actor),
            action: record.action,
            object: text(record.object),
            outcome: if record.refused.is_none() { "success" } else { "refused" },
            reason: record.refused,
            request_id: text(record.request_id),
            peer_address: text(record.peer_address),
            hash: record.hash.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            }),
        }
    }
}

/// OCSF's number of what an operation does: create, read, update, delete, other.
fn activity(action: &str) -> u32 {
    match action.split('_').next() {
        Some("create" | "spawn") => 1,
        Some("read") => 2,
        Some("update") => 3,
        Some("delete") => 4,
        _ => 99,
    }
}
