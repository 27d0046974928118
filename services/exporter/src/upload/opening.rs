//! The beginning of a multipart upload: opened, then made known, before anything is sent. And its
//! end when it comes to nothing.

use std::{collections::HashMap, time::Duration};

use tracelift_bucket::{Fault, NewObject, OpenUpload};
use tracelift_core::{failure::Step, file::FileIntent};

use super::Uploader;
use crate::{
    destination::{CallError, chance},
    lease::{JobError, StopReason},
};

/// How often an upload is tried to be opened while the store does not answer.
const OPENINGS: u32 = 4;
/// How often an upload is aborted until the store says that it is gone.
const ABORTS: u32 = 3;

impl Uploader<'_> {
    /// Opens an upload and makes it known.
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
                    // It may have been opened all the same, under an id that nobody knows.
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
                // Even when the run is somebody else's now: whoever has it may never have heard of
                // this upload.
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

    /// What an object of ours says of itself.
    fn metadata(&self, intent: &FileIntent) -> HashMap<String, String> {
        let entries = [
            (TASK, self.task.to_string()),
            ("tracelift-file", intent.number.to_string()),
            ("tracelift-fence", self.lease.fence.0.to_string()),
            (TOKEN, intent.token.clone()),
        ];
        entries.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Aborts the upload in hand, unless the run is somebody else's now: then the upload is theirs
    /// to end.
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

    /// Aborts until the upload is gone: parts that were on their way at a first abort may have
    /// landed after it.
    ///
    /// A bucket that grants PutObject only refuses; what is then written anew replaces whatever the
    /// old upload makes.
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

    /// Aborts uploads of this very key that were opened but never became known. A store that does
    /// not answer now is asked again by the next attempt; where the bucket does not let us
    /// list, its own lifecycle rule has to end them.
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

/// Names in an object's metadata.
pub(super) const TASK: &str = "tracelift-run";
pub(super) const TOKEN: &str = "tracelift-token";
