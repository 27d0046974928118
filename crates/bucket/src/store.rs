//! The port to object stores: what an export asks of the store that holds its bucket.
//!
//! One call is one request, tried again by its implementation only when that is safe. Leases, waits
//! between calls and the renewal of keys are the caller's.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tracelift_core::{
    destination::{Bucket, StoreFeatures},
    part::UploadedPart,
};

use crate::BucketError;

/// An object that is to be written.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its key.
    pub key: String,
    /// Its media type.
    pub content_type: &'static str,
    /// What it says about itself: names and values of printable ASCII.
    pub metadata: HashMap<String, String>,
}

/// An object as a store describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its size.
    pub bytes: u64,
    /// The store's name for its content; empty where it gives none.
    pub etag: String,
    /// What it says about itself.
    pub metadata: HashMap<String, String>,
}

/// An upload that is open.
#[derive(Debug, Clone, Copy)]
pub struct OpenUpload<'a> {
    /// The key of the object that it will make.
    pub key: &'a str,
    /// The store's name for it.
    pub id: &'a str,
}

/// A store, and one bucket in it.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// The bucket.
    fn bucket(&self) -> &Bucket;

    /// The same bucket of a store that supports only `features`.
    fn with_features(&self, features: StoreFeatures) -> Arc<dyn ObjectStore>;

    /// Writes an object in one request; its etag. With `unless_exists` it fails with
    /// [`Fault::Exists`](crate::Fault::Exists) when an object stands at the key.
    async fn put(
        &self,
        object: &NewObject,
        body: Bytes,
        unless_exists: bool,
    ) -> Result<String, BucketError>;

    /// Opens an upload; its id. Sent once: a second try would hide that the first may have opened
    /// one.
    async fn open_upload(&self, object: &NewObject) -> Result<String, BucketError>;

    /// Sends part `number`, from 1; its etag.
    async fn upload_part(
        &self,
        upload: OpenUpload<'_>,
        number: u32,
        body: Bytes,
    ) -> Result<String, BucketError>;

    /// Makes the object of `bytes` bytes out of its parts; its etag. `unless_exists` is as in
    /// [`ObjectStore::put`].
    async fn complete_upload(
        &self,
        upload: OpenUpload<'_>,
        parts: &[UploadedPart],
        bytes: u64,
        unless_exists: bool,
    ) -> Result<String, BucketError>;

    /// Discards an upload and its parts.
    async fn abort_upload(&self, upload: OpenUpload<'_>) -> Result<(), BucketError>;

    /// The ids of the open uploads of this very key.
    async fn uploads(&self, key: &str) -> Result<Vec<String>, BucketError>;

    /// Describes an object.
    async fn head(&self, key: &str) -> Result<ObjectInfo, BucketError>;

    /// Deletes an object.
    async fn delete(&self, key: &str) -> Result<(), BucketError>;
}
