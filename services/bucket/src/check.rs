//! The write check: does this bucket take what an export will send? Only PutObject is required, never ListBucket.

use aws_sdk_s3::{
    config::retry::RetryConfig,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use tracelift_core::layout;
use uuid::Uuid;

use crate::{BucketError, Client, Fault, SignedAsAsked as _, WriteArguments as _, upload};

/// What the probe object holds.
const WORDS: &[u8] = b"Written by Tracelift to see whether this bucket takes exports. It may be deleted.\n";

/// Writes `<prefix>/tmp/<name>.txt`, tries to delete it (a refusal is fine), begins and aborts a multipart upload.
pub async fn check(client: &Client, name: Uuid) -> Result<(), BucketError> {
    let bucket = client.bucket();
    let key = layout::probe(&bucket.prefix, &name.as_simple().to_string());
    let body = ByteStream::from_static(WORDS);
    let put = client.s3.put_object().with_options_of(bucket).bucket(&bucket.name).key(&key).body(body);
    put.signed_as_asked(bucket).send().await.map_err(|error| client.judge("PutObject", &error)).map_err(absent_is_bucket)?;
    if let Err(error) = client.s3.delete_object().bucket(&bucket.name).key(&key).send().await {
        tracing::debug!(error = %client.judge("DeleteObject", &error), "the probe object stays");
    }
    let upload = match create(client, &key).await {
        // It may have been opened all the same, under an id that nobody knows.
        Err(error) if error.fault == Fault::Unavailable => {
            end_uploads(client, &key).await;
            create(client, &key).await
        }
        answered => answered,
    };
    match upload {
        Ok(id) => {
            // Ending it needs a right that an export can do without; completing it does not.
            if !abort(client, &key, &id).await && !complete(client, &key, &id).await {
                end_uploads(client, &key).await;
            }
            Ok(())
        }
        Err(error) => {
            end_uploads(client, &key).await;
            Err(absent_is_bucket(error))
        }
    }
}

/// Opens an upload. The SDK's own second try would hide that a first one may have opened one.
async fn create(client: &Client, key: &str) -> Result<String, BucketError> {
    let bucket = client.bucket();
    let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
    let call = client.s3.create_multipart_upload().with_options_of(bucket).bucket(&bucket.name).key(key);
    let opened = call.customize().config_override(once).send().await;
    upload::opened(opened.map_err(|error| client.judge("CreateMultipartUpload", &error))?)
}

/// Whether an upload is gone.
async fn abort(client: &Client, key: &str, id: &str) -> bool {
    let aborted = client.s3.abort_multipart_upload().bucket(&client.bucket().name).key(key).upload_id(id).send().await;
    let error = aborted.err().map(|error| client.judge("AbortMultipartUpload", &error));
    error.is_none_or(|error| error.fault == Fault::NoSuchUpload)
}

/// Whether an upload has become an object in the place of the probe.
async fn complete(client: &Client, key: &str, id: &str) -> bool {
    let bucket = client.bucket();
    let part = client.s3.upload_part().bucket(&bucket.name).key(key).upload_id(id).part_number(1);
    let Ok(sent) = part.body(ByteStream::from_static(WORDS)).signed_as_asked(bucket).send().await else { return false };
    let part = CompletedPart::builder().part_number(1).set_e_tag(sent.e_tag).set_checksum_crc32(sent.checksum_crc32);
    let parts = CompletedMultipartUpload::builder().parts(part.build()).build();
    let call = client.s3.complete_multipart_upload().bucket(&bucket.name).key(key).upload_id(id);
    call.multipart_upload(parts).send().await.is_ok()
}

/// Aborts every upload of the probe's key, where the bucket lets us list them; what stays holds nothing.
async fn end_uploads(client: &Client, key: &str) {
    let listed = client.s3.list_multipart_uploads().bucket(&client.bucket().name).prefix(key).send().await;
    for id in listed.iter().flat_map(|listed| upload::listed(listed, key)) {
        if !abort(client, key, id).await {
            tracing::debug!("the probe upload stays");
        }
    }
}

/// A write that is answered "not found" without a code is about the bucket.
fn absent_is_bucket(error: BucketError) -> BucketError {
    match error.fault {
        Fault::NoSuchKey | Fault::NoSuchUpload => BucketError { fault: Fault::BucketNotValid, ..error },
        _ => error,
    }
}

#[cfg(test)]
mod tests;
