//! The write check: whether the bucket accepts what an export sends, and which optional features
//! its store supports. It requires PutObject only, never ListBucket.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tracelift_core::{destination::StoreFeatures, layout, part::UploadedPart};
use uuid::Uuid;

use crate::{BucketError, Extras, Fault, NewObject, ObjectStore, OpenUpload};

/// Content of the probe object.
const WORDS: &[u8] =
    b"Written by Tracelift to see whether this bucket takes exports. It may be deleted.\n";
/// How often a write is sent if it arrives damaged.
const SENDINGS: u32 = 3;

/// Writes `<prefix>/tmp/<name>.txt` twice, in a single request and as a multipart upload (which
/// needs no further permission), then tries to delete it; a refused deletion is ignored. Returns
/// the features that the store supports: those whose headers it did not reject.
pub async fn check(store: &dyn ObjectStore, name: Uuid) -> Result<StoreFeatures, BucketError> {
    let store = store.with_features(StoreFeatures::default());
    let key = layout::probe(&store.bucket().prefix, &name.as_simple().to_string());
    let put = put(&*store, &key).await.map_err(absent_is_bucket)?;
    let uploaded = multipart(&*store.with_features(put), &key).await.map_err(absent_is_bucket);
    if let Err(error) = store.delete(&key).await {
        tracing::debug!(%error, "the probe object stays");
    }
    let features = put.and(uploaded?);
    if features != StoreFeatures::default() {
        let bucket = &store.bucket().name;
        tracing::info!(?features, bucket, "a store does not support everything that we send");
    }
    Ok(features)
}

fn probe(key: &str) -> NewObject {
    NewObject { key: key.to_owned(), content_type: "text/plain", metadata: HashMap::new() }
}

/// Writes the probe in one request; returns the features that were accepted.
async fn put(store: &dyn ObjectStore, key: &str) -> Result<StoreFeatures, BucketError> {
    let carried = StoreFeatures { object_size: false, ..store.bucket().features };
    let taken = with_fewer_extras(store, carried, |store| async move {
        let conditional = store.bucket().features.conditional_writes;
        match store.put(&probe(key), Bytes::from_static(WORDS), conditional).await {
            // Nobody else writes this key, so the response to an earlier attempt was lost.
            Err(error) if error.fault == Fault::Exists => Ok(()),
            put => put.map(drop),
        }
    });
    Ok(StoreFeatures { object_size: true, ..taken.await?.0 })
}

/// Writes the probe again as a multipart upload; returns the features that were accepted.
async fn multipart(store: &dyn ObjectStore, key: &str) -> Result<StoreFeatures, BucketError> {
    let opened = match store.open_upload(&probe(key)).await {
        // The upload may have been opened even so, under an id that we never received.
        Err(error) if error.fault == Fault::Unavailable => {
            end_uploads(store, key).await;
            store.open_upload(&probe(key)).await
        }
        answered => answered,
    };
    let done = match &opened {
        Ok(id) => parts(store, OpenUpload { key, id }).await,
        Err(error) => Err(error.clone()),
    };
    if done.is_err() {
        if let Ok(id) = &opened {
            abort(store, OpenUpload { key, id }).await;
        }
        end_uploads(store, key).await;
    }
    done
}

/// Uploads one part and completes the upload, first under the condition that the key is free. It is
/// not, so a store that supports conditions refuses.
async fn parts(
    store: &dyn ObjectStore,
    upload: OpenUpload<'_>,
) -> Result<StoreFeatures, BucketError> {
    let features = store.bucket().features;
    let carried = StoreFeatures { conditional_writes: false, object_size: false, ..features };
    let (sent, etag) = with_fewer_extras(store, carried, |store| async move {
        store.upload_part(upload, 1, Bytes::from_static(WORDS)).await
    })
    .await?;
    let mut known = StoreFeatures { checksums: sent.checksums, ..features };
    let size = WORDS.len() as u64;
    let parts = [UploadedPart { number: 1, size, etag }];
    let complete = |store: Arc<dyn ObjectStore>| {
        let parts = parts.clone();
        async move {
            let conditional = store.bucket().features.conditional_writes;
            store.complete_upload(upload, &parts, size, conditional).await
        }
    };
    let unconditional = StoreFeatures { conditional_writes: false, ..known };
    if known.conditional_writes {
        let store = store.with_features(StoreFeatures { object_size: false, ..known });
        match complete(store).await {
            Ok(_) => return Ok(unconditional), // it ignores the condition
            Err(error) if error.extra.is_some() => known = unconditional,
            // Either the condition failed, as it should, or the next request will report the error
            // again.
            Err(_) => {}
        }
    }
    let completed = with_fewer_extras(store, unconditional, |store| {
        let completed = complete(store);
        async move {
            match completed.await {
                // An earlier response was lost, or the failed condition ended the upload; either
                // way nothing is left.
                Err(error) if error.fault == Fault::NoSuchUpload => Ok(()),
                completed => completed.map(drop),
            }
        }
    });
    let completed = completed.await?.0;
    Ok(StoreFeatures { object_size: completed.object_size, ..known })
}

/// Sends a request with the features in `carried`, dropping features as the store rejects them.
/// Returns those that were accepted, with the response; if nothing helps, the first error.
async fn with_fewer_extras<T, F>(
    store: &dyn ObjectStore,
    carried: StoreFeatures,
    send: impl Fn(Arc<dyn ObjectStore>) -> F,
) -> Result<(StoreFeatures, T), BucketError>
where
    F: Future<Output = Result<T, BucketError>>,
{
    let (mut extras, mut damaged, mut first) = (Extras::new(carried), 0, None);
    loop {
        let error = match send(store.with_features(extras.now())).await {
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

/// Aborts an upload, if permitted.
async fn abort(store: &dyn ObjectStore, upload: OpenUpload<'_>) {
    if let Err(error) = store.abort_upload(upload).await {
        tracing::debug!(%error, "the probe upload stays");
    }
}

/// Aborts every upload of the probe's key, if the bucket permits listing them. Any that remain hold
/// no data.
async fn end_uploads(store: &dyn ObjectStore, key: &str) {
    for id in store.uploads(key).await.unwrap_or_default() {
        abort(store, OpenUpload { key, id: &id }).await;
    }
}

/// A write that gets "not found" without an error code means that the bucket is missing.
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
