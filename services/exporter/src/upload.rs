//! Writes Parquet bytes to objects: a file that fits into one part with a single PutObject, any
//! other with a multipart upload.
//!
//! No write carries data before the control plane has acknowledged its intent, and no object can
//! exist before the control plane knows what it will hold. Parts must have no gaps and total
//! exactly what was encoded.

mod opening;
mod takeover;

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use tracelift_bucket::OpenUpload;
use tracelift_core::{
    failure::{Failure, FailureClass, Step},
    file::{File, FileIntent, Totals},
    id::TaskId,
    part::{self, UploadedPart},
};
use tracelift_runtime::tasks;
use uuid::Uuid;

use crate::{
    destination::{self, Destination},
    encode::{Content, Encoded},
    lease::{JobError, Lease},
    meter::{Meter, Stage},
    report::Reporter,
};

/// Writes the files of one task.
pub(crate) struct Uploader<'a> {
    pub(crate) destination: &'a Arc<Destination>,
    /// The task that the files belong to.
    pub(crate) task: TaskId,
    pub(crate) lease: &'a Lease,
    pub(crate) reporter: &'a Reporter,
    pub(crate) meter: &'a Arc<Meter>,
    pub(crate) parts_in_flight: usize,
    /// The key of a file, by its number.
    pub(crate) key: &'a (dyn Fn(u32) -> String + Sync),
    /// The media type of the files.
    pub(crate) content_type: &'static str,
}

impl Uploader<'_> {
    /// Uploads every file that the encoder produces. Adds to `before`, the totals of earlier
    /// attempts, and returns the sum.
    pub(crate) async fn run(
        &self,
        parts: &mut mpsc::Receiver<Encoded>,
        before: Totals,
    ) -> Result<Totals, JobError> {
        let mut totals = before;
        while let Some(first) = self.next(parts).await? {
            let file = self.file(totals.files, part(Some(first))?, parts).await?;
            totals = totals.plus(Totals::of([&file]));
            self.meter.add_file();
            self.reporter.file_done(self.lease, &file).await?;
        }
        Ok(totals)
    }

    async fn next(&self, parts: &mut mpsc::Receiver<Encoded>) -> Result<Option<Encoded>, JobError> {
        tokio::select! {
            biased;
            why = self.lease.halted() => Err(JobError::Stopped(why)),
            encoded = parts.recv() => Ok(encoded),
        }
    }

    async fn file(
        &self,
        number: u32,
        first: Bytes,
        parts: &mut mpsc::Receiver<Encoded>,
    ) -> Result<File, JobError> {
        match self.next(parts).await? {
            Some(Encoded::End(content)) => self.put(number, first, content).await,
            second => self.multipart(number, [first, part(second)?], parts).await,
        }
    }

    /// Uploads a small file in one request.
    async fn put(&self, number: u32, body: Bytes, content: Content) -> Result<File, JobError> {
        let _uploading = self.meter.time(Stage::Upload);
        let size = body.len() as u64;
        part::complete(vec![UploadedPart { number: 1, size, etag: String::new() }], content.bytes)
            .map_err(incomplete)?;
        let mut intent = self.intent(number, String::new());
        let file = describe(&intent, content);
        intent.whole = Some(Box::new(file.clone()));
        self.reporter.file_intent(self.lease, &intent).await?;
        let etag = self.unless_there(&intent, &destination::Content::Whole(body)).await?;
        self.meter.add_bytes(size);
        Ok(File { etag, ..file })
    }

    /// Uploads a large file in parts.
    async fn multipart(
        &self,
        number: u32,
        first: [Bytes; 2],
        parts: &mut mpsc::Receiver<Encoded>,
    ) -> Result<File, JobError> {
        let intent = self.open(number).await?;
        let written = match self.parts(&intent, first, parts).await {
            Ok((uploaded, content)) => self.complete(intent.clone(), uploaded, content).await,
            Err(halt) => Err(halt),
        };
        if let Err(halt) = &written {
            self.clean_up(&intent, halt).await;
        }
        written
    }

    /// Uploads parts, a few at a time, until the file ends.
    async fn parts(
        &self,
        intent: &FileIntent,
        first: [Bytes; 2],
        parts: &mut mpsc::Receiver<Encoded>,
    ) -> Result<(Vec<UploadedPart>, Content), JobError> {
        let (mut sending, mut uploaded) = (JoinSet::new(), Vec::new());
        let mut here = first.into_iter().map(Encoded::Part);
        for number in 1.. {
            let next = match here.next() {
                Some(next) => next,
                None => self.next(parts).await?.ok_or_else(out_of_step)?,
            };
            let bytes = match next {
                Encoded::Part(bytes) if number <= part::MAX_PARTS => bytes,
                Encoded::Part(_) => {
                    return Err(internal(
                        "a file needs more parts than S3 allows: raise --part-bytes or lower --file-bytes",
                    ));
                }
                Encoded::End(content) => {
                    while !sending.is_empty() {
                        self.sent(&mut sending, &mut uploaded).await?;
                    }
                    return Ok((uploaded, content));
                }
            };
            while sending.len() >= self.destination.parts_at_once(self.parts_in_flight) {
                self.sent(&mut sending, &mut uploaded).await?;
            }
            let part = Part {
                destination: self.destination.clone(),
                meter: self.meter.clone(),
                intent: intent.clone(),
                number,
                bytes,
            };
            tasks::start_in(&mut sending, "part", part.send(self.parts_in_flight));
        }
        Err(out_of_step())
    }

    async fn sent(
        &self,
        sending: &mut JoinSet<Result<UploadedPart, JobError>>,
        uploaded: &mut Vec<UploadedPart>,
    ) -> Result<(), JobError> {
        let _uploading = self.meter.time(Stage::Upload);
        let sent = tokio::select! {
            biased;
            why = self.lease.halted() => return Err(JobError::Stopped(why)),
            sent = sending.join_next() => sent,
        };
        match sent {
            Some(Ok(part)) => uploaded.push(part?),
            Some(Err(_)) => return Err(out_of_step()),
            None => {}
        }
        Ok(())
    }

    /// Completes the upload, once its parts are complete and the control plane knows what the
    /// object will hold.
    async fn complete(
        &self,
        mut intent: FileIntent,
        uploaded: Vec<UploadedPart>,
        content: Content,
    ) -> Result<File, JobError> {
        let _uploading = self.meter.time(Stage::Upload);
        let parts = part::complete(uploaded, content.bytes).map_err(incomplete)?;
        let file = describe(&intent, content);
        intent.whole = Some(Box::new(file.clone()));
        self.reporter.file_intent(self.lease, &intent).await?;
        let (upload_id, bytes) = (intent.upload_id.clone(), file.bytes);
        let content = destination::Content::Parts { upload_id, parts, bytes };
        let etag = self.unless_there(&intent, &content).await?;
        Ok(File { etag, ..file })
    }

    fn intent(&self, number: u32, upload_id: String) -> FileIntent {
        FileIntent {
            number,
            key: (self.key)(number),
            upload_id,
            token: Uuid::new_v4().to_string(),
            whole: None,
        }
    }
}

