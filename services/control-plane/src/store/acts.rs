//! Acts: who changes something, by which request, and by what name the audit log knows it.

use tracelift_core::{
    audit::{Chain, Chained},
    id::{ExportId, ExporterId, KeyId, TenantId},
    time::Timestamp,
};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A caller with this API key.
    Key(KeyId),
    /// The operator, with the admin token of this name.
    AdminToken(String),
    /// An exporter; without a name before it has told it.
    Exporter(Option<ExporterId>),
    /// A schedule.
    Schedule(ExportId),
    /// Nobody who could be told.
    Anonymous,
}

impl Who {
    /// The kind of actor, in the audit log's words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "api_key",
            Self::AdminToken(_) => "admin_token",
            Self::Exporter(_) => "exporter",
            Self::Schedule(_) => "schedule",
            Self::Anonymous => "anonymous",
        }
    }

    /// Which of that kind.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Key(id) => id.to_string(),
            Self::AdminToken(name) => name.clone(),
            Self::Exporter(name) => name.as_ref().map(ToString::to_string).unwrap_or_default(),
            Self::Schedule(id) => id.to_string(),
            Self::Anonymous => String::new(),
        }
    }
}

/// Who acts, and the request that they act by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub who: Who,
    /// The request's id; empty without a request.
    pub request_id: String,
    /// The peer's IP address; empty if there is none.
    pub address: String,
}

impl Act {
    /// Without a request.
    #[must_use]
    pub fn by(who: Who) -> Self {
        Self { who, request_id: String::new(), address: String::new() }
    }
}

/// The names of what is recorded: LangSmith's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what it is about")]
pub enum Action {
    CreateTenant,
    SuspendTenant,
    ResumeTenant,
    DeleteTenant,
    CreateApiKey,
    RotateApiKey,
    DeleteApiKey,
    CreateDestination,
    UpdateDestination,
    DeleteDestination,
    CreateExport,
    CancelExport,
    RetryRun,
    SpawnExport,
    ReadCredentials,
    RefuseLogin,
    RefuseEndpoint,
}

impl Action {
    /// The name in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateTenant => "create_tenant",
            Self::SuspendTenant => "suspend_tenant",
            Self::ResumeTenant => "resume_tenant",
            Self::DeleteTenant => "delete_tenant",
            Self::CreateApiKey => "create_api_key",
            Self::RotateApiKey => "rotate_api_key",
            Self::DeleteApiKey => "delete_api_key",
            Self::CreateDestination => "create_bulk_export_destination",
            Self::UpdateDestination => "update_bulk_export_destination",
            Self::DeleteDestination => "delete_bulk_export_destination",
            Self::CreateExport => "create_bulk_export",
            Self::CancelExport => "cancel_bulk_export",
            Self::RetryRun => "retry_bulk_export_run",
            Self::SpawnExport => "spawn_bulk_export",
            Self::ReadCredentials => "read_destination_credentials",
            Self::RefuseLogin => "refuse_login",
            Self::RefuseEndpoint => "refuse_endpoint",
        }
    }
}

/// What to record of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The tenant that it is about, if it is about one.
    pub tenant: Option<TenantId>,
    /// What was done.
    pub action: Action,
    /// To what.
    pub object: String,
    /// Why it was refused; `None` if it was done.
    pub refused: Option<String>,
}

/// Which records to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Only of these actions; empty for all.
    pub actions: Vec<String>,
    /// Only records older than the one with this number.
    pub before: Option<u64>,
}

/// A part of a chain, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<Chained>,
    /// Where the whole chain begins and ends.
    pub chain: Chain,
}
