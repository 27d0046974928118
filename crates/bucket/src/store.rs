//! The port to object stores: the operations that exports need.
//!
//! One call is one request, retried by the implementation only if that is safe. Leases, backoff
//! between calls and renewal of credentials are up to the caller.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tracelift_core::{
    destination::{Bucket, StoreFeatures},
    part::UploadedPart,
};

use crate::BucketError;

/// An object to write.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Object key.
    pub key: String,
    /// Media type.
    pub content_type: &'static str,
    /// User metadata: names and values in printable ASCII.
    pub metadata: HashMap<String, String>,
}

/// An object's attributes, as the store reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub bytes: u64,
    /// ETag; empty if the store sends none.
    pub etag: String,
    /// User metadata.
    pub metadata: HashMap<String, String>,
}

/// An open multipart upload.
#[derive(Debug, Clone, Copy)]
pub struct OpenUpload<'a> {
    /// Key of the object that it creates.
    pub key: &'a str,
    /// The store's upload id.
    pub id: &'a str,
}

/// A bucket in an object store.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// The bucket's settings.
    fn bucket(&self) -> &Bucket;

    /// The same bucket, restricted to `features`.
    fn with_features(&self, features: StoreFeatures) -> Arc<dyn ObjectStore>;

    /// Writes an object in one request; returns its ETag. With `unless_exists`, fails with
    /// [`Fault::Exists`](crate::Fault::Exists) if the key is taken.
    async fn put(
        &self,
        object: &NewObject,
        body: Bytes,
        unless_exists: bool,
    ) -> Result<String, BucketError>;

    /// Opens a multipart upload; returns its id. Never retried, because a retry would hide an
    /// upload that the first attempt may have opened.
    async fn open_upload(&self, object: &NewObject) -> Result<String, BucketError>;

    /// Uploads part `number` (from 1); returns its ETag.
    async fn upload_part(
        &self,
        upload: OpenUpload<'_>,
        number: u32,
        body: Bytes,
    ) -> Result<String, BucketError>;

    /// Completes an upload into an object of `bytes` bytes; returns its ETag. `unless_exists` works
    /// as in [`ObjectStore::put`].
    async fn complete_upload(
        &self,
        upload: OpenUpload<'_>,
        parts: &[UploadedPart],
        bytes: u64,
        unless_exists: bool,
    ) -> Result<String, BucketError>;

    /// Aborts an upload and discards its parts.
    async fn abort_upload(&self, upload: OpenUpload<'_>) -> Result<(), BucketError>;

    /// Ids of the open uploads of exactly this key.
    async fn uploads(&self, key: &str) -> Result<Vec<String>, BucketError>;

    /// Fetches an object's attributes.
    async fn head(&self, key: &str) -> Result<ObjectInfo, BucketError>;

    /// Deletes an object.
    async fn delete(&self, key: &str) -> Result<(), BucketError>;
}