/// A part to upload.
struct Part {
    destination: Arc<Destination>,
    meter: Arc<Meter>,
    intent: FileIntent,
    number: u32,
    bytes: Bytes,
}

impl Part {
    /// Uploads the part. `at_once`: the number of concurrent parts that the setting allows.
    async fn send(self, at_once: usize) -> Result<UploadedPart, JobError> {
        let Self { destination, meter, intent, number, bytes } = self;
        let size = bytes.len() as u64;
        let upload = OpenUpload { key: &intent.key, id: &intent.upload_id };
        let etag = destination.upload_part(at_once, upload, number, &bytes).await;
        let etag = etag.map_err(|error| error.at(Step::Upload))?;
        meter.add_bytes(size);
        Ok(UploadedPart { number, size, etag })
    }
}

/// The file as it will be recorded, without its ETag.
fn describe(intent: &FileIntent, content: Content) -> File {
    File {
        number: intent.number,
        key: intent.key.clone(),
        rows: content.rows,
        bytes: content.bytes,
        etag: String::new(),
        sha256: content.sha256,
        min_start_time: content.min_start_time,
        max_start_time: content.cursor.start_time,
        cursor: content.cursor,
        hydrated_objects: content.objects,
        hydration_misses: content.miss_count,
        misses: content.misses,
        oversized: content.oversized,
        left_out: content.left_out,
    }
}

fn part(encoded: Option<Encoded>) -> Result<Bytes, JobError> {
    match encoded {
        Some(Encoded::Part(bytes)) => Ok(bytes),
        Some(Encoded::End(_)) | None => Err(out_of_step()),
    }
}

fn incomplete(error: part::Incomplete) -> JobError {
    internal(&error.to_string())
}

fn out_of_step() -> JobError {
    internal("the encoder and the uploader are out of step")
}

fn internal(detail: &str) -> JobError {
    JobError::Failed(Failure {
        step: Step::Upload,
        class: FailureClass::Internal,
        detail: detail.to_owned(),
    })
}
