//! The server takes every key that S3 takes: up to 1024 bytes of UTF-8, whatever they say.

use aws_sdk_s3::{
    Client,
    error::SdkError,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use tempfile::TempDir;

use crate::{lists::listed, served};

/// Keys that are no paths of files, in S3's order.
fn odd_keys() -> Vec<String> {
    let mut keys: Vec<_> = [
        " blank ",
        "%2F?#&+<'\">",
        "../up",
        "/leading",
        "/",
        ".",
        "..",
        "a",
        "a/",
        "a/./b",
        "a/../b",
        "a//b",
        "a/b",
        "a/b/c",
        "a/b.json",
        "a/b.json/c",
        "a.json",
        "back\\slash",
        "Case",
        "case",
        "e\u{301}",
        "\u{e9}",
        "\u{fb01} sorts before \u{1f600} in UTF-8 and behind it in UTF-16",
        "\u{1f600}",
    ]
    .map(str::to_owned)
    .into();
    keys.push(format!("{}/data.parquet", "\u{6f22}".repeat(290)));
    keys.extend([199, 200, 201, 255, 256, 1024].map(|length| "s".repeat(length)));
    keys.push("%".repeat(1024));
    keys.push("a/".repeat(512));
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_any_key_is_put_read_and_found_again_by_the_next_server() {
    let dir = TempDir::new().unwrap();
    let (first, s3) = served(&dir).await;
    for key in odd_keys() {
        let content = ByteStream::from(content(&key));
        let put = s3.put_object().bucket("bucket").key(&key).metadata("token", "1").body(content);
        put.send().await.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
    }
    all_there(&s3, "1").await;
    assert_eq!(first.keys("bucket"), odd_keys());
    drop(first);

    let (second, s3) = served(&dir).await;
    all_there(&s3, "1").await;
    for key in odd_keys() {
        assert_eq!(second.get("bucket", &key), Some(content(&key)), "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_to_any_key_survives_the_server_and_becomes_an_object() {
    let dir = TempDir::new().unwrap();
    let (first, s3) = served(&dir).await;
    let mut uploads = Vec::new();
    for key in odd_keys() {
        let upload =
            s3.create_multipart_upload().bucket("bucket").key(&key).metadata("token", "2").send();
        let id = upload.await.unwrap().upload_id.unwrap();
        let part = s3.upload_part().bucket("bucket").key(&key).upload_id(&id).part_number(1);
        let tag = part.body(ByteStream::from(content(&key))).send().await.unwrap().e_tag;
        uploads.push((key, id, CompletedPart::builder().part_number(1).set_e_tag(tag).build()));
    }
    drop(first);

    let (second, s3) = served(&dir).await;
    assert_eq!(second.open_uploads().len(), uploads.len());
    for (key, id, part) in uploads {
        let whole = CompletedMultipartUpload::builder().parts(part).build();
        let complete = s3.complete_multipart_upload().bucket("bucket").key(&key).upload_id(id);
        complete
            .multipart_upload(whole)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
    }
    all_there(&s3, "2").await;
    drop(second);
    all_there(&served(&dir).await.1, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_one_key_leaves_those_that_begin_like_it() {
    let dir = TempDir::new().unwrap();
    let (server, s3) = served(&dir).await;
    let mut keys = odd_keys();
    keys.iter().for_each(|key| server.put("bucket", key, &content(key)));
    while !keys.is_empty() {
        let key = keys.remove(keys.len() / 2);
        s3.delete_object().bucket("bucket").key(&key).send().await.unwrap();
        let gone = s3.get_object().bucket("bucket").key(&key).send().await;
        assert!(gone.is_err_and(|error| error.into_service_error().is_no_such_key()), "{key:?}");
        assert_eq!(server.keys("bucket"), keys, "without {key:?}");
    }
    s3.delete_object().bucket("bucket").key("a").send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_keeps_its_place_when_what_stood_in_its_way_is_gone() {
    let dir = TempDir::new().unwrap();
    let (server, _) = served(&dir).await;
    for (key, content) in [("a", "1"), ("a/b", "2"), ("c/d", "3"), ("c", "4")] {
        server.put("bucket", key, content.as_bytes());
    }
    server.delete("bucket", "a");
    server.delete("bucket", "c/d");
    assert_eq!(server.keys("bucket"), ["a/b", "c"]);
    for (key, content) in [("a/b", "5"), ("c", "6"), ("a/e", "7")] {
        server.put("bucket", key, content.as_bytes());
    }
    assert_eq!(server.keys("bucket"), ["a/b", "a/e", "c"]);
    assert_eq!(
        ["a/b", "a/e", "c"].map(|key| server.get("bucket", key)),
        ["5", "7", "6"].map(|content| Some(content.into()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_key_is_an_ordinary_file() {
    let dir = TempDir::new().unwrap();
    let (server, s3) = served(&dir).await;
    let key = "test/export_id=1/tenant_id=2/year=2024/r-00000.parquet";
    let put = s3.put_object().bucket("bucket").key(key).body(ByteStream::from_static(b"PAR1"));
    put.send().await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("bucket").join(key)).unwrap(), b"PAR1");
    std::fs::write(dir.path().join("bucket/dropped"), "in").unwrap();
    assert_eq!(server.keys("bucket"), ["dropped", key]);
    let head = s3.head_object().bucket("bucket").key("dropped").send().await.unwrap();
    assert_eq!((head.content_length(), head.e_tag().is_some()), (Some(2), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_more_than_1024_bytes_is_refused() {
    let dir = TempDir::new().unwrap();
    let (_server, s3) = served(&dir).await;
    let put = s3.put_object().bucket("bucket").key("s".repeat(1025)).send().await;
    let Err(SdkError::ServiceError(error)) = put else { panic!("{put:?}") };
    assert_eq!(error.err().meta().code(), Some("KeyTooLongError"));
}

fn content(key: &str) -> Vec<u8> {
    format!("content of {key}").into_bytes()
}

/// Every odd key is listed, and its object is read whole and in part.
async fn all_there(s3: &Client, token: &str) {
    assert_eq!(listed(s3, |list| list).await, odd_keys());
    for key in odd_keys() {
        let get = s3.get_object().bucket("bucket").key(&key);
        let whole = get.clone().send().await.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
        let etag = whole.e_tag.clone();
        assert_eq!(whole.body.collect().await.unwrap().to_vec(), content(&key), "{key:?}");
        let part = get.range("bytes=3-9").send().await.unwrap();
        let range = format!("bytes 3-9/{}", content(&key).len());
        assert_eq!((part.content_range(), &part.e_tag), (Some(range.as_str()), &etag), "{key:?}");
        assert_eq!(part.body.collect().await.unwrap().to_vec(), b"tent of", "{key:?}");
        let head = s3.head_object().bucket("bucket").key(&key).send().await.unwrap();
        assert_eq!(head.content_length(), i64::try_from(content(&key).len()).ok(), "{key:?}");
        assert_eq!((&head.metadata().unwrap()["token"], &head.e_tag), (&token.to_owned(), &etag));
    }
}
