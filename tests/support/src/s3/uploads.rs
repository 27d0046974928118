//! Writes. An upload is a folder with a file per part; completing it joins the parts in the
//! requested order.

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

use super::{
    journal::{Journal, Known},
    layout::Layout,
};

/// When a write may create an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// Only if there is none.
    IfNone,
}

struct Upload {
    key: String,
    metadata: Option<Metadata>,
    /// Size of each part.
    parts: BTreeMap<i32, u64>,
}

pub(super) struct Uploads {
    journal: Journal,
    open: Mutex<BTreeMap<String, Upload>>,
    /// Held while an object is created or removed, so that its condition still holds.
    making: Mutex<()>,
}

/// S3's own minimum for every part but the last.
const MIN_PART_BYTES: u64 = 5 << 20;

impl Uploads {
    pub(super) fn new(layout: &Layout) -> io::Result<Self> {
        let journal = Journal::new(layout)?;
        let left = journal.recover()?.into_iter();
        let open = left.map(|left| {
            (
                left.id,
                Upload {
                    key: left.key,
                    metadata: left.metadata,
                    parts: left.parts.into_iter().collect(),
                },
            )
        });
        Ok(Self { open: Mutex::new(open.collect()), journal, making: Mutex::default() })
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
        receive(&self.journal.whole(&id), body).await?;
        let _one_at_a_time = self.making.lock().expect("not poisoned");
        if let Err(error) = self.holds(condition, bucket, key) {
            self.journal.ended(&id);
            return Err(error);
        }
        let etag = Uuid::parse_str(&id).unwrap_or_default().as_simple().to_string();
        let made = self.journal.make(&id, bucket, key, &Known { etag: etag.clone(), metadata });
        made.map_err(|error| s3_error!(error, InternalError))?;
        Ok(etag)
    }

    pub(super) fn create(&self, key: &str, metadata: Option<Metadata>) -> S3Result<String> {
        let id = Uuid::new_v4().to_string();
        self.journal
            .opened(&id, key, metadata.as_ref())
            .map_err(|error| s3_error!(error, InternalError))?;
        let upload = Upload { key: key.to_owned(), metadata, parts: BTreeMap::new() };
        self.open.lock().expect("not poisoned").insert(id.clone(), upload);
        Ok(id)
    }

    pub(super) async fn part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        body: StreamingBlob,
    ) -> S3Result<String> {
        self.known(key, id)?;
        let (new, path) = (
            self.path(id, &format!("{number}-{}", Uuid::new_v4())),
            self.path(id, &number.to_string()),
        );
        let size = receive(&new, body).await?;
        let mut open = self.open.lock().expect("not poisoned");
        let Some(upload) = open.get_mut(id) else {
            self.journal.ended(id);
            return Err(s3_error!(NoSuchUpload));
        };
        fs::rename(new, path).map_err(|error| s3_error!(error, InternalError))?;
        upload.parts.insert(number, size);
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
        self.holds(condition, bucket, key)?;
        let mut open = self.open.lock().expect("not poisoned");
        let upload = open.get(id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let numbers: Vec<i32> = parts.iter().filter_map(|part| part.part_number).collect();
        let (last, others) = numbers.split_last().ok_or_else(|| s3_error!(InvalidPart))?;
        if !upload.parts.contains_key(last)
            || others.iter().any(|number| !upload.parts.contains_key(number))
        {
            return Err(s3_error!(InvalidPart));
        }
        if !small_parts && others.iter().any(|number| upload.parts[number] < MIN_PART_BYTES) {
            return Err(s3_error!(EntityTooSmall));
        }
        let etag =
            format!("{}-{}", Uuid::parse_str(id).unwrap_or_default().as_simple(), numbers.len());
        let known = Known { etag: etag.clone(), metadata: upload.metadata.clone() };
        let made =
            self.join(id, &numbers).and_then(|()| self.journal.make(id, bucket, key, &known));
        made.map_err(|error| s3_error!(error, InternalError))?;
        open.remove(id);
        Ok(etag)
    }

    fn join(&self, id: &str, numbers: &[i32]) -> io::Result<()> {
        let mut out = fs::File::create(self.journal.whole(id))?;
        for number in numbers {
            io::copy(&mut fs::File::open(self.path(id, &number.to_string()))?, &mut out)?;
        }
        Ok(())
    }

    pub(super) fn abort(&self, key: &str, id: &str) -> S3Result<()> {
        self.known(key, id)?;
        self.open.lock().expect("not poisoned").remove(id);
        self.journal.ended(id);
        Ok(())
    }

    /// The (key, upload id) of every upload that was neither completed nor aborted.
    pub(super) fn open(&self) -> Vec<(String, String)> {
        self.open
            .lock()
            .expect("not poisoned")
            .iter()
            .map(|(id, upload)| (upload.key.clone(), id.clone()))
            .collect()
    }

    /// The attributes given when the object was written.
    pub(super) fn of_object(&self, bucket: &str, key: &str) -> Option<Known> {
        self.journal.known(bucket, key)
    }

    /// Removes an object, which may not exist.
    pub(super) fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let _one_at_a_time = self.making.lock().expect("not poisoned");
        self.journal.delete(bucket, key).map_err(|error| s3_error!(error, InternalError))
    }

    fn holds(&self, condition: Condition, bucket: &str, key: &str) -> S3Result<()> {
        if condition == Condition::IfNone && self.journal.exists(bucket, key) {
            Err(s3_error!(PreconditionFailed))
        } else {
            Ok(())
        }
    }

    fn known(&self, key: &str, id: &str) -> S3Result<()> {
        let open = self.open.lock().expect("not poisoned");
        if open.get(id).is_some_and(|upload| upload.key == key) {
            Ok(())
        } else {
            Err(s3_error!(NoSuchUpload))
        }
    }

    fn path(&self, id: &str, name: &str) -> PathBuf {
        self.journal.folder(id).join(name)
    }
}

/// Writes a body to a file with a unique name. Returns its size.
async fn receive(path: &Path, mut body: StreamingBlob) -> S3Result<u64> {
    fs::create_dir_all(path.parent().expect("a folder"))
        .map_err(|error| s3_error!(error, InternalError))?;
    let mut file =
        tokio::fs::File::create(path).await.map_err(|error| s3_error!(error, InternalError))?;
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
