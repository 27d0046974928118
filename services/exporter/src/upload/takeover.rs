//! Objects that may already exist: written on condition that their key is free, checked if it is
//! not or if a response was lost, and adopted from an attempt that was lost. `core::takeover`
//! decides.

use tracelift_bucket::{BucketError, Extras, Fault, ObjectInfo};
use tracelift_core::{
    failure::{Failure, FailureClass, Step},
    file::{File, FileIntent},
    takeover::{Decision, Found, decide},
};

use super::{
    Uploader,
    opening::{TASK, TOKEN},
};
use crate::{
    destination::{CallError, Content},
    lease::JobError,
};

impl Uploader<'_> {
    /// Creates an object and returns its ETag, on condition that none exists, if the store supports
    /// conditions.
    ///
    /// The condition stops an exporter that wakes up after its successor has written the file, even
    /// if the bucket did not let the successor abort the upload, and even for a PutObject, which
    /// has no upload to abort.
    pub(super) async fn unless_there(
        &self,
        intent: &FileIntent,
        content: &Content,
    ) -> Result<String, JobError> {
        let object = self.object(intent);
        let (mut extras, mut replace) = (Extras::new(self.destination.features()), false);
        loop {
            let now = extras.now();
            let conditional = now.conditional_writes && !replace;
            let error = match self.destination.make(&object, content, now, conditional).await {
                Ok(etag) => {
                    self.destination.knows(now);
                    return Ok(etag.trim_matches('"').to_owned());
                }
                Err(CallError::Refused(error)) => error,
                Err(error) => return Err(error.at(Step::Upload)),
            };
            match error.fault {
                _ if error.extra.is_some_and(|extra| extras.fewer(extra)) => {}
                Fault::Exists if conditional => match self.look(intent).await? {
                    Decision::Adopt { etag } => return Ok(etag),
                    Decision::Write => {
                        // Only the lease holder may replace the object. An exporter that slept past
                        // its lease learns that here and stops.
                        self.reporter.file_intent(self.lease, intent).await?;
                        replace = true;
                    }
                    Decision::Conflict => return Err(conflict(intent)),
                },
                // The object may exist although the response was lost.
                Fault::Unavailable | Fault::NoSuchUpload => match self.look(intent).await {
                    Ok(Decision::Adopt { etag }) => {
                        tracing::info!(
                            key = intent.key,
                            "the object is there although the answer was lost"
                        );
                        return Ok(etag);
                    }
                    _ => return Err(CallError::Refused(error).at(Step::Upload)),
                },
                _ => return Err(CallError::Refused(error).at(Step::Upload)),
            }
        }
    }

    /// Cleans up after a lost attempt at the key of the next file: aborts its upload, then checks
    /// the key. Returns the file if it is complete but was never reported.
    pub(crate) async fn take_over(
        &self,
        number: u32,
        unresolved: Option<&FileIntent>,
    ) -> Result<Option<File>, JobError> {
        let key = unresolved.map_or_else(|| (self.key)(number), |intent| intent.key.clone());
        if let Some(intent) = unresolved.filter(|intent| !intent.upload_id.is_empty()) {
            tracing::info!(key, "the upload of an earlier attempt is aborted");
            self.abort_until_gone(&key, &intent.upload_id).await?;
        }
        self.abort_unknown(&key).await?;
        let Some(intent) = unresolved else { return Ok(None) };
        match (self.look(intent).await?, intent.whole.as_deref()) {
            (Decision::Adopt { etag }, Some(file)) => {
                tracing::info!(key, "a file that an earlier attempt had completed is taken over");
                Ok(Some(File { etag, ..file.clone() }))
            }
            (Decision::Conflict, _) => Err(conflict(intent)),
            _ => Ok(None),
        }
    }

    async fn look(&self, intent: &FileIntent) -> Result<Decision, JobError> {
        let found = match self.destination.head(&intent.key).await {
            Ok(ObjectInfo { bytes, etag, mut metadata }) => {
                let (task, token) = (metadata.remove(TASK), metadata.remove(TOKEN));
                Found::Object { task, token, bytes, etag }
            }
            Err(CallError::Refused(BucketError { fault: Fault::NoSuchKey, .. })) => Found::Nothing,
            Err(CallError::Refused(BucketError { fault: Fault::AccessDenied, .. })) => {
                Found::Denied
            }
            Err(error) => return Err(error.at(Step::Upload)),
        };
        Ok(decide(self.task, Some(intent), &found))
    }
}

fn conflict(intent: &FileIntent) -> JobError {
    let detail = format!(
        "an object that is not of this export stands at {}; remove it, or export to another prefix: it is not replaced",
        intent.key
    );
    JobError::Failed(Failure { step: Step::Upload, class: FailureClass::CustomerConfig, detail })
}
