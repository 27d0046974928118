//! What an S3 server has acknowledged, stored in files next to the objects, so that it survives a
//! kill.
//!
//! An upload is a folder `.uploads/<id>` with its parts, `upload.json`, and during completion
//! `made.json`, from which a restarted server finishes the completion.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use s3s::dto::Metadata;
use serde_json::{Value, json};

use super::layout::Layout;

/// The attributes of an object besides its content.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) etag: String,
    pub(super) metadata: Option<Metadata>,
}

/// An open upload found at startup.
pub(super) struct Left {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) metadata: Option<Metadata>,
    pub(super) parts: Vec<(i32, u64)>,
}

pub(super) struct Journal {
    layout: Layout,
}

const UPLOADS: &str = ".uploads";
const UPLOAD: &str = "upload.json";
const MADE: &str = "made.json";
const WHOLE: &str = "whole";

impl Journal {
    pub(super) fn new(layout: &Layout) -> io::Result<Self> {
        fs::create_dir_all(layout.root().join(UPLOADS))?;
        Ok(Self { layout: layout.clone() })
    }

    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.layout.root().join(UPLOADS).join(id)
    }

    pub(super) fn opened(
        &self,
        id: &str,
        key: &str,
        metadata: Option<&Metadata>,
    ) -> io::Result<()> {
        write(&self.folder(id).join(UPLOAD), &json!({ "key": key, "metadata": metadata }))
    }

    /// Turns a file in the upload's folder into an object, atomically: after a kill, the next start
    /// finishes it.
    pub(super) fn make(&self, id: &str, bucket: &str, key: &str, known: &Known) -> io::Result<()> {
        let said =
            json!({ "bucket": bucket, "key": key, "etag": known.etag, "metadata": known.metadata });
        write(&self.folder(id).join(MADE), &said)?;
        self.finish(id, &said)
    }

    fn finish(&self, id: &str, said: &Value) -> io::Result<()> {
        let (bucket, key) = (text(&said["bucket"]), text(&said["key"]));
        let (object, whole) = (self.layout.object(&bucket, &key), self.whole(id));
        if whole.exists() {
            write(&self.layout.about(&bucket, &key), said)?;
            fs::create_dir_all(object.parent().expect("a folder"))?;
            fs::rename(whole, object)?;
        }
        fs::remove_dir_all(self.folder(id))
    }

    /// Where the content of an upload is assembled.
    pub(super) fn whole(&self, id: &str) -> PathBuf {
        self.folder(id).join(WHOLE)
    }

    /// Removes an upload's folder, which may already be gone.
    pub(super) fn ended(&self, id: &str) {
        let _ = fs::remove_dir_all(self.folder(id));
    }

    pub(super) fn known(&self, bucket: &str, key: &str) -> Option<Known> {
        let said = read(&self.layout.about(bucket, key))?;
        Some(Known { etag: text(&said["etag"]), metadata: metadata(&said) })
    }

    /// Removes an object, which may not exist.
    pub(super) fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        for path in [self.layout.object(bucket, key), self.layout.about(bucket, key)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn exists(&self, bucket: &str, key: &str) -> bool {
        self.layout.object(bucket, key).exists()
    }

    /// Finishes completions in progress and discards what was never acknowledged. Returns the open
    /// uploads.
    pub(super) fn recover(&self) -> io::Result<Vec<Left>> {
        let mut open = Vec::new();
        for entry in fs::read_dir(self.layout.root().join(UPLOADS))? {
            let id = entry?.file_name().to_string_lossy().into_owned();
            if let Some(said) = read(&self.folder(&id).join(MADE)) {
                self.finish(&id, &said)?;
            } else if let Some(said) = read(&self.folder(&id).join(UPLOAD)) {
                open.push(Left {
                    key: text(&said["key"]),
                    metadata: metadata(&said),
                    parts: parts(&self.folder(&id))?,
                    id,
                });
            } else {
                self.ended(&id);
            }
        }
        Ok(open)
    }
}

fn parts(folder: &Path) -> io::Result<Vec<(i32, u64)>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            parts.push((number, entry.metadata()?.len()));
        }
    }
    Ok(parts)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn metadata(said: &Value) -> Option<Metadata> {
    serde_json::from_value(said["metadata"].clone()).ok().flatten()
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file atomically: if it exists, its content is complete.
fn write(path: &Path, value: &Value) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("a folder"))?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, value.to_string())?;
    fs::rename(new, path)
}
