//! The operations of the server, with faults injected.

use std::{io, sync::Arc};

use s3s::{S3, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    faults::{Faults, Operation},
    layout::Layout,
    list,
    stored::Stored,
    uploads::{Condition, Uploads},
};

/// The operations, with faults injected.
pub(super) struct Served {
    pub(super) layout: Layout,
    pub(super) faults: Arc<Faults>,
    pub(super) uploads: Arc<Uploads>,
}

impl Served {
    fn bucket(&self, name: &str) -> S3Result<()> {
        if self.layout.bucket(name).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        self.bucket(bucket)?;
        Stored::open(&self.layout.object(bucket, key), self.uploads.of_object(bucket, key))
            .map_err(|error| s3_error!(error, NoSuchKey))
    }

    /// The condition of a write, if this server supports conditional writes.
    fn condition(&self, if_none: bool) -> S3Result<Condition> {
        match (if_none, self.faults.knows_conditions()) {
            (true, true) => Ok(Condition::IfNone),
            (true, false) => Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented"
            )),
            (false, _) => Ok(Condition::Always),
        }
    }
}

#[async_trait::async_trait]
impl S3 for Served {
    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let cut = self.faults.before(Operation::GetObject, &input.key).await?;
        let object = self.object(&input.bucket, &input.key)?;
        let (mut bytes, content_range) = object.asked(input.range)?;
        let length = bytes.end - bytes.start;
        if cut {
            bytes.end -= length.div_ceil(2);
        }
        let mut found = GetObjectOutput {
            content_length: i64::try_from(length).ok(),
            content_range,
            e_tag: Some(object.etag.clone()),
            last_modified: Some(object.modified.into()),
            metadata: object.metadata.clone(),
            ..Default::default()
        };
        let body = object.content(bytes).map_err(|error| s3_error!(error, InternalError))?;
        found.body = Some(body);
        Ok(S3Response::new(found))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.bucket(&req.input.bucket)?;
        let key = req.input.key.clone();
        self.faults.good(req.credentials.as_ref(), &key)?;
        self.faults.before(Operation::PutObject, &key).await?;
        let input = req.input;
        self.faults.checksum(input.checksum_crc32.as_ref())?;
        let condition = self.condition(input.if_none_match.is_some())?;
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let tag = self.uploads.put(&input.bucket, &key, input.metadata, body, condition).await?;
        self.faults.after(Operation::PutObject, &key).await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        self.faults.before(Operation::HeadObject, &input.key).await?;
        let object = self.object(&input.bucket, &input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: object.length(),
            e_tag: Some(object.etag),
            last_modified: Some(object.modified.into()),
            metadata: object.metadata,
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        self.faults.before(Operation::DeleteObject, &input.key).await?;
        self.bucket(&input.bucket)?;
        self.uploads.delete(&input.bucket, &input.key)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.bucket(&req.input.bucket)?;
        self.faults.good(req.credentials.as_ref(), &req.input.key)?;
        let input = req.input;
        self.faults.before(Operation::CreateMultipartUpload, &input.key).await?;
        let id = self.uploads.create(&input.key, input.metadata)?;
        self.faults.after(Operation::CreateMultipartUpload, &input.key).await?;
        let (bucket, key, upload_id) =
            (Some(input.bucket), Some(input.key), Some(self.faults.answered(id)));
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket,
            key,
            upload_id,
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.faults.good(req.credentials.as_ref(), &req.input.key)?;
        let input = req.input;
        self.faults.before(Operation::UploadPart, &input.key).await?;
        self.faults.checksum(input.checksum_crc32.as_ref())?;
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        let tag = self.uploads.part(&input.key, &input.upload_id, input.part_number, body).await?;
        self.faults.after(Operation::UploadPart, &input.key).await?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.faults.good(req.credentials.as_ref(), &req.input.key)?;
        let input = req.input;
        self.faults.before(Operation::CompleteMultipartUpload, &input.key).await?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        self.faults.object_size(input.mpu_object_size)?;
        let condition = self.condition(input.if_none_match.is_some())?;
        let tag = self.uploads.complete(
            &input.bucket,
            &input.key,
            &input.upload_id,
            &parts,
            condition,
            self.faults.small_parts_allowed(),
        )?;
        self.faults.after(Operation::CompleteMultipartUpload, &input.key).await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.faults.before(Operation::AbortMultipartUpload, &req.input.key).await?;
        self.uploads.abort(&req.input.key, &req.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let prefix = req.input.prefix.unwrap_or_default();
        self.faults.before(Operation::ListMultipartUploads, &prefix).await?;
        let open = self.uploads.open().into_iter().filter(|(key, _)| key.starts_with(&prefix));
        let uploads = open
            .map(|(key, id)| MultipartUpload {
                key: Some(key),
                upload_id: Some(id),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.bucket(&input.bucket)?;
        let bucket = input.bucket.clone();
        let keys = self.layout.keys(&bucket, input.prefix.as_deref().unwrap_or_default());
        list::page(keys, input, |key| self.object(&bucket, key)).map(S3Response::new)
    }

    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let made = std::fs::create_dir(self.layout.bucket(&req.input.bucket));
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => s3_error!(BucketAlreadyExists),
            _ => s3_error!(error, InternalError),
        })?;
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.layout.buckets().into_iter();
        let buckets = buckets.map(|name| Bucket { name: Some(name), ..Default::default() });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..Default::default()
        }))
    }
}
