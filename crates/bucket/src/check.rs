//! The write check: does this bucket take what an export will send, and which of our headers does
//! its store know? Only PutObject is required, never ListBucket.

use aws_sdk_s3::{
    config::retry::RetryConfig,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use tracelift_core::{destination::StoreFeatures, layout};
use uuid::Uuid;

use crate::{
    BucketError, Client, Extras, Fault, PaidAsAsked as _, SignedAsAsked as _, WriteArguments as _,
    upload,
};

/// What the probe object holds.
const WORDS: &[u8] =
    b"Written by Tracelift to see whether this bucket takes exports. It may be deleted.\n";
/// How often what arrives damaged is sent.
const SENDINGS: u32 = 3;

/// Writes `<prefix>/tmp/<name>.txt`, once in one request and once as an upload, which needs no
/// other right; then tries to delete it (a refusal is fine). What the store knows: a header that it
/// refuses is left out.
pub async fn check(client: &Client, name: Uuid) -> Result<StoreFeatures, BucketError> {
    let client = client.knowing(StoreFeatures::default());
    let key = layout::probe(&client.bucket().prefix, &name.as_simple().to_string());
    let put = put(&client, &key).await.map_err(absent_is_bucket)?;
    let uploaded = multipart(&client.knowing(put), &key).await.map_err(absent_is_bucket);
    let bucket = client.bucket();
    if let Err(error) =
        client.s3.delete_object().bucket(&bucket.name).key(&key).paid_as_asked(bucket).send().await
    {
        tracing::debug!(error = %client.judge("DeleteObject", &error), "the probe object stays");
    }
    let features = put.and(uploaded?);
    if features != StoreFeatures::default() {
        tracing::info!(
            ?features,
            bucket = bucket.name,
            "a store does not know everything that we send"
        );
    }
    Ok(features)
}

/// Writes the probe in one request. With which extras it was taken.
async fn put(client: &Client, key: &str) -> Result<StoreFeatures, BucketError> {
    let carried = StoreFeatures { object_size: false, ..client.bucket().features };
    let taken = with_fewer_extras(client, carried, |client| async move {
        let bucket = client.bucket();
        let put = client
            .s3
            .put_object()
            .with_options_of(bucket)
            .bucket(&bucket.name)
            .key(key)
            .body(ByteStream::from_static(WORDS));
        let put = put.set_if_none_match(condition(&client)).signed_as_asked(bucket).send().await;
        match put.map_err(|error| client.judge("PutObject", &error)) {
            // Nobody else writes there: an answer was lost.
            Err(error) if error.fault == Fault::Exists => Ok(()),
            put => put.map(drop),
        }
    });
    Ok(StoreFeatures { object_size: true, ..taken.await?.0 })
}

/// Writes the probe once more, in parts. What the store knows of completing an upload.
async fn multipart(client: &Client, key: &str) -> Result<StoreFeatures, BucketError> {
    let opened = match create(client, key).await {
        // It may have been opened all the same, under an id that nobody knows.
        Err(error) if error.fault == Fault::Unavailable => {
            end_uploads(client, key).await;
            create(client, key).await
        }
        answered => answered,
    };
    let done = match &opened {
        Ok(id) => parts(client, key, id).await,
        Err(error) => Err(error.clone()),
    };
    if done.is_err() {
        if let Ok(id) = &opened {
            abort(client, key, id).await;
        }
        end_uploads(client, key).await;
    }
    done
}

/// Opens an upload. The SDK's own second try would hide that a first one may have opened one.
async fn create(client: &Client, key: &str) -> Result<String, BucketError> {
    let bucket = client.bucket();
    let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
    let call =
        client.s3.create_multipart_upload().with_options_of(bucket).bucket(&bucket.name).key(key);
    let opened = call.customize().config_override(once).send().await;
    upload::opened(opened.map_err(|error| client.judge("CreateMultipartUpload", &error))?)
}

/// Sends one part and completes the upload, first under the condition that nothing stands at the
/// key, which does not hold.
async fn parts(client: &Client, key: &str, id: &str) -> Result<StoreFeatures, BucketError> {
    let carried =
        StoreFeatures { conditional_writes: false, object_size: false, ..client.bucket().features };
    let (sent, tag) = with_fewer_extras(client, carried, |client| async move {
        let bucket = client.bucket();
        let part = client
            .s3
            .upload_part()
            .bucket(&bucket.name)
            .key(key)
            .upload_id(id)
            .part_number(1)
            .paid_as_asked(bucket);
        let sent = part.body(ByteStream::from_static(WORDS)).signed_as_asked(bucket).send().await;
        sent.map(|sent| sent.e_tag).map_err(|error| client.judge("UploadPart", &error))
    })
    .await?;
    let mut known = StoreFeatures { checksums: sent.checksums, ..client.bucket().features };
    let part = CompletedPart::builder().part_number(1).set_e_tag(tag).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = |client: Client| {
        let parts = parts.clone();
        async move {
            let bucket = client.bucket();
            let size = bucket
                .features
                .object_size
                .then_some(WORDS.len())
                .and_then(|size| i64::try_from(size).ok());
            let call = client
                .s3
                .complete_multipart_upload()
                .bucket(&bucket.name)
                .key(key)
                .upload_id(id)
                .paid_as_asked(bucket);
            let call = call
                .multipart_upload(parts)
                .set_if_none_match(condition(&client))
                .set_mpu_object_size(size);
            call.send()
                .await
                .map(drop)
                .map_err(|error| client.judge("CompleteMultipartUpload", &error))
        }
    };
    let unconditional = StoreFeatures { conditional_writes: false, ..known };
    if known.conditional_writes {
        match complete(client.knowing(StoreFeatures { object_size: false, ..known })).await {
            Ok(()) => return Ok(unconditional), // it does not look at the condition
            Err(error) if error.extra.is_some() => known = unconditional,
            Err(_) => {} /* that an object stands there, as it should; or what the next call will
                          * say again */
        }
    }
    let completed = with_fewer_extras(client, unconditional, |client| {
        let completed = complete(client);
        async move {
            match completed.await {
                // A first answer was lost, or the refusal of before has ended it: nothing is left.
                Err(error) if error.fault == Fault::NoSuchUpload => Ok(()),
                completed => completed,
            }
        }
    });
    let completed = completed.await?.0;
    Ok(StoreFeatures { object_size: completed.object_size, ..known })
}

fn condition(client: &Client) -> Option<String> {
    client.bucket().features.conditional_writes.then(|| "*".to_owned())
}

/// Sends a request that carries so much, and with less when it is refused for that: with what it
/// was taken, and its answer. When nothing helps, the first refusal counts.
async fn with_fewer_extras<T, F>(
    client: &Client,
    carried: StoreFeatures,
    send: impl Fn(Client) -> F,
) -> Result<(StoreFeatures, T), BucketError>
where
    F: Future<Output = Result<T, BucketError>>,
{
    let (mut extras, mut damaged, mut first) = (Extras::new(carried), 0, None);
    loop {
        let error = match send(client.knowing(extras.now())).await {
            Ok(answer) => return Ok((extras.now(), answer)),
            Err(error) => error,
        };
        damaged += u32::from(error.fault == Fault::Damaged);
        let again = error.fault == Fault::Damaged && damaged < SENDINGS
            || error.extra.is_some_and(|extra| extras.fewer(extra));
        let error = first.get_or_insert(error);
        if !again {
            return Err(error.clone());
        }
    }
}

/// Ends an upload, if we may.
async fn abort(client: &Client, key: &str, id: &str) {
    let bucket = client.bucket();
    let call = client
        .s3
        .abort_multipart_upload()
        .bucket(&bucket.name)
        .key(key)
        .upload_id(id)
        .paid_as_asked(bucket);
    if let Err(error) = call.send().await {
        tracing::debug!(error = %client.judge("AbortMultipartUpload", &error), "the probe upload stays");
    }
}

/// Aborts every upload of the probe's key, where the bucket lets us list them; what stays holds
/// nothing.
async fn end_uploads(client: &Client, key: &str) {
    let bucket = client.bucket();
    let listed = client
        .s3
        .list_multipart_uploads()
        .bucket(&bucket.name)
        .prefix(key)
        .paid_as_asked(bucket)
        .send()
        .await;
    for id in listed.iter().flat_map(|listed| upload::listed(listed, key)) {
        abort(client, key, id).await;
    }
}

/// A write that is answered "not found" without a code is about the bucket.
fn absent_is_bucket(error: BucketError) -> BucketError {
    match error.fault {
        Fault::NoSuchKey | Fault::NoSuchUpload => {
            BucketError { fault: Fault::BucketNotValid, ..error }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
