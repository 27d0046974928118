//! The store's operations under injected faults: rejected, done with a lost response, or done.

use std::io;

use bytes::Bytes;
use futures::StreamExt as _;
use s3s::{S3, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::Bucket;
use crate::faults::FaultKind;

const WRITE: [FaultKind; 3] = [FaultKind::Refused, FaultKind::Throttled, FaultKind::AnswerLost];

impl Bucket {
    /// Injects the faults that occur before an operation. Returns a fault to apply after it, if
    /// any.
    async fn before(&self, call: &str, key: &str, possible: &[FaultKind]) -> S3Result<FaultKind> {
        self.faults.delay().await;
        match self.faults.throw(&format!("{call} {key}"), possible) {
            FaultKind::Refused => Err(s3_error!(InternalError, "as the seed wants it")),
            FaultKind::Throttled => Err(s3_error!(SlowDown, "as the seed wants it")),
            fault => Ok(fault),
        }
    }
}

/// The response of an operation that was done.
fn after<T>(fault: FaultKind, answer: T) -> S3Result<S3Response<T>> {
    if fault == FaultKind::AnswerLost {
        Err(s3_error!(InternalError, "done, but the answer is lost"))
    } else {
        Ok(S3Response::new(answer))
    }
}

fn known(bucket: &str) -> S3Result<()> {
    if [super::DESTINATION, super::SOURCE].contains(&bucket) {
        Ok(())
    } else {
        Err(s3_error!(NoSuchBucket))
    }
}

async fn content(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let mut content = Vec::new();
    while let Some(chunk) = body.next().await {
        content.extend_from_slice(&chunk.map_err(|error| s3_error!(IncompleteBody, "{error}"))?);
    }
    Ok(content.into())
}

fn length(content: &Bytes) -> Option<i64> {
    i64::try_from(content.len()).ok()
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let fault = self
            .before(
                "GetObject",
                &input.key,
                &[FaultKind::Refused, FaultKind::Throttled, FaultKind::Cut],
            )
            .await?;
        let object = self
            .disk()
            .objects
            .get(&(input.bucket, input.key))
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchKey))?;
        let (content, content_length) = (object.content.clone(), length(&object.content));
        let sent =
            if fault == FaultKind::Cut { content.slice(..content.len() / 2) } else { content };
        let body =
            StreamingBlob::wrap(futures::stream::once(async move { Ok::<_, io::Error>(sent) }));
        let found = GetObjectOutput {
            body: Some(body),
            content_length,
            e_tag: Some(ETag::Strong(object.etag)),
            ..Default::default()
        };
        Ok(S3Response::new(found))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        self.before("HeadObject", &input.key, &[FaultKind::Refused, FaultKind::Throttled]).await?;
        let object = self
            .disk()
            .objects
            .get(&(input.bucket, input.key))
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchKey))?;
        let found = HeadObjectOutput {
            content_length: length(&object.content),
            metadata: object.metadata,
            e_tag: Some(ETag::Strong(object.etag)),
            ..Default::default()
        };
        Ok(S3Response::new(found))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        known(&input.bucket)?;
        let fault = self.before("PutObject", &input.key, &WRITE).await?;
        let content = content(input.body).await?;
        let etag = self.put(
            &input.bucket,
            &input.key,
            content,
            input.metadata,
            input.if_none_match.is_some(),
        )?;
        after(fault, PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() })
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        let fault = self.before("DeleteObject", &input.key, &WRITE).await?;
        self.trace.line(format_args!("S3 {}/{}: deleted", input.bucket, input.key));
        self.disk().objects.remove(&(input.bucket, input.key));
        after(fault, DeleteObjectOutput::default())
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        known(&input.bucket)?;
        let fault = self.before("CreateMultipartUpload", &input.key, &WRITE).await?;
        let id = self.create(input.bucket.clone(), input.key.clone(), input.metadata);
        let made = CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        };
        after(fault, made)
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let fault = self.before("UploadPart", &input.key, &WRITE).await?;
        let content = content(input.body).await?;
        let etag = self.part(&input.key, &input.upload_id, input.part_number, content)?;
        after(fault, UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() })
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let fault = self.before("CompleteMultipartUpload", &input.key, &WRITE).await?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let asked: Vec<_> = parts
            .iter()
            .map(|part| {
                (
                    part.part_number.unwrap_or_default(),
                    part.e_tag.as_ref().map(|tag| tag.value().to_owned()),
                )
            })
            .collect();
        let etag =
            self.complete(&input.key, &input.upload_id, &asked, input.if_none_match.is_some())?;
        after(
            fault,
            CompleteMultipartUploadOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() },
        )
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let prefix = req.input.prefix.unwrap_or_default();
        self.before("ListMultipartUploads", &prefix, &[FaultKind::Refused]).await?;
        let disk = self.disk();
        let open = disk.uploads.iter().filter(|(_, upload)| {
            upload.bucket == req.input.bucket && upload.key.starts_with(&prefix)
        });
        let uploads = open.map(|(id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(id.clone()),
            ..Default::default()
        });
        let uploads = Some(uploads.collect());
        Ok(S3Response::new(ListMultipartUploadsOutput { uploads, ..Default::default() }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = req.input;
        let fault = self.before("AbortMultipartUpload", &input.key, &WRITE).await?;
        self.abort(&input.key, &input.upload_id)?;
        after(fault, AbortMultipartUploadOutput::default())
    }
}
