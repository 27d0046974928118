//! Parquet bytes to objects. No upload carries data before the control plane has acknowledged its intent, and none is
//! completed unless its parts are dense and hold exactly what was encoded.

use std::sync::Arc;

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use tracelift_bucket::{BucketError, Client, Fault, WriteArguments as _};
use tracelift_core::{
    failure::{Failure, FailureClass, Step},
    file::{File, FileIntent, Totals},
    part::{self, UploadedPart},
};
use tracelift_runtime::tasks;
use uuid::Uuid;

use crate::{
    encode::{Content, Encoded},
    job::Halt,
    lease::Lease,
    meter::{Meter, Stage},
    report::Reporter,
};

/// Writes the files of one run.
pub(crate) struct Uploader<'a> {
    pub(crate) client: &'a Client,
    pub(crate) lease: &'a Lease,
    pub(crate) reporter: &'a Reporter,
    pub(crate) meter: &'a Arc<Meter>,
    pub(crate) parts_in_flight: usize,
    /// The key of file number n.
    pub(crate) key: &'a (dyn Fn(u32) -> String + Sync),
}

/// What a destination's refusal means for the run.
pub(crate) fn failure(step: Step, error: &BucketError) -> Failure {
    let class = match error.fault {
        Fault::Throttled => FailureClass::Throttled,
        Fault::Unavailable | Fault::NoSuchUpload => FailureClass::DestinationTransient,
        Fault::ExpiredToken => FailureClass::CustomerTransient,
        Fault::AccessDenied
        | Fault::BucketNotValid
        | Fault::UnknownKeyId
        | Fault::InvalidEndpoint
        | Fault::InvalidBucketName
        | Fault::WrongRegion
        | Fault::NoSuchKey
        | Fault::Refused => FailureClass::CustomerConfig,
    };
    Failure { step, class, detail: error.told() }
}

