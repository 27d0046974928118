//! The destination of one run, as long as its lease lasts: calls wait out throttling, and keys that
//! have expired are asked for anew. It knows how to call, not what.

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

/// How often a transient fault is tried within one call.
const REQUEST_ATTEMPTS: u32 = 4;

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The lease ended first.
    Stopped(StopReason),
    /// The store refused, or could not be reached.
    Refused(BucketError),
    /// The destination could not be asked for anew.
    Access(JobError),
}

impl CallError {
    /// What it means for the job.
    pub(crate) fn at(self, step: Step) -> JobError {
        match self {
            Self::Stopped(why) => JobError::Stopped(why),
            Self::Refused(error) => JobError::Failed(failure(step, &error)),
            Self::Access(halt) => halt,
        }
    }
}

/// What a destination's refusal means for the run.
pub(crate) fn failure(step: Step, error: &BucketError) -> Failure {
    let class = match error.fault {
        Fault::Throttled => FailureClass::Throttled,
        // A role may not be assumed because the token service is away, which is no reason to give
        // up. What arrived damaged again and again is written anew by the next attempt.
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

/// What a call asks for: reads may be denied to keys that are good for exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Whether a call in flight is aborted when the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenStopped {
    Abort,
    Await,
}

/// What a new object is made of.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it.
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
    /// What the store knows, as far as its check and it have said.
    features: Mutex<StoreFeatures>,
    /// Whether it has taken a write of this run.
    taken: AtomicBool,
}

#[derive(Clone)]
struct Current {
    store: Arc<dyn ObjectStore>,
    grant: Grant,
}

impl Destination {
    /// Asks the control plane where it is and for its keys.
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

    /// Its bucket.
    pub(crate) fn bucket(&self) -> Bucket {
        self.current().store.bucket().clone()
    }

    /// It has taken a write of this run or of what the run builds on.
    pub(crate) fn has_taken(&self) {
        self.taken.store(true, Relaxed);
    }

    /// What its store knows, as far as it has said.
    pub(crate) fn features(&self) -> StoreFeatures {
        *self.features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store has taken a request with no more than that: so much it knows, and the run's other
    /// requests carry no more.
    pub(crate) fn knows(&self, features: StoreFeatures) {
        let mut known = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        if known.and(features) != *known {
            *known = known.and(features);
            tracing::info!(features = ?*known, "the destination does not know everything that we send");
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.store = current.store.with_features(*known);
        }
    }

    /// How many parts may be on their way where the setting allows `most`.
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

    /// Writes an object, whatever stands at its key.
    pub(crate) async fn put(&self, object: &NewObject, body: &Bytes) -> Result<(), CallError> {
        let put = self.retrying(Access::Write, WhenStopped::Abort, |store| {
            let body = body.clone();
            async move { store.put(object, body, false).await }
        });
        put.await.map(drop)
    }

    /// Opens an upload; its id. Waited for whatever comes meanwhile: only we can know the id of
    /// what it opens.
    pub(crate) async fn open_upload(&self, object: &NewObject) -> Result<String, CallError> {
        self.retrying(Access::Write, WhenStopped::Await, |store| async move {
            store.open_upload(object).await
        })
        .await
    }

    /// Sends a part, and learns from how long it takes how many to send at once. `most`: how many
    /// the setting allows.
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

    /// Makes an object, sending only what `features` say; its etag. The outcome must be known once
    /// it was sent: an object that exists is reported, whatever comes meanwhile.
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

    /// Discards an upload.
    pub(crate) async fn abort_upload(&self, upload: OpenUpload<'_>) -> Result<(), CallError> {
        self.retrying(Access::Read, WhenStopped::Abort, |store| async move {
            store.abort_upload(upload).await
        })
        .await
    }

    /// Discards an upload, whether or not the lease still stands; tried once.
    pub(crate) async fn abort_upload_once(
        &self,
        upload: OpenUpload<'_>,
    ) -> Result<(), BucketError> {
        self.current().store.abort_upload(upload).await
    }

    /// The ids of the open uploads of this very key.
    pub(crate) async fn uploads(&self, key: &str) -> Result<Vec<String>, CallError> {
        self.retrying(
            Access::Read,
            WhenStopped::Abort,
            |store| async move { store.uploads(key).await },
        )
        .await
    }

    /// Describes an object.
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

    /// Whether a write that carried so much, and no condition, is to be sent without its checksum.
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

    /// Returns when the call is to be sent again.
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
        // Keys are replaced while runs go on: those of before may be good no longer.
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

    /// Asks for keys other than `expired`; whether there are any.
    async fn renew(&self, expired: &Grant) -> Result<bool, JobError> {
        let _one_at_a_time = self.renewing.lock().await;
        if self.current().grant != *expired {
            return Ok(true); // another call of this run was here first
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

/// Anywhere from 0 to 1.
pub(crate) fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
