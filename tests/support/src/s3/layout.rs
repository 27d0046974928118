//! Where the objects of a server lie on the disk.
//!
//! An object is the file `<bucket>/<key>`, which people and programs find by its path. A key that
//! cannot be the path of a file (a segment is empty, `.`, `..` or too long, or the file or folder
//! of another key is in its way) has its file in `.odd/<bucket>`, named after the encoded key.
//! `.objects/<bucket>` holds what is known of each object besides its content.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use s3s::path::check_bucket_name;

#[derive(Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// The bytes of a file's name that every file system takes.
const NAME: usize = 255;
/// The bytes of an encoded key in one file name, which leaves room for a suffix.
const PART: usize = 200;
const OBJECT: &str = ".object";

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn bucket(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn buckets(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| check_bucket_name(name) && self.bucket(name).is_dir()).collect()
    }

    fn odd(&self, bucket: &str) -> PathBuf {
        self.root.join(".odd").join(bucket)
    }

    /// The file of an object, or where it is to be written.
    pub(super) fn object(&self, bucket: &str, key: &str) -> PathBuf {
        let odd = self.odd(bucket).join(name(key, OBJECT));
        if !is_path(key) {
            return odd;
        }
        let plain = self.bucket(bucket).join(key);
        match fs::metadata(&plain) {
            Ok(found) if found.is_file() => plain,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !odd.exists() => plain,
            _ => odd,
        }
    }

    /// The file with what is known of an object.
    pub(super) fn about(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.join(".objects").join(bucket).join(name(key, ".json"))
    }

    /// The keys of a bucket that begin with a prefix.
    pub(super) fn keys(&self, bucket: &str, prefix: &str) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.is_empty() || is_path(folder) {
            let top = self.bucket(bucket);
            walk(&top.join(folder), &mut |file| keys.extend(relative(file, &top)));
        }
        let odd = self.odd(bucket);
        walk(&odd, &mut |file| keys.extend(relative(file, &odd).and_then(|name| key_of(&name))));
        keys.retain(|key| key.starts_with(prefix));
        keys
    }
}

/// Whether a key can be the path of a file, if no other key is in its way.
fn is_path(key: &str) -> bool {
    let good = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME;
    key.split('/').all(good) && !key.contains('\0')
}

/// A path that no other key has. All folders in it end with `+` and no file does, so that no file
/// is in the way of another key.
fn name(key: &str, suffix: &str) -> String {
    let encoded = encode(key);
    let parts: Vec<_> = encoded.as_bytes().chunks(PART).map(String::from_utf8_lossy).collect();
    parts.join("+/") + suffix
}

/// The key of an object with this name.
fn key_of(name: &str) -> Option<String> {
    let encoded = name.strip_suffix(OBJECT)?.replace("+/", "");
    let mut parts = encoded.split('%');
    let mut key = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        key.push(u8::from_str_radix(digits, 16).ok()?);
        key.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(key).ok()
}

/// Percent-encodes everything but unreserved characters.
pub(super) fn encode(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

fn relative(file: &Path, top: &Path) -> Option<String> {
    file.strip_prefix(top).ok()?.to_str().map(str::to_owned)
}

/// Visits every file below a folder, which may not exist.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit);
        } else {
            visit(&path);
        }
    }
}