impl Uploader<'_> {
    /// Uploads every file that leaves the encoder; `before` is what earlier attempts have done. The sum of all.
    pub(crate) async fn run(&self, parts: &mut mpsc::Receiver<Encoded>, before: Totals) -> Result<Totals, Halt> {
        let mut totals = before;
        while let Some(first) = self.next(parts).await? {
            let Encoded::Part(first) = first else { return Err(out_of_step()) };
            let file = self.file(totals.files, first, parts).await?;
            totals = totals.plus(Totals::of([&file]));
            self.meter.add_file();
            self.reporter.file_done(self.lease, &file).await?;
        }
        Ok(totals)
    }

    async fn next(&self, parts: &mut mpsc::Receiver<Encoded>) -> Result<Option<Encoded>, Halt> {
        tokio::select! {
            biased;
            why = self.lease.halted() => Err(Halt::Stopped(why)),
            encoded = parts.recv() => Ok(encoded),
        }
    }

    async fn file(&self, number: u32, first: Bytes, parts: &mut mpsc::Receiver<Encoded>) -> Result<File, Halt> {
        let open = self.open(number).await?;
        let written = match self.parts(&open, first, parts).await {
            Ok((uploaded, content)) => self.complete(&open, uploaded, &content).await.map(|etag| (etag, content)),
            Err(halt) => Err(halt),
        };
        match written {
            Ok((etag, content)) => Ok(describe(number, open.intent.key, etag, content)),
            Err(halt) => {
                self.clean_up(&open.intent, &halt).await;
                Err(halt)
            }
        }
    }

    /// Opens an upload and makes it known; nothing has been sent yet.
    async fn open(&self, number: u32) -> Result<OpenUpload, Halt> {
        let bucket = self.client.bucket();
        let (key, token) = ((self.key)(number), Uuid::new_v4().to_string());
        let call = self.client.s3.create_multipart_upload().with_options_of(bucket).bucket(&bucket.name).key(&key);
        let call = call
            .metadata("tracelift-run", self.lease.run.to_string())
            .metadata("tracelift-file", number.to_string())
            .metadata("tracelift-fence", self.lease.fence.0.to_string())
            .metadata("tracelift-token", &token)
            .content_type("application/vnd.apache.parquet");
        let opened = self.unless_halted(call.send()).await?;
        let opened = opened.map_err(|error| self.failed("CreateMultipartUpload", &error))?;
        let upload_id = opened.upload_id.ok_or_else(out_of_step)?;
        let intent = FileIntent { number, key, upload_id, token };
        if let Err(halt) = self.reporter.file_intent(self.lease, &intent).await {
            self.clean_up(&intent, &halt).await;
            return Err(halt);
        }
        Ok(OpenUpload { intent })
    }

    /// Sends parts, a few at a time, until the file ends.
    async fn parts(
        &self,
        open: &OpenUpload,
        first: Bytes,
        parts: &mut mpsc::Receiver<Encoded>,
    ) -> Result<(Vec<UploadedPart>, Content), Halt> {
        let (mut sending, mut uploaded) = (JoinSet::new(), Vec::new());
        let (mut next, mut number) = (Encoded::Part(first), 0);
        let content = loop {
            match next {
                Encoded::Part(bytes) => {
                    number += 1;
                    if number > part::MAX_PARTS {
                        return Err(too_many_parts());
                    }
                    while sending.len() >= self.parts_in_flight {
                        self.sent(&mut sending, &mut uploaded).await?;
                    }
                    tasks::start_in(
                        &mut sending,
                        "part",
                        send(self.client.clone(), open.intent.clone(), number, bytes, self.meter.clone()),
                    );
                }
                Encoded::End(content) => break content,
            }
            next = self.next(parts).await?.ok_or_else(out_of_step)?;
        };
        while !sending.is_empty() {
            self.sent(&mut sending, &mut uploaded).await?;
        }
        Ok((uploaded, content))
    }

    async fn sent(&self, sending: &mut JoinSet<Result<UploadedPart, Failure>>, uploaded: &mut Vec<UploadedPart>) -> Result<(), Halt> {
        let _uploading = self.meter.time(Stage::Upload);
        match self.unless_halted(sending.join_next()).await? {
            Some(Ok(part)) => uploaded.push(part.map_err(Halt::Failed)?),
            Some(Err(_)) => return Err(out_of_step()),
            None => {}
        }
        Ok(())
    }

    /// Makes the object, when its parts are whole.
    async fn complete(&self, open: &OpenUpload, uploaded: Vec<UploadedPart>, content: &Content) -> Result<String, Halt> {
        let _uploading = self.meter.time(Stage::Upload);
        let internal = |error: part::Incomplete| Failure { step: Step::Upload, class: FailureClass::Internal, detail: error.to_string() };
        let whole = part::complete(uploaded, content.bytes).map_err(internal).map_err(Halt::Failed)?;
        let number = |part: &UploadedPart| i32::try_from(part.number).unwrap_or(i32::MAX);
        let whole = whole.iter().map(|part| CompletedPart::builder().part_number(number(part)).e_tag(&part.etag).build());
        let whole = CompletedMultipartUpload::builder().set_parts(Some(whole.collect())).build();
        let (bucket, intent) = (&self.client.bucket().name, &open.intent);
        let call = self.client.s3.complete_multipart_upload().bucket(bucket).key(&intent.key).upload_id(&intent.upload_id);
        // Once begun it is not broken off: an object that exists must be reported, even when a cancel comes meanwhile.
        if let Some(why) = self.lease.stopped() {
            return Err(Halt::Stopped(why));
        }
        match call.multipart_upload(whole).send().await {
            Ok(done) => Ok(done.e_tag.unwrap_or_default()),
            Err(error) => self.was_completed(intent, content, self.failed("CompleteMultipartUpload", &error)).await,
        }
    }

    /// The answer to Complete may have been lost: an object with our token and size is ours.
    async fn was_completed(&self, intent: &FileIntent, content: &Content, halt: Halt) -> Result<String, Halt> {
        let found = self.client.s3.head_object().bucket(&self.client.bucket().name).key(&intent.key).send().await;
        let Ok(found) = found else { return Err(halt) };
        let token = found.metadata().and_then(|metadata| metadata.get("tracelift-token"));
        let size = found.content_length().and_then(|size| u64::try_from(size).ok());
        if token == Some(&intent.token) && size == Some(content.bytes) {
            tracing::info!(key = intent.key, "the upload was completed although its answer was lost");
            return Ok(found.e_tag.unwrap_or_default());
        }
        Err(halt)
    }

    /// Ends an upload that an exporter which is gone may have left open, before its file is written anew.
    pub(crate) async fn take_over(&self, intent: &FileIntent) -> Result<(), Halt> {
        tracing::info!(key = intent.key, "an open upload of an earlier attempt is aborted");
        let call = self.client.s3.abort_multipart_upload().bucket(&self.client.bucket().name).key(&intent.key).upload_id(&intent.upload_id);
        match self.unless_halted(call.send()).await? {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = self.client.judge("AbortMultipartUpload", &error);
                match error.fault {
                    // It is gone: aborted before, or completed. The file is written anew to the same key either way.
                    Fault::NoSuchUpload | Fault::NoSuchKey => Ok(()),
                    // A bucket that grants PutObject only. The new object replaces whatever the old upload makes.
                    Fault::AccessDenied => Ok(()),
                    _ => Err(Halt::Failed(failure(Step::Upload, &error))),
                }
            }
        }
    }

    /// Aborts the upload in hand, unless the run is somebody else's now: then the upload is theirs to end.
    async fn clean_up(&self, intent: &FileIntent, halt: &Halt) {
        if *halt == Halt::Stopped(crate::lease::Stop::Revoked) {
            return;
        }
        let call = self.client.s3.abort_multipart_upload().bucket(&self.client.bucket().name).key(&intent.key).upload_id(&intent.upload_id);
        if let Err(error) = call.send().await {
            tracing::warn!(error = %self.client.judge("AbortMultipartUpload", &error), key = intent.key, "an upload stays open");
        }
    }

    async fn unless_halted<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            why = self.lease.halted() => Err(Halt::Stopped(why)),
            done = work => Ok(done),
        }
    }

    fn failed<E>(&self, call: &'static str, error: &aws_sdk_s3::error::SdkError<E>) -> Halt
    where
        E: std::error::Error + aws_sdk_s3::error::ProvideErrorMetadata + 'static,
    {
        Halt::Failed(failure(Step::Upload, &self.client.judge(call, error)))
    }
}

