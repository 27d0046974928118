//! Implements the [port](crate::ObjectStore) for S3 and S3-compatible stores.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::{
    client::customize::CustomizableOperation,
    config::retry::RetryConfig,
    primitives::ByteStream,
    types::{
        CompletedMultipartUpload, CompletedPart, ObjectCannedAcl, RequestPayer,
        ServerSideEncryption, StorageClass,
    },
};
use bytes::Bytes;
use tracelift_core::{
    destination::{Bucket, StoreFeatures},
    part::UploadedPart,
};

use crate::{
    BucketError, NewObject, ObjectInfo, ObjectStore, OpenUpload, client::Client, response,
};

#[async_trait]
impl ObjectStore for Client {
    fn bucket(&self) -> &Bucket {
        Client::bucket(self)
    }

    fn with_features(&self, features: StoreFeatures) -> Arc<dyn ObjectStore> {
        Arc::new(self.knowing(features))
    }

    async fn put(
        &self,
        object: &NewObject,
        body: Bytes,
        unless_exists: bool,
    ) -> Result<String, BucketError> {
        let bucket = self.bucket();
        let call = self.s3.put_object().with_options_of(bucket).bucket(&bucket.name);
        let call = call
            .key(&object.key)
            .content_type(object.content_type)
            .set_metadata(Some(object.metadata.clone()).filter(|metadata| !metadata.is_empty()))
            .set_if_none_match(condition(unless_exists))
            .body(ByteStream::from(body));
        let written = call.signed_as_asked(bucket).send().await;
        let written = written.map_err(|error| self.judge("PutObject", &error))?;
        response::etag("PutObject", written.e_tag)
    }

    async fn open_upload(&self, object: &NewObject) -> Result<String, BucketError> {
        let bucket = self.bucket();
        let call = self.s3.create_multipart_upload().with_options_of(bucket).bucket(&bucket.name);
        let call = call
            .key(&object.key)
            .content_type(object.content_type)
            .set_metadata(Some(object.metadata.clone()).filter(|metadata| !metadata.is_empty()));
        let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
        let opened = call.customize().config_override(once).send().await;
        response::upload_id(opened.map_err(|error| self.judge("CreateMultipartUpload", &error))?)
    }

    async fn upload_part(
        &self,
        upload: OpenUpload<'_>,
        number: u32,
        body: Bytes,
    ) -> Result<String, BucketError> {
        let bucket = self.bucket();
        let call = self.s3.upload_part().bucket(&bucket.name).key(upload.key);
        let call = call
            .upload_id(upload.id)
            .part_number(part_number(number))
            .paid_as_asked(bucket)
            .body(ByteStream::from(body));
        let sent = call.signed_as_asked(bucket).send().await;
        let sent = sent.map_err(|error| self.judge("UploadPart", &error))?;
        response::etag("UploadPart", sent.e_tag)
    }

