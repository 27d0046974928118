//! The tests' own S3 server is killed in chaos: what it has acknowledged must be there afterwards.

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use tempfile::TempDir;

use crate::served;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_objects_and_what_was_said_of_them_outlive_the_server() {
    let dir = TempDir::new().unwrap();
    let (first, s3) = served(&dir).await;
    let put = s3
        .put_object()
        .bucket("bucket")
        .key("x/put")
        .metadata("token", "1")
        .body(ByteStream::from_static(b"one"));
    let put = put.send().await.unwrap();
    let upload = s3
        .create_multipart_upload()
        .bucket("bucket")
        .key("x/parts")
        .metadata("token", "2")
        .send()
        .await
        .unwrap();
    let id = upload.upload_id().unwrap();
    let part = s3
        .upload_part()
        .bucket("bucket")
        .key("x/parts")
        .upload_id(id)
        .part_number(1)
        .body(ByteStream::from_static(b"two"));
    let part =
        CompletedPart::builder().part_number(1).set_e_tag(part.send().await.unwrap().e_tag).build();
    let aborted =
        s3.create_multipart_upload().bucket("bucket").key("x/aborted").send().await.unwrap();
    let abort = s3
        .abort_multipart_upload()
        .bucket("bucket")
        .key("x/aborted")
        .upload_id(aborted.upload_id().unwrap());
    abort.send().await.unwrap();
    drop(first);

    let (second, s3) = served(&dir).await;
    assert_eq!(second.open_uploads(), [("x/parts".to_owned(), id.to_owned())]);
    let head = s3.head_object().bucket("bucket").key("x/put").send().await.unwrap();
    assert_eq!((head.metadata().unwrap()["token"].as_str(), head.e_tag()), ("1", put.e_tag()));
    let whole = CompletedMultipartUpload::builder().parts(part).build();
    let complete = s3
        .complete_multipart_upload()
        .bucket("bucket")
        .key("x/parts")
        .upload_id(id)
        .multipart_upload(whole);
    let complete = complete.send().await.unwrap();
    drop(second);

    let (third, s3) = served(&dir).await;
    assert_eq!(third.open_uploads(), []);
    let found = s3.get_object().bucket("bucket").key("x/parts").send().await.unwrap();
    assert_eq!(found.body.collect().await.unwrap().into_bytes(), "two");
    let head = s3.head_object().bucket("bucket").key("x/parts").send().await.unwrap();
    assert_eq!((head.metadata().unwrap()["token"].as_str(), head.e_tag()), ("2", complete.e_tag()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_was_being_made_when_the_server_was_killed_is_made_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let upload = dir.path().join(".uploads/u");
    std::fs::create_dir_all(&upload).unwrap();
    std::fs::write(upload.join("whole"), "all of it").unwrap();
    std::fs::write(upload.join("upload.json"), r#"{"key": "x", "metadata": null}"#).unwrap();
    std::fs::write(
        upload.join("made.json"),
        r#"{"bucket": "bucket", "key": "x", "etag": "e", "metadata": {"token": "3"}}"#,
    )
    .unwrap();
    let (server, s3) = served(&dir).await;
    assert_eq!(server.open_uploads(), []);
    assert_eq!(server.get("bucket", "x").unwrap(), b"all of it");
    assert_eq!(
        s3.head_object().bucket("bucket").key("x").send().await.unwrap().metadata().unwrap()["token"],
        "3"
    );
}
