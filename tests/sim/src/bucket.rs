//! S3 in memory: objects, uploads, conditional writes. Its content survives a crash of its host, as
//! a disk would.

mod served;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{S3Result, auth::SimpleAuth, dto::Metadata, s3_error, service::S3ServiceBuilder};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tracelift_runtime::tasks;
use uuid::Uuid;

use crate::{faults::FaultInjector, net::Network, trace::Trace};

/// Its port.
pub const PORT: u16 = 9000;
/// The bucket that exports are written to.
pub const DESTINATION: &str = "exports";
/// The bucket with the offloaded fields.
pub const SOURCE: &str = "traces";
/// The only valid credentials.
pub const KEYS: (&str, &str) = ("sim-key", "sim-secret");

/// A stored object.
#[derive(Clone)]
pub struct Object {
    pub content: Bytes,
    pub metadata: Option<Metadata>,
    pub etag: String,
    /// The number of the write that created it, counted from 1 across the whole store.
    pub write: u64,
}

/// An upload that was neither completed nor aborted.
#[derive(Clone)]
pub struct Upload {
    pub bucket: String,
    pub key: String,
    pub metadata: Option<Metadata>,
    pub parts: BTreeMap<i32, Bytes>,
}

/// Everything on the disk.
#[derive(Default)]
pub struct Disk {
    /// By bucket and key.
    pub objects: BTreeMap<(String, String), Object>,
    pub uploads: BTreeMap<String, Upload>,
    pub writes: u64,
}

/// The store.
#[derive(Clone)]
pub struct Bucket {
    disk: Arc<Mutex<Disk>>,
    faults: FaultInjector,
    trace: Trace,
}

impl Bucket {
    /// An empty store.
    pub fn new(faults: FaultInjector, trace: Trace) -> Self {
        Self { disk: Arc::default(), faults, trace }
    }

    /// Everything on the disk.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until the host crashes.
    pub async fn serve(self, network: Network) -> turmoil::Result {
        let mut builder = S3ServiceBuilder::new(self);
        builder.set_auth(SimpleAuth::from_single(KEYS.0, KEYS.1));
        let service = builder.build();
        let mut incoming = Box::pin(network.listen(PORT).await?);
        let mut connections = JoinSet::new();
        while let Some(Ok(socket)) = incoming.next().await {
            let service = service.clone();
            tasks::start_in(&mut connections, "connection", async move {
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
        Ok(())
    }

    fn put(
        &self,
        bucket: &str,
        key: &str,
        content: Bytes,
        metadata: Option<Metadata>,
        only_new: bool,
    ) -> S3Result<String> {
        let mut disk = self.disk();
        let place = (bucket.to_owned(), key.to_owned());
        if only_new && disk.objects.contains_key(&place) {
            return Err(s3_error!(PreconditionFailed));
        }
        disk.writes += 1;
        let etag = etag(&content, disk.writes);
        let object = Object { content, metadata, etag: etag.clone(), write: disk.writes };
        self.trace.line(format_args!("S3 {bucket}/{key}: {} bytes, {etag}", object.content.len()));
        disk.objects.insert(place, object);
        Ok(etag)
    }

    fn create(&self, bucket: String, key: String, metadata: Option<Metadata>) -> String {
        let id = Uuid::new_v4().simple().to_string();
        self.trace.line(format_args!("S3 {bucket}/{key}: upload {id}"));
        self.disk()
            .uploads
            .insert(id.clone(), Upload { bucket, key, metadata, parts: BTreeMap::new() });
        id
    }

    fn part(&self, key: &str, id: &str, number: i32, content: Bytes) -> S3Result<String> {
        let mut disk = self.disk();
        let upload = disk
            .uploads
            .get_mut(id)
            .filter(|upload| upload.key == key)
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        let etag = etag(&content, 0);
        upload.parts.insert(number, content);
        Ok(etag)
    }

    /// Joins the requested parts, each of which must have the etag that was returned for it.
    fn complete(
        &self,
        key: &str,
        id: &str,
        asked: &[(i32, Option<String>)],
        only_new: bool,
    ) -> S3Result<String> {
        let upload = self
            .disk()
            .uploads
            .get(id)
            .filter(|upload| upload.key == key)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        if asked.is_empty() || !asked.is_sorted_by(|one, other| one.0 < other.0) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut content = Vec::new();
        for (number, tag) in asked {
            let part = upload.parts.get(number).ok_or_else(|| s3_error!(InvalidPart))?;
            if tag.as_ref().is_some_and(|tag| *tag != etag(part, 0)) {
                return Err(s3_error!(InvalidPart));
            }
            content.extend_from_slice(part);
        }
        let etag = self.put(&upload.bucket, key, content.into(), upload.metadata, only_new)?;
        self.disk().uploads.remove(id);
        Ok(etag)
    }

    fn abort(&self, key: &str, id: &str) -> S3Result<()> {
        let mut disk = self.disk();
        if disk.uploads.get(id).is_none_or(|upload| upload.key != key) {
            return Err(s3_error!(NoSuchUpload));
        }
        disk.uploads.remove(id);
        self.trace.line(format_args!("S3 {key}: upload {id} aborted"));
        Ok(())
    }
}

/// Different for every write.
fn etag(content: &[u8], write: u64) -> String {
    let digest = Sha256::digest(content);
    format!("{:02x}{:02x}{:02x}{:02x}-{write}", digest[0], digest[1], digest[2], digest[3])
}