    async fn complete_upload(
        &self,
        upload: OpenUpload<'_>,
        parts: &[UploadedPart],
        bytes: u64,
        unless_exists: bool,
    ) -> Result<String, BucketError> {
        let bucket = self.bucket();
        let parts = parts.iter().map(|part| {
            let etag = Some(part.etag.clone()).filter(|etag| !etag.is_empty());
            CompletedPart::builder().part_number(part_number(part.number)).set_e_tag(etag).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let bytes = bucket.features.object_size.then(|| i64::try_from(bytes).ok()).flatten();
        let call = self.s3.complete_multipart_upload().bucket(&bucket.name).key(upload.key);
        let call = call
            .upload_id(upload.id)
            .paid_as_asked(bucket)
            .multipart_upload(parts)
            .set_if_none_match(condition(unless_exists))
            .set_mpu_object_size(bytes);
        let written = call.send().await;
        let written = written.map_err(|error| self.judge("CompleteMultipartUpload", &error))?;
        response::etag("CompleteMultipartUpload", written.e_tag)
    }

    async fn abort_upload(&self, upload: OpenUpload<'_>) -> Result<(), BucketError> {
        let bucket = self.bucket();
        let call = self.s3.abort_multipart_upload().bucket(&bucket.name).key(upload.key);
        let aborted = call.upload_id(upload.id).paid_as_asked(bucket).send().await;
        aborted.map(drop).map_err(|error| self.judge("AbortMultipartUpload", &error))
    }

    async fn uploads(&self, key: &str) -> Result<Vec<String>, BucketError> {
        let bucket = self.bucket();
        let call = self.s3.list_multipart_uploads().bucket(&bucket.name).prefix(key);
        let listed = call.paid_as_asked(bucket).send().await;
        let listed = listed.map_err(|error| self.judge("ListMultipartUploads", &error))?;
        Ok(response::uploads_of(&listed, key).map(str::to_owned).collect())
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, BucketError> {
        let bucket = self.bucket();
        let call = self.s3.head_object().bucket(&bucket.name).key(key).paid_as_asked(bucket);
        let head = call.send().await.map_err(|error| self.judge("HeadObject", &error))?;
        let bytes = head.content_length().and_then(|bytes| u64::try_from(bytes).ok());
        Ok(ObjectInfo {
            bytes: bytes.unwrap_or_default(),
            etag: response::etag("HeadObject", head.e_tag)?,
            metadata: head.metadata.unwrap_or_default(),
        })
    }

    async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let bucket = self.bucket();
        let call = self.s3.delete_object().bucket(&bucket.name).key(key).paid_as_asked(bucket);
        call.send().await.map(drop).map_err(|error| self.judge("DeleteObject", &error))
    }
}

fn condition(unless_exists: bool) -> Option<String> {
    unless_exists.then(|| "*".to_owned())
}

fn part_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Sets the owner's extra parameters on the calls that start a write.
trait WriteArguments: Sized {
    /// Applies the bucket's write options.
    #[must_use]
    fn with_options_of(self, bucket: &Bucket) -> Self;
}

macro_rules! write_arguments {
    ($($builder:ty),*) => {$(
        impl WriteArguments for $builder {
            fn with_options_of(self, bucket: &Bucket) -> Self {
                let option = |name| bucket.write_options.get(name);
                self.set_server_side_encryption(option("ServerSideEncryption").map(ServerSideEncryption::from))
                    .set_ssekms_key_id(option("SSEKMSKeyId").map(str::to_owned))
                    .set_expected_bucket_owner(option("ExpectedBucketOwner").map(str::to_owned))
                    .set_storage_class(option("StorageClass").map(StorageClass::from))
                    .set_tagging(option("Tagging").map(str::to_owned))
                    .set_acl(option("ACL").map(ObjectCannedAcl::from))
                    .set_request_payer(option("RequestPayer").map(RequestPayer::from))
            }
        }
    )*};
}

write_arguments!(
    aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
    aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder
);

/// Sets the request payer on calls that do not start a write; for those, see `WriteArguments`.
trait PaidAsAsked: Sized {
    /// Applies the bucket's request payer.
    #[must_use]
    fn paid_as_asked(self, bucket: &Bucket) -> Self;
}

macro_rules! paid {
    ($($operation:ident $builder:ident),*) => {$(
        impl PaidAsAsked for aws_sdk_s3::operation::$operation::builders::$builder {
            fn paid_as_asked(self, bucket: &Bucket) -> Self {
                self.set_request_payer(bucket.write_options.get("RequestPayer").map(RequestPayer::from))
            }
        }
    )*};
}

paid!(
    upload_part UploadPartFluentBuilder, complete_multipart_upload CompleteMultipartUploadFluentBuilder,
    abort_multipart_upload AbortMultipartUploadFluentBuilder, list_multipart_uploads ListMultipartUploadsFluentBuilder,
    head_object HeadObjectFluentBuilder, delete_object DeleteObjectFluentBuilder
);

/// Signs the body of a write, unless the owner opted out.
trait SignedAsAsked: Sized {
    /// Success type of the call.
    type Output;
    /// Error type of the call.
    type Error;

    /// Applies the bucket's choice.
    #[must_use]
    fn signed_as_asked(
        self,
        bucket: &Bucket,
    ) -> CustomizableOperation<Self::Output, Self::Error, Self>;
}

macro_rules! signed {
    ($($operation:ident $builder:ident $output:ident $error:ident),*) => {$(
        impl SignedAsAsked for aws_sdk_s3::operation::$operation::builders::$builder {
            type Output = aws_sdk_s3::operation::$operation::$output;
            type Error = aws_sdk_s3::operation::$operation::$error;

            fn signed_as_asked(self, bucket: &Bucket) -> CustomizableOperation<Self::Output, Self::Error, Self> {
                let call = self.customize();
                if bucket.client.payload_signing_enabled == Some(false) { call.disable_payload_signing() } else { call }
            }
        }
    )*};
}

signed!(put_object PutObjectFluentBuilder PutObjectOutput PutObjectError, upload_part UploadPartFluentBuilder UploadPartOutput UploadPartError);
