//! What is asked of the store to change, and what became of it.

use tracelift_core::{
    destination::{Bucket, Destination, Identity},
    export::Export,
    id::{DestinationId, ExportId, TenantId},
    limit::Quota,
    task::{Lease, RunStatus, Task},
    time::Timestamp,
};

use super::{ExportView, RunView, tables::quota::Full};
use crate::sealer::Sealed;

/// An export that a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExport {
    /// The export.
    pub export: Export,
    /// Its runs.
    pub tasks: Vec<Task>,
    /// What its tenant may ask for.
    pub quota: Quota,
    /// Under which key the request may be repeated.
    pub request: Option<RequestKey>,
}

impl NewExport {
    /// Under no limit and no key.
    #[must_use]
    pub fn of(export: Export, tasks: Vec<Task>) -> Self {
        Self { export, tasks, quota: Quota::default(), request: None }
    }
}

/// A destination that a caller asks for; its bucket was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDestination {
    /// The destination.
    pub destination: Destination,
    /// Its credentials, when it has any.
    pub sealed: Option<Sealed>,
    /// Under which key the request may be repeated.
    pub request: Option<RequestKey>,
}

impl NewDestination {
    /// Under no key.
    #[must_use]
    pub fn of(destination: Destination, sealed: Option<Sealed>) -> Self {
        Self { destination, sealed, request: None }
    }
}

/// What became of a new destination.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateDestinationOutcome {
    /// It is stored.
    Now(Box<Destination>),
    /// The same was asked for under that key before; as it is now.
    Before(Box<Destination>),
    /// Something else was asked for under that key.
    OtherRequest,
}

/// A key that a caller has given to a request, so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's text.
    pub key: String,
    /// Digests of what was asked for: the first is kept, any of them says that it is the same.
    pub digests: Vec<[u8; 32]>,
}

/// What became of a new export.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateOutcome {
    /// It is stored.
    Now(Box<ExportView>),
    /// The same was asked for under that key before; as it was answered then.
    Before(Box<ExportView>),
    /// Something else was asked for under that key.
    OtherRequest,
    /// Its destination is not the tenant's.
    NoDestination,
    /// The tenant has as many as it may.
    Full(Full),
}

/// What became of a run that was asked for anew.
#[derive(Debug, Clone, PartialEq)]
pub enum Retry {
    /// It waits for an exporter.
    Queued(Box<RunView>),
    /// Its export was cancelled.
    Cancelled,
    /// It has not failed: that is where it stands.
    Not(RunStatus),
    /// Its destination has been deleted.
    NoDestination,
}

/// How long things may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// A run, from when it was first taken.
    pub task: u32,
    /// An export, from when its first run was taken.
    pub export: u32,
}

/// Which windows of a schedule are to be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Those that ended by then.
    pub before: Timestamp,
    /// As long as no more than so many of its exports are under way; 0 is no limit.
    pub under_way: u32,
}

/// An exporter that asks for runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRequest {
    /// Under which lease it would hold them.
    pub lease: Lease,
    /// How many it can hold at once.
    pub capacity: u32,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportOutcome {
    /// It is stored.
    Applied(Box<Task>),
    /// It came from somebody who no longer holds the run.
    Stale,
}

/// The bucket and the sealed credentials that a lease gives access to.
#[derive(Debug)]
pub struct Access {
    /// Whose.
    pub tenant: TenantId,
    /// Which destination.
    pub destination: DestinationId,
    /// Where it is.
    pub bucket: Bucket,
    /// How it authenticates.
    pub identity: Identity,
    /// The keys, when it is by keys.
    pub sealed: Option<Sealed>,
}

/// What became of a destination that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// There is none.
    Absent,
    /// That export still writes to it, or that schedule will.
    InUse(ExportId),
}
