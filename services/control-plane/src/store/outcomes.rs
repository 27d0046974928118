//! Requests to change the store, and their outcomes.

use tracelift_core::{
    destination::{Bucket, Destination, Identity},
    export::Export,
    id::{DestinationId, ExportId, ExporterId, KeyId, TenantId},
    limit::Quota,
    task::{Lease, RunStatus, Task},
    time::Timestamp,
};

use super::{ApiKey, ExportView, RunView, tables::quota::Full};
use crate::sealer::Sealed;

/// An export that a caller requests.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExport {
    /// The export.
    pub export: Export,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Its tenant's quota.
    pub quota: Quota,
    /// The idempotency key of the request.
    pub request: Option<RequestKey>,
}

impl NewExport {
    /// Without quota or idempotency key.
    #[must_use]
    pub fn of(export: Export, tasks: Vec<Task>) -> Self {
        Self { export, tasks, quota: Quota::default(), request: None }
    }
}

/// A destination that a caller requests; its bucket has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDestination {
    /// The destination.
    pub destination: Destination,
    /// Its credentials, if any.
    pub sealed: Option<Sealed>,
    /// The idempotency key of the request.
    pub request: Option<RequestKey>,
}

impl NewDestination {
    /// Without an idempotency key.
    #[must_use]
    pub fn of(destination: Destination, sealed: Option<Sealed>) -> Self {
        Self { destination, sealed, request: None }
    }
}

/// How a destination authenticates from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIdentity {
    /// What is stored in plain text.
    pub identity: Identity,
    /// Its credentials, if any.
    pub sealed: Option<Sealed>,
    /// Names of the fields in them.
    pub keys: Vec<String>,
}

/// The outcome of creating a destination.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateDestinationOutcome {
    /// Created.
    Now(Box<Destination>),
    /// Created earlier by the same request under this key; in its current state.
    Before(Box<Destination>),
    /// This key belongs to a different request.
    OtherRequest,
}

/// The idempotency key of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The text that the caller chose.
    pub key: String,
    /// Digests of the request: the first is stored; a match with any of them means the same
    /// request.
    pub digests: Vec<[u8; 32]>,
}

/// A key that takes another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// The hash of its secret.
    pub hash: [u8; 32],
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

/// The outcome of rotating a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotated {
    /// The old key, which expires, and the new one.
    Done(Box<(ApiKey, ApiKey)>),
    /// There is no such key.
    Absent,
    /// It was revoked, or has expired.
    Invalid,
}

/// The outcome of creating an export.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateOutcome {
    /// Created.
    Now(Box<ExportView>),
    /// Created earlier by the same request under this key; as it was returned then.
    Before(Box<ExportView>),
    /// This key belongs to a different request.
    OtherRequest,
    /// The tenant has no such destination.
    NoDestination,
    /// The tenant has reached a limit.
    Full(Full),
}

/// The outcome of retrying a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Retry {
    /// Queued again.
    Queued(Box<RunView>),
    /// Its export was cancelled.
    Cancelled,
    /// It was tried as often as may be.
    Spent,
    /// It has not failed; this is its status.
    Not(RunStatus),
    /// Its destination has been deleted.
    NoDestination,
}

/// How long tasks and exports may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// A task, from when it was first claimed.
    pub task: u32,
    /// An export, from when its first task was claimed.
    pub export: u32,
}

/// Which windows of a schedule to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Those that ended by this time.
    pub before: Timestamp,
    /// Only while fewer than this many of its exports are in progress; 0 means no limit.
    pub under_way: u32,
}

/// An exporter's request for tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRequest {
    /// The lease that it would hold them under.
    pub lease: Lease,
    /// How many tasks it can hold at once.
    pub capacity: u32,
}

/// Who holds a lease, or held it last: a process of an exporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The exporter.
    pub exporter: ExporterId,
    /// Its process.
    pub incarnation: String,
}

/// The outcome of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportOutcome {
    /// Applied; the task as it is now.
    Applied(Box<Task>),
    /// The sender no longer holds the task.
    Stale,
}

/// The bucket and the sealed credentials that a lease gives access to.
#[derive(Debug)]
pub struct Access {
    /// The tenant.
    pub tenant: TenantId,
    /// The destination.
    pub destination: DestinationId,
    /// Its bucket.
    pub bucket: Bucket,
    /// How it authenticates.
    pub identity: Identity,
    /// The sealed keys, if it authenticates with keys.
    pub sealed: Option<Sealed>,
}

/// The outcome of deleting a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// Deleted.
    Done,
    /// There is no such destination.
    Absent,
    /// This export still writes to it, or this schedule will.
    InUse(ExportId),
}
