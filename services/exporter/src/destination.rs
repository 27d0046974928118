//! The destination of one run, as long as its lease lasts: calls wait out throttling, and keys that
//! have expired are asked for anew. It knows how to call, not what.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::Instant;
use tracelift_bucket::{BucketError, Client, Connector, Extra, Fault, Grant, Line};
use tracelift_core::{
    destination::{Bucket, StoreFeatures},
    failure::{Failure, FailureClass, Step},
};

use crate::{
    access::Access,
    backoff::Backoff,
    lease::JobError,
    lease::{Lease, StopReason},
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

/// Whether a call in flight is broken off when the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenStopped {
    Abort,
    Await,
}

/// A run's destination.
pub(crate) struct Destination {
    lease: Lease,
    access: Access,
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
    client: Client,
    grant: Grant,
}

impl Destination {
    /// Asks the control plane where it is and for its keys.
    pub(crate) async fn open(
        access: Access,
        connector: Connector,
        lease: Lease,
        meter: Arc<Meter>,
        patience: Patience,
    ) -> Result<Arc<Self>, JobError> {
        let line = line(&meter, patience);
        let current = connect(&access, &connector, &lease, line).await?;
        let (taken, features) =
            (AtomicBool::new(meter.has_files()), Mutex::new(current.client.bucket().features));
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
        self.current().client.bucket().clone()
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
            current.client = current.client.knowing(*known);
        }
    }

    /// How many parts may be on their way where the setting allows `most`.
    pub(crate) fn parts_at_once(&self, most: usize) -> usize {
        self.width().at_once(most)
    }

    /// Sends a part, and learns from how long it takes how many to send at once.
    pub(crate) async fn part<T>(
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

    /// A call that is broken off when the lease ends.
    pub(crate) async fn call<T, E, F>(
        &self,
        name: &'static str,
        send: impl Fn(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: Error + ProvideErrorMetadata + 'static,
    {
        self.retrying(name, send, WhenStopped::Abort).await
    }

    /// A call whose outcome must be known once it was sent: an object that exists is reported,
    /// whatever comes meanwhile.
    pub(crate) async fn settle<T, E, F>(
        &self,
        name: &'static str,
        send: impl Fn(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: Error + ProvideErrorMetadata + 'static,
    {
        self.retrying(name, send, WhenStopped::Await).await
    }

    /// One call to clean up with, whether or not the lease still stands.
    pub(crate) async fn once<T, E, F>(
        &self,
        name: &'static str,
        send: impl Fn(Client) -> F,
    ) -> Result<T, BucketError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: Error + ProvideErrorMetadata + 'static,
    {
        let client = self.current().client;
        send(client.clone()).await.map_err(|error| client.judge(name, &error))
    }

    async fn retrying<T, E, F>(
        &self,
        name: &'static str,
        send: impl Fn(Client) -> F,
        when_stopped: WhenStopped,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: Error + ProvideErrorMetadata + 'static,
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
            let Current { client, grant } = self.current();
            let answer = match when_stopped {
                WhenStopped::Await => send(client.clone()).await,
                WhenStopped::Abort => tokio::select! {
                    biased;
                    why = self.lease.halted() => return Err(CallError::Stopped(why)),
                    answer = send(client.clone()) => answer,
                },
            };
            match answer {
                Ok(answer) => {
                    self.answered(name);
                    return Ok(answer);
                }
                Err(error) => {
                    let error = client.judge(name, &error);
                    if when_stopped == WhenStopped::Abort
                        && self.forgo_checksums(client.bucket().features, &error)
                    {
                        continue;
                    }
                    self.refused(error, &grant, &mut resend).await?;
                }
            }
        }
    }

    /// Whether a write that carried so much, and no condition, is to be sent without its checksum.
    fn forgo_checksums(&self, carried: StoreFeatures, error: &BucketError) -> bool {
        let about = matches!(error.extra, Some(Extra::Checksums | Extra::Any));
        let forgone = about && is_write(error.call) && carried.checksums;
        if forgone {
            self.knows(StoreFeatures { checksums: false, ..carried });
        }
        forgone
    }

    fn answered(&self, name: &str) {
        self.backoff.faster();
        self.meter.held_up(None);
        if is_write(name) {
            self.has_taken();
        }
    }

    /// Returns when the call is to be sent again.
    async fn refused(
        &self,
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
        let taken = is_write(error.call) && self.taken.load(Relaxed);
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
        let renewed = Current { client: renewed.client.knowing(self.features()), ..renewed };
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
    access: &Access,
    connector: &Connector,
    lease: &Lease,
    line: Line,
) -> Result<Current, JobError> {
    let (bucket, grant) = access.destination(lease).await?;
    let client = connector.patient_client(&bucket, &grant, line, REQUEST_ATTEMPTS).await;
    let client = client.map_err(|error| failure(Step::Access, &error))?;
    Ok(Current { client, grant })
}

/// Whether a call writes; others may be denied to a key that is good for exports.
fn is_write(call: &str) -> bool {
    ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"].contains(&call)
}

/// Anywhere from 0 to 1.
pub(crate) fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
