//! Writes. Parts of a multipart upload are files, an upload is a folder of them, completing joins them in the order
//! asked for.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use futures::StreamExt as _;
use s3s::{
    S3Result,
    dto::{CompletedPart, Metadata, StreamingBlob},
    s3_error,
};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

/// When a write may make an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// Only where none is.
    IfNone,
}

struct Upload {
    key: String,
    metadata: Option<Metadata>,
    /// Size of each part.
    parts: BTreeMap<i32, u64>,
}

pub(super) struct Uploads {
    root: PathBuf,
    open: Mutex<BTreeMap<String, Upload>>,
    /// Held while an object is made, so that a condition still holds when it is.
    making: Mutex<()>,
    /// Metadata of completed objects, by bucket and key.
    metadata: Mutex<BTreeMap<(String, String), Metadata>>,
}

/// S3's own bound on every part but the last.
const MIN_PART_BYTES: u64 = 5 << 20;

impl Uploads {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join(".uploads"))?;
        Ok(Self { root: root.to_owned(), open: Mutex::default(), making: Mutex::default(), metadata: Mutex::default() })
    }

    pub(super) async fn put(
        &self,
        bucket: &str,
        key: &str,
        metadata: Option<Metadata>,
        body: StreamingBlob,
        condition: Condition,
    ) -> S3Result<String> {
        let id = Uuid::new_v4().to_string();
        let new = self.path(&id, 0);
        receive(&new, body).await?;
        let _one_at_a_time = self.making.lock().expect("not poisoned");
        let object = self.root.join(bucket).join(key);
        holds(condition, &object)?;
        let moved = fs::create_dir_all(object.parent().expect("a folder")).and_then(|()| fs::rename(&new, object));
        moved.and_then(|()| fs::remove_dir_all(new.parent().expect("a folder"))).map_err(|error| s3_error!(error, InternalError))?;
        self.remember(bucket, key, metadata);
        Ok(Uuid::parse_str(&id).unwrap_or_default().as_simple().to_string())
    }

    fn remember(&self, bucket: &str, key: &str, metadata: Option<Metadata>) {
        let (object, mut all) = ((bucket.to_owned(), key.to_owned()), self.metadata.lock().expect("not poisoned"));
        match metadata {
            Some(metadata) => all.insert(object, metadata),
            None => all.remove(&object),
        };
    }

    pub(super) fn create(&self, key: &str, metadata: Option<Metadata>) -> String {
        let id = Uuid::new_v4().to_string();
        let upload = Upload { key: key.to_owned(), metadata, parts: BTreeMap::new() };
        self.open.lock().expect("not poisoned").insert(id.clone(), upload);
        id
    }

    pub(super) async fn part(&self, key: &str, id: &str, number: i32, body: StreamingBlob) -> S3Result<String> {
        self.known(key, id)?;
        let size = receive(&self.path(id, number), body).await?;
        let mut open = self.open.lock().expect("not poisoned");
        open.get_mut(id).ok_or_else(|| s3_error!(NoSuchUpload))?.parts.insert(number, size);
        Ok(tag(id, number))
    }

    pub(super) fn complete(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        parts: &[CompletedPart],
        condition: Condition,
        small_parts: bool,
    ) -> S3Result<String> {
        self.known(key, id)?;
        let _one_at_a_time = self.making.lock().expect("not poisoned");
        holds(condition, &self.root.join(bucket).join(key))?;
        let mut open = self.open.lock().expect("not poisoned");
        let upload = open.get(id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let numbers: Vec<i32> = parts.iter().filter_map(|part| part.part_number).collect();
        let (last, others) = numbers.split_last().ok_or_else(|| s3_error!(InvalidPart))?;
        if !upload.parts.contains_key(last) || others.iter().any(|number| !upload.parts.contains_key(number)) {
            return Err(s3_error!(InvalidPart));
        }
        if !small_parts && others.iter().any(|number| upload.parts[number] < MIN_PART_BYTES) {
            return Err(s3_error!(EntityTooSmall));
        }
        self.join(bucket, key, id, &numbers).map_err(|error| s3_error!(error, InternalError))?;
        let metadata = open.remove(id).and_then(|upload| upload.metadata);
        self.remember(bucket, key, metadata);
        Ok(format!("{}-{}", Uuid::parse_str(id).unwrap_or_default().as_simple(), numbers.len()))
    }

    fn join(&self, bucket: &str, key: &str, id: &str, numbers: &[i32]) -> io::Result<()> {
        let object = self.root.join(bucket).join(key);
        fs::create_dir_all(object.parent().expect("a folder"))?;
        let whole = self.root.join(".uploads").join(id).join("whole");
        let mut out = fs::File::create(&whole)?;
        for number in numbers {
            io::copy(&mut fs::File::open(self.path(id, *number))?, &mut out)?;
        }
        fs::rename(&whole, object)?;
        fs::remove_dir_all(self.root.join(".uploads").join(id))
    }

    pub(super) fn abort(&self, key: &str, id: &str) -> S3Result<()> {
        self.known(key, id)?;
        self.open.lock().expect("not poisoned").remove(id);
        let _ = fs::remove_dir_all(self.root.join(".uploads").join(id)); // there is none before the first part
        Ok(())
    }

    /// (key, upload id) of every upload that was neither completed nor aborted.
    pub(super) fn open(&self) -> Vec<(String, String)> {
        self.open.lock().expect("not poisoned").iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    }

    pub(super) fn metadata(&self, bucket: &str, key: &str) -> Option<Metadata> {
        self.metadata.lock().expect("not poisoned").get(&(bucket.to_owned(), key.to_owned())).cloned()
    }

    fn known(&self, key: &str, id: &str) -> S3Result<()> {
        let open = self.open.lock().expect("not poisoned");
        if open.get(id).is_some_and(|upload| upload.key == key) { Ok(()) } else { Err(s3_error!(NoSuchUpload)) }
    }

    fn path(&self, id: &str, number: i32) -> PathBuf {
        self.root.join(".uploads").join(id).join(number.to_string())
    }
}

fn holds(condition: Condition, object: &Path) -> S3Result<()> {
    if condition == Condition::IfNone && object.exists() { Err(s3_error!(PreconditionFailed)) } else { Ok(()) }
}

/// Writes a body to a file. Its size.
async fn receive(path: &Path, mut body: StreamingBlob) -> S3Result<u64> {
    fs::create_dir_all(path.parent().expect("a folder")).map_err(|error| s3_error!(error, InternalError))?;
    let mut file = tokio::fs::File::create(path).await.map_err(|error| s3_error!(error, InternalError))?;
    let mut size = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| s3_error!(IncompleteBody, "{error}"))?;
        size += chunk.len() as u64;
        file.write_all(&chunk).await.map_err(|error| s3_error!(error, InternalError))?;
    }
    file.flush().await.map_err(|error| s3_error!(error, InternalError))?;
    Ok(size)
}

fn tag(id: &str, number: i32) -> String {
    format!("{}{number:05}", Uuid::parse_str(id).unwrap_or_default().as_simple())
}
