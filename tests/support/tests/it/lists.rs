//! Lists of a bucket, as S3 gives them.

use aws_sdk_s3::{
    Client, operation::list_objects_v2::builders::ListObjectsV2FluentBuilder, types::EncodingType,
};
use tempfile::TempDir;

use crate::served;

type List = ListObjectsV2FluentBuilder;

/// Every key of a list, page after page.
pub(crate) async fn listed(s3: &Client, change: impl FnOnce(List) -> List) -> Vec<String> {
    let mut pages = change(s3.list_objects_v2().bucket("bucket")).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        let of_page = page.contents().iter().map(|object| object.key().unwrap().to_owned());
        let groups = page.common_prefixes().iter().map(|group| group.prefix().unwrap().to_owned());
        assert_eq!(
            usize::try_from(page.key_count().unwrap()).unwrap(),
            of_page.len() + groups.len()
        );
        keys.extend(of_page.chain(groups));
    }
    keys
}

const KEYS: [&str; 9] = ["A", "a", "a/", "a/b", "a/b/c", "a/d", "a0", "x//y", "\u{1f600}"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_the_keys_of_its_prefix_in_order_and_in_pages() {
    let dir = TempDir::new().unwrap();
    let (server, s3) = served(&dir).await;
    KEYS.iter().rev().for_each(|key| server.put("bucket", key, b"1"));
    for size in [1, 2, 3, 9, 1000, 5000] {
        assert_eq!(listed(&s3, |list| list.max_keys(size)).await, KEYS, "pages of {size}");
    }
    let below = |prefix: &'static str| listed(&s3, move |list| list.prefix(prefix).max_keys(2));
    assert_eq!(below("a").await, KEYS[1..7]);
    assert_eq!(below("a/").await, KEYS[2..6]);
    assert_eq!(below("a/b").await, KEYS[3..5]);
    assert_eq!(below("x//").await, ["x//y"]);
    for nothing in ["b", "a/b/c/", "/", "../bucket/a", "a/../a"] {
        assert_eq!(below(nothing).await, [""; 0], "{nothing}");
    }
    assert_eq!(listed(&s3, |list| list.start_after("a/b")).await, KEYS[4..]);
    let none = s3.list_objects_v2().bucket("bucket").max_keys(0).send().await.unwrap();
    assert_eq!((none.key_count(), none.is_truncated()), (Some(0), Some(false)));
    let lost = s3.list_objects_v2().bucket("no-bucket").send().await.unwrap_err();
    assert!(lost.into_service_error().is_no_such_bucket());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delimiter_groups_the_keys_behind_it_and_each_group_is_listed_once() {
    let dir = TempDir::new().unwrap();
    let (server, s3) = served(&dir).await;
    KEYS.iter().for_each(|key| server.put("bucket", key, b"1"));
    for size in [1, 1000] {
        let grouped = |prefix: &'static str| {
            listed(&s3, move |list| list.prefix(prefix).delimiter("/").max_keys(size))
        };
        let mut top = grouped("").await;
        top.sort();
        assert_eq!(top, ["A", "a", "a/", "a0", "x/", "\u{1f600}"]);
        let mut below = grouped("a/").await;
        below.sort();
        assert_eq!(below, ["a/", "a/b", "a/b/", "a/d"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_xml_cannot_hold_are_listed_encoded() {
    let dir = TempDir::new().unwrap();
    let (server, s3) = served(&dir).await;
    let keys = ["\0\u{1}\r\n", "1 + 1 = \u{6f22}"];
    keys.iter().for_each(|key| server.put("bucket", key, b"1"));
    for key in keys {
        let found = s3.get_object().bucket("bucket").key(key).send().await.unwrap();
        assert_eq!(found.body.collect().await.unwrap().to_vec(), b"1");
    }
    let encoded = listed(&s3, |list| list.encoding_type(EncodingType::Url).max_keys(1)).await;
    assert_eq!(encoded, ["%00%01%0D%0A", "1%20%2B%201%20%3D%20%E6%BC%A2"]);
}
