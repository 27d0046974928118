//! The destination of one task for the duration of its lease: calls wait out throttling, and
//! expired credentials are fetched again. This module knows how to call, not what.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::time::Instant;
use tracelift_bucket::{
    BucketError, Connector, Extra, Fault, Grant, Line, NewObject, ObjectInfo, ObjectStore,
    OpenUpload,
};
use tracelift_core::{
    destination::{Bucket, StoreFeatures},
    failure::{Failure, FailureClass, Step},
    part::UploadedPart,
};

use crate::{
    access::DestinationAccess,
    backoff::Backoff,
    lease::{JobError, Lease, StopReason},
    meter::Meter,
    resend::Resend,
    settings::Patience,
    width::Width,
};

/// Attempts per call for transient errors.
const REQUEST_ATTEMPTS: u32 = 4;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The lease ended first.
    Stopped(StopReason),
    /// The store refused, or could not be reached.
    Refused(BucketError),
    /// Credentials could not be fetched again.
    Access(JobError),
}

impl CallError {
    /// Converts it to the job's error.
    pub(crate) fn at(self, step: Step) -> JobError {
        match self {
            Self::Stopped(why) => JobError::Stopped(why),
            Self::Refused(error) => JobError::Failed(failure(step, &error)),
            Self::Access(halt) => halt,
        }
    }
}

/// Classifies a destination's error for the task.
pub(crate) fn failure(step: Step, error: &BucketError) -> Failure {
    let class = match error.fault {
        Fault::Throttled => FailureClass::Throttled,
        // Neither is a reason to give up: the token service may be unavailable, so that the role
        // cannot be assumed, and the next attempt rewrites what keeps arriving damaged.
        Fault::Unavailable
        | Fault::Damaged
        | Fault::NoSuchUpload
        | Fault::ClockSkewed
        | Fault::NoIdentity => FailureClass::DestinationTransient,
        Fault::ExpiredToken => FailureClass::CustomerTransient,
        Fault::AccessDenied
        | Fault::BucketNotValid
        | Fault::UnknownKeyId
        | Fault::InvalidEndpoint
        | Fault::InvalidBucketName
        | Fault::WrongRegion
        | Fault::NoSuchKey
        | Fault::Exists
        | Fault::NotImplemented
        | Fault::Refused => FailureClass::CustomerConfig,
    };
    Failure { step, class, detail: error.told() }
}

/// What a call needs. Keys that are good for exports may be denied reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Whether to abort a call in flight when the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenStopped {
    Abort,
    Await,
}

/// The content of a new object.
#[derive(Debug)]
pub(crate) enum Content {
    /// The whole content.
    Whole(Bytes),
    /// The parts of an upload.
    Parts { upload_id: String, parts: Vec<UploadedPart>, bytes: u64 },
}

/// A task's destination: its object store, for as long as the lease lasts.
pub(crate) struct Destination {
    lease: Lease,
    access: DestinationAccess,
    connector: Connector,
    meter: Arc<Meter>,
    patience: Patience,
    backoff: Backoff,
    width: Mutex<Width>,
    current: Mutex<Current>,
    renewing: tokio::sync::Mutex<()>,
    /// Features of the store, from its check and from what it has rejected since.
    features: Mutex<StoreFeatures>,
    /// Whether it has accepted a write of this task.
    taken: AtomicBool,
}

#[derive(Clone)]
struct Current {
    store: Arc<dyn ObjectStore>,
    grant: Grant,
}

impl Destination {
    /// Fetches the bucket and its credentials from the control plane.
    pub(crate) async fn open(
        access: DestinationAccess,
        connector: Connector,
        lease: Lease,
        meter: Arc<Meter>,
        patience: Patience,
    ) -> Result<Arc<Self>, JobError> {
        let line = line(&meter, patience);
        let current = connect(&access, &connector, &lease, line).await?;
        let (taken, features) =
            (AtomicBool::new(meter.has_files()), Mutex::new(current.store.bucket().features));
        Ok(Arc::new(Self {
            lease,
            access,
            connector,
            meter,
            patience,
            backoff: Backoff::default(),
            width: Mutex::default(),
            current: Mutex::new(current),
            renewing: tokio::sync::Mutex::default(),
            features,
            taken,
        }))
    }

    /// The bucket's settings.
    pub(crate) fn bucket(&self) -> Bucket {
        self.current().store.bucket().clone()
    }

