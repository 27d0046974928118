//! What callers read when their bucket is rejected. `fixtures/<vendor>/<case>.http` holds responses
//! as each vendor words them.
//!
//! Those of MinIO were recorded from a server; the others follow the vendors' documentation.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_s3::primitives::SdkBody;
use secrecy::SecretString;
use tracelift_core::destination::{Bucket, BucketInput};
use uuid::Uuid;

use crate::{Connector, EndpointPolicy, Fault, Grant, Keys, answers::answers, check};

fn bucket() -> Bucket {
    let (bucket_name, endpoint_url) = ("traces".into(), "https://store.example.com".into());
    BucketInput { bucket_name, endpoint_url, ..BucketInput::default() }.check().unwrap()
}

fn keys() -> Grant {
    let (access_key_id, secret_access_key) =
        ("AKIAFIXTURE".to_owned(), SecretString::from("never-shown"));
    Grant::Keys(Keys { access_key_id, secret_access_key, session_token: None })
}

fn answer(recorded: &str) -> http::Response<SdkBody> {
    let (head, body) = recorded.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let mut answer = http::Response::builder().status(lines.next().unwrap());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        answer = answer.header(name, value);
    }
    answer.body(SdkBody::from(body.trim_end())).unwrap()
}

/// What the write check reports if every request gets this response.
async fn said(recorded: String) -> String {
    let http = answers(move |_| answer(&recorded));
    let connector = Connector::over(http, EndpointPolicy::default());
    let store = connector.store(&bucket(), &keys(), Duration::from_secs(5), 1).await.unwrap();
    match check(&*store, Uuid::nil()).await {
        Ok(_) => "it was taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn every_vendors_refusal_is_told_in_the_texts_of_the_api() {
    let mut table = String::new();
    for vendor in ["aws", "ceph", "garage", "gcs", "minio", "r2"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(vendor);
        let mut cases: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        cases.sort();
        assert!(cases.len() >= 4, "{vendor} has {} answers", cases.len());
        for case in cases {
            let said = said(fs::read_to_string(&case).unwrap()).await;
            assert!(!said.contains("AKIAFIXTURE") && !said.contains("never-shown"), "{said}");
            table += &format!("{vendor}/{}\n    {said}\n", case.file_stem().unwrap().display());
        }
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let http = answers(move |request| {
        log.lock().unwrap().push(request.uri().host().unwrap_or_default().to_owned());
        let answer = http::Response::builder()
            .status(307)
            .header("location", "http://169.254.169.254/latest/meta-data/");
        answer.body(SdkBody::empty()).unwrap()
    });
    let store = Connector::over(http, EndpointPolicy::default())
        .store(&bucket(), &keys(), Duration::from_secs(5), 2)
        .await
        .unwrap();
    assert_eq!(check(&*store, Uuid::nil()).await.unwrap_err().fault, Fault::WrongRegion);
    assert_eq!(*asked.lock().unwrap(), ["store.example.com"]);
}
