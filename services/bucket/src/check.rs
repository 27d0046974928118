//! The write check: does this bucket take what an export will send? Only PutObject is required, never ListBucket.

use aws_sdk_s3::primitives::ByteStream;
use tracelift_core::layout;
use uuid::Uuid;

use crate::{BucketError, Client, Fault, WriteArguments as _};

/// Writes `<prefix>/tmp/<name>.txt`, tries to delete it (a refusal is fine), begins and aborts a multipart upload.
pub async fn check(client: &Client, name: Uuid) -> Result<(), BucketError> {
    let bucket = client.bucket();
    let key = layout::probe(&bucket.prefix, &name.as_simple().to_string());
    let body = ByteStream::from_static(b"Written by Tracelift to see whether this bucket takes exports. It may be deleted.\n");
    let put = client.s3.put_object().with_options_of(bucket).bucket(&bucket.name).key(&key).body(body);
    put.send().await.map_err(|error| client.judge("PutObject", &error)).map_err(absent_is_bucket)?;
    if let Err(error) = client.s3.delete_object().bucket(&bucket.name).key(&key).send().await {
        tracing::debug!(error = %client.judge("DeleteObject", &error), "the probe object stays");
    }
    let upload = client.s3.create_multipart_upload().with_options_of(bucket).bucket(&bucket.name).key(&key);
    let upload = upload.send().await.map_err(|error| client.judge("CreateMultipartUpload", &error)).map_err(absent_is_bucket)?;
    if let Some(id) = upload.upload_id() {
        let abort = client.s3.abort_multipart_upload().bucket(&bucket.name).key(&key).upload_id(id).send().await;
        if let Err(error) = abort {
            tracing::debug!(error = %client.judge("AbortMultipartUpload", &error), "the probe upload stays");
        }
    }
    Ok(())
}

/// A write that is answered "not found" without a code is about the bucket.
fn absent_is_bucket(error: BucketError) -> BucketError {
    match error.fault {
        Fault::NoSuchKey | Fault::NoSuchUpload => BucketError { fault: Fault::BucketNotValid, ..error },
        _ => error,
    }
}
