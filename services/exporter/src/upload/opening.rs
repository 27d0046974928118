//! How a multipart upload starts (opened, then recorded, before anything is sent) and how it is
//! aborted if it fails.

use std::{collections::HashMap, time::Duration};

use tracelift_bucket::{Fault, NewObject, OpenUpload};
use tracelift_core::{failure::Step, file::FileIntent};

use super::Uploader;
use crate::{
    destination::{CallError, chance},
    lease::{JobError, StopReason},
};

/// Attempts to open an upload while the store does not respond.
const OPENINGS: u32 = 4;
/// Attempts to abort an upload until the store reports that it is gone.
const ABORTS: u32 = 3;

impl Uploader<'_> {
    /// Opens an upload and records its intent.
    pub(super) async fn open(&self, number: u32) -> Result<FileIntent, JobError> {
        let mut intent = self.intent(number, String::new());
        for attempt in 1.. {
            match self.create(&intent).await {
                Ok(upload_id) => {
                    intent.upload_id = upload_id;
                    break;
                }
                Err(CallError::Refused(error))
                    if error.fault == Fault::Unavailable && attempt < OPENINGS =>
                {
                    // The upload may have been opened even so, under an id that we never received.
                    self.abort_unknown(&intent.key).await?;
                    let wait = Duration::from_millis(500 << attempt).mul_f64(chance());
                    tokio::select! {
                        why = self.lease.halted() => return Err(JobError::Stopped(why)),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Err(error) => return Err(error.at(Step::Upload)),
            }
        }
        match self.reporter.file_intent(self.lease, &intent).await {
            Ok(()) => Ok(intent),
            Err(halt) => {
                // Even if another exporter holds the task now: it may never have learned of this
                // upload.
                self.end(&intent).await;
                Err(halt)
            }
        }
    }

    async fn create(&self, intent: &FileIntent) -> Result<String, CallError> {
        self.destination.open_upload(&self.object(intent)).await
    }

    pub(super) fn object(&self, intent: &FileIntent) -> NewObject {
        let (key, metadata) = (intent.key.clone(), self.metadata(intent));
        NewObject { key, content_type: self.content_type, metadata }
    }

    /// Metadata of our objects.
    fn metadata(&self, intent: &FileIntent) -> HashMap<String, String> {
        let entries = [
            (TASK, self.task.to_string()),
            ("tracelift-file", intent.number.to_string()),
            ("tracelift-fence", self.lease.fence.0.to_string()),
            (TOKEN, intent.token.clone()),
        ];
        entries.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Aborts the current upload, unless another exporter holds the task now: then the upload is
    /// its to abort.
    pub(super) async fn clean_up(&self, intent: &FileIntent, halt: &JobError) {
        if *halt != JobError::Stopped(StopReason::Revoked) {
            self.end(intent).await;
        }
    }

    async fn end(&self, intent: &FileIntent) {
        let upload = OpenUpload { key: &intent.key, id: &intent.upload_id };
        if let Err(error) = self.destination.abort_upload_once(upload).await
            && error.fault != Fault::NoSuchUpload
        {
            tracing::warn!(%error, key = intent.key, "an upload stays open until its successor ends it");
        }
    }

    /// Aborts an upload until it is gone: parts in flight during a first abort may arrive after it.
    ///
    /// A bucket that grants only PutObject refuses. The file that is then rewritten replaces
    /// whatever the old upload creates.
    pub(super) async fn abort_until_gone(
        &self,
        key: &str,
        upload_id: &str,
    ) -> Result<(), JobError> {
        for _ in 0..ABORTS {
            match self.destination.abort_upload(OpenUpload { key, id: upload_id }).await {
                Ok(()) => {}
                Err(CallError::Refused(error)) => match error.fault {
                    Fault::NoSuchUpload | Fault::NoSuchKey | Fault::AccessDenied => return Ok(()),
                    _ => return Err(CallError::Refused(error).at(Step::Upload)),
                },
                Err(error) => return Err(error.at(Step::Upload)),
            }
        }
        Ok(())
    }

    /// Aborts uploads of exactly this key that were opened but never recorded. If the store does
    /// not respond, the next attempt retries; if the bucket does not permit listing, its own
    /// lifecycle rule has to abort them.
    pub(super) async fn abort_unknown(&self, key: &str) -> Result<(), JobError> {
        let listed = match self.destination.uploads(key).await {
            Ok(listed) => listed,
            Err(CallError::Refused(error)) if error.fault != Fault::Unavailable => {
                tracing::debug!(%error, key, "open uploads cannot be listed");
                return Ok(());
            }
            Err(error) => return Err(error.at(Step::Upload)),
        };
        for id in listed {
            tracing::info!(key, "an upload that nobody knew is aborted");
            self.abort_until_gone(key, &id).await?;
        }
        Ok(())
    }
}

/// Names of metadata entries.
pub(super) const TASK: &str = "tracelift-run";
pub(super) const TOKEN: &str = "tracelift-token";