/// An upload that is known to the control plane.
struct OpenUpload {
    intent: FileIntent,
}

async fn send(client: Client, intent: FileIntent, number: u32, bytes: Bytes, meter: Arc<Meter>) -> Result<UploadedPart, Failure> {
    let size = bytes.len() as u64;
    let call = client.s3.upload_part().bucket(&client.bucket().name).key(&intent.key).upload_id(&intent.upload_id);
    let call = call.part_number(i32::try_from(number).unwrap_or(i32::MAX)).body(ByteStream::from(bytes));
    let sent = call.send().await.map_err(|error| failure(Step::Upload, &client.judge("UploadPart", &error)))?;
    meter.add_bytes(size);
    Ok(UploadedPart { number, size, etag: sent.e_tag.unwrap_or_default() })
}

fn describe(number: u32, key: String, etag: String, content: Content) -> File {
    File {
        number,
        key,
        rows: content.rows,
        bytes: content.bytes,
        etag: etag.trim_matches('"').to_owned(),
        sha256: content.sha256,
        min_start_time: content.min_start_time,
        max_start_time: content.cursor.start_time,
        cursor: content.cursor,
        hydrated_objects: content.objects,
        hydration_misses: content.miss_count,
        misses: content.misses,
    }
}

fn out_of_step() -> Halt {
    internal("the encoder and the uploader are out of step")
}

fn too_many_parts() -> Halt {
    internal("a file needs more parts than S3 allows: raise --part-bytes or lower --file-bytes")
}

fn internal(detail: &str) -> Halt {
    Halt::Failed(Failure { step: Step::Upload, class: FailureClass::Internal, detail: detail.to_owned() })
}
