//! One page of a bucket's list.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use s3s::{S3Result, dto::*, s3_error};

use super::{layout::encode, stored::Stored};

/// The most entries of a page.
const PAGE: i32 = 1000;

/// The page that is asked for, of the keys that begin with the prefix.
pub(super) fn page(
    keys: BTreeSet<String>,
    input: ListObjectsV2Input,
    open: impl Fn(&str) -> S3Result<Stored>,
) -> S3Result<ListObjectsV2Output> {
    let entries = entries(keys, &input);
    let after = match &input.continuation_token {
        Some(token) => key_of(token).ok_or_else(|| s3_error!(InvalidArgument))?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let max_keys = input.max_keys.unwrap_or(PAGE).clamp(0, PAGE);
    let mut left = entries.range::<str, _>((Bound::Excluded(after.as_str()), Bound::Unbounded));
    let page: Vec<_> = left.by_ref().take(max_keys.unsigned_abs() as usize).collect();
    let more = left.next().and(page.last());
    let url = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
    let shown = |text: &str| if url { encode(text) } else { text.to_owned() };
    let (mut contents, mut groups) = (Vec::new(), Vec::new());
    for (name, is_group) in &page {
        if **is_group {
            groups.push(CommonPrefix { prefix: Some(shown(name)) });
        } else if let Ok(object) = open(name) {
            contents.push(told(shown(name), &object));
        }
    }
    Ok(ListObjectsV2Output {
        key_count: i32::try_from(contents.len() + groups.len()).ok(),
        contents: Some(contents),
        common_prefixes: Some(groups),
        is_truncated: Some(more.is_some()),
        next_continuation_token: more.map(|(name, _)| URL_SAFE.encode(name)),
        max_keys: Some(max_keys),
        prefix: input.prefix.as_deref().map(shown),
        delimiter: input.delimiter.as_deref().map(shown),
        start_after: input.start_after.as_deref().map(shown),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..Default::default()
    })
}

/// The keys, and whether each stands for all keys that begin with it, up to the delimiter.
fn entries(keys: BTreeSet<String>, input: &ListObjectsV2Input) -> BTreeMap<String, bool> {
    let prefix = input.prefix.as_ref().map_or(0, String::len);
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let entry = |mut key: String| {
        let group = delimiter.and_then(|mark| Some(key[prefix..].find(mark)? + mark.len()));
        if let Some(length) = group {
            key.truncate(prefix + length);
        }
        (key, group.is_some())
    };
    keys.into_iter().map(entry).collect()
}

fn key_of(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE.decode(token).ok()?).ok()
}

fn told(key: String, object: &Stored) -> Object {
    Object {
        key: Some(key),
        size: object.length(),
        last_modified: Some(object.modified.into()),
        e_tag: Some(object.etag.clone()),
        ..Default::default()
    }
}