    /// Records that it has accepted a write of this task, or of one that this task builds on.
    pub(crate) fn has_taken(&self) {
        self.taken.store(true, Relaxed);
    }

    /// The features known so far.
    pub(crate) fn features(&self) -> StoreFeatures {
        *self.features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a request succeeded with only these features; further requests of the task use
    /// no others.
    pub(crate) fn knows(&self, features: StoreFeatures) {
        let mut known = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        if known.and(features) != *known {
            *known = known.and(features);
            tracing::info!(features = ?*known, "the destination does not know everything that we send");
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.store = current.store.with_features(*known);
        }
    }

    /// Parts that may be in flight if the setting allows `most`.
    pub(crate) fn parts_at_once(&self, most: usize) -> usize {
        self.width().at_once(most)
    }

    async fn measured<T>(
        &self,
        most: usize,
        sending: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let (number, begun) = (self.width().begin(), Instant::now());
        let sent = sending.await;
        match &sent {
            Ok(_) if begun.elapsed() < self.patience.slow_part => self.width().quick(most),
            Ok(_) => self.width().slow(number, most),
            Err(CallError::Refused(error)) if error.fault == Fault::Unavailable => {
                self.width().slow(number, most)
            }
            Err(_) => {}
        }
        sent
    }

    fn width(&self) -> MutexGuard<'_, Width> {
        self.width.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an object, replacing whatever is at its key.
    pub(crate) async fn put(&self, object: &NewObject, body: &Bytes) -> Result<(), CallError> {
        let put = self.retrying(Access::Write, WhenStopped::Abort, |store| {
            let body = body.clone();
            async move { store.put(object, body, false).await }
        });
        put.await.map(drop)
    }

    /// Opens an upload; returns its id. Not aborted when the lease ends, because only we can learn
    /// the id.
    pub(crate) async fn open_upload(&self, object: &NewObject) -> Result<String, CallError> {
        self.retrying(Access::Write, WhenStopped::Await, |store| async move {
            store.open_upload(object).await
        })
        .await
    }

    /// Uploads a part, and adapts the number of concurrent parts to its duration. `most`: the
    /// number that the setting allows.
    pub(crate) async fn upload_part(
        &self,
        most: usize,
        upload: OpenUpload<'_>,
        number: u32,
        body: &Bytes,
    ) -> Result<String, CallError> {
        let sending = self.retrying(Access::Write, WhenStopped::Abort, |store| {
            let body = body.clone();
            async move { store.upload_part(upload, number, body).await }
        });
        self.measured(most, sending).await
    }

    /// Creates an object using only `features`; returns its ETag. Not aborted when the lease ends,
    /// because an existing object must be reported.
    pub(crate) async fn make(
        &self,
        object: &NewObject,
        content: &Content,
        features: StoreFeatures,
        unless_exists: bool,
    ) -> Result<String, CallError> {
        self.retrying(Access::Write, WhenStopped::Await, |store| async move {
            let store = store.with_features(features);
            match content {
                Content::Whole(body) => store.put(object, body.clone(), unless_exists).await,
                Content::Parts { upload_id, parts, bytes } => {
                    let upload = OpenUpload { key: &object.key, id: upload_id };
                    store.complete_upload(upload, parts, *bytes, unless_exists).await
                }
            }
        })
        .await
    }

    /// Aborts an upload.
    pub(crate) async fn abort_upload(&self, upload: OpenUpload<'_>) -> Result<(), CallError> {
        self.retrying(Access::Read, WhenStopped::Abort, |store| async move {
            store.abort_upload(upload).await
        })
        .await
    }

    /// Aborts an upload in a single attempt, even if the lease has ended.
    pub(crate) async fn abort_upload_once(
        &self,
        upload: OpenUpload<'_>,
    ) -> Result<(), BucketError> {
        self.current().store.abort_upload(upload).await
    }

    /// Ids of the open uploads of exactly this key.
    pub(crate) async fn uploads(&self, key: &str) -> Result<Vec<String>, CallError> {
        self.retrying(
            Access::Read,
            WhenStopped::Abort,
            |store| async move { store.uploads(key).await },
        )
        .await
    }

    /// Fetches an object's attributes.
    pub(crate) async fn head(&self, key: &str) -> Result<ObjectInfo, CallError> {
        self.retrying(
            Access::Read,
            WhenStopped::Await,
            |store| async move { store.head(key).await },
        )
        .await
    }

    async fn retrying<T, F>(
        &self,
        access: Access,
        when_stopped: WhenStopped,
        send: impl Fn(Arc<dyn ObjectStore>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, BucketError>>,
    {
        let mut resend = Resend::default();
        loop {
            tokio::select! {
                biased;
                why = self.lease.halted() => return Err(CallError::Stopped(why)),
                () = self.backoff.turn() => {}
            }
            if self.lease.may_have_lapsed() {
                return Err(CallError::Stopped(StopReason::Revoked));
            }
            let Current { store, grant } = self.current();
            let answer = match when_stopped {
                WhenStopped::Await => send(store.clone()).await,
                WhenStopped::Abort => tokio::select! {
                    biased;
                    why = self.lease.halted() => return Err(CallError::Stopped(why)),
                    answer = send(store.clone()) => answer,
                },
            };
            match answer {
                Ok(answer) => {
                    self.answered(access);
                    return Ok(answer);
                }
                Err(error) => {
                    if when_stopped == WhenStopped::Abort
                        && self.forgo_checksums(access, store.bucket().features, &error)
                    {
                        continue;
                    }
                    self.refused(access, error, &grant, &mut resend).await?;
                }
            }
        }
    }

    /// Whether to retry a write (never conditional) without its checksum.
    fn forgo_checksums(&self, access: Access, carried: StoreFeatures, error: &BucketError) -> bool {
        let about = matches!(error.extra, Some(Extra::Checksums | Extra::Any));
        let forgone = about && access == Access::Write && carried.checksums;
        if forgone {
            self.knows(StoreFeatures { checksums: false, ..carried });
        }
        forgone
    }

    fn answered(&self, access: Access) {
        self.backoff.faster();
        self.meter.held_up(None);
        if access == Access::Write {
            self.has_taken();
        }
    }

    /// Handles an error; returns once the call should be retried.
    async fn refused(
        &self,
        access: Access,
        error: BucketError,
        grant: &Grant,
        resend: &mut Resend,
    ) -> Result<(), CallError> {
        if error.fault == Fault::Throttled {
            metrics::counter!("tracelift_destination_throttled_total").increment(1);
            tracing::debug!(call = error.call, "the destination asks to slow down");
            self.meter.held_up(Some("waiting: the destination asks to slow down"));
            self.backoff.slower(chance());
            return Ok(());
        }
        let taken = access == Access::Write && self.taken.load(Relaxed);
        // Credentials may be replaced during an export, which invalidates the old ones.
        let keys = matches!(error.fault, Fault::ExpiredToken | Fault::UnknownKeyId)
            || error.fault == Fault::AccessDenied && taken;
        if keys && self.renew(grant).await.map_err(CallError::Access)? {
            return Ok(());
        }
        let Some(wait) = resend.after(error.fault, taken, Instant::now(), chance()) else {
            return Err(CallError::Refused(error));
        };
        tracing::info!(%error, "a call is sent again");
        if error.fault != Fault::Damaged {
            self.meter.held_up(Some("waiting: the destination denies what it took before"));
        }
        tokio::select! {
            biased;
            why = self.lease.halted() => Err(CallError::Stopped(why)),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Fetches credentials other than `expired`; returns whether there are any.
    async fn renew(&self, expired: &Grant) -> Result<bool, JobError> {
        let _one_at_a_time = self.renewing.lock().await;
        if self.current().grant != *expired {
            return Ok(true); // another call of this task has already renewed them
        }
        let renewed =
            connect(&self.access, &self.connector, &self.lease, line(&self.meter, self.patience))
                .await?;
        if renewed.grant == *expired {
            return Ok(false);
        }
        let renewed = Current { store: renewed.store.with_features(self.features()), ..renewed };
        tracing::info!("the destination's keys were no longer good; new ones are used");
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(true)
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn line(meter: &Meter, patience: Patience) -> Line {
    Line { silence: patience.silence, slowest: patience.slowest, under_way: meter.under_way() }
}

async fn connect(
    access: &DestinationAccess,
    connector: &Connector,
    lease: &Lease,
    line: Line,
) -> Result<Current, JobError> {
    let (bucket, grant) = access.destination(lease).await?;
    let store = connector.patient_store(&bucket, &grant, line, REQUEST_ATTEMPTS).await;
    let store = store.map_err(|error| failure(Step::Access, &error))?;
    Ok(Current { store, grant })
}

/// A random number from 0 to 1.
pub(crate) fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
