//! Roles: assumed with ambient credentials, renewed in time, and reported when they cannot be
//! assumed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use tracelift_core::destination::{Bucket, BucketInput, ClientOptions, RoleArn, UsEast1};

use super::*;
use crate::{Fault, NewObject, answers::answers, check};

const SOON: &str = "2026-01-01T00:00:00Z"; // in the past: keys must be renewed before each call
const NEVER: &str = "2099-01-01T00:00:00Z";

fn bucket() -> Bucket {
    let (bucket_name, region) = ("traces".into(), "us-east-1".into());
    BucketInput { bucket_name, region, ..BucketInput::default() }.check().unwrap()
}

fn role() -> Grant {
    let arn = RoleArn::parse("", "arn:aws:iam::123456789012:role/exports").unwrap();
    Grant::Role { arn, external_id: "workspace-7".to_owned() }
}

/// The parts of AWS that a role needs: an instance profile, the token service, and a bucket that
/// accepts everything.
fn aws(expires: &'static str, trusted: bool) -> (SharedHttpConnector, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let http = answers(move |request| {
        let (host, path) =
            (request.uri().host().unwrap_or_default().to_owned(), request.uri().path().to_owned());
        let answer = |status: u16, body: String| {
            http::Response::builder().status(status).body(SdkBody::from(body)).unwrap()
        };
        match (host.as_str(), path.as_str()) {
            ("169.254.169.254", "/latest/api/token") => {
                let token = http::Response::builder()
                    .header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
                token.body(SdkBody::from("token")).unwrap()
            }
            ("169.254.169.254", path)
                if path.ends_with("/security-credentials/")
                    || path.ends_with("/security-credentials-extended/") =>
            {
                answer(200, "exporter".to_owned())
            }
            ("169.254.169.254", _) => {
                let (id, secret) = ("AKIAOWN", "own-secret");
                answer(
                    200,
                    format!(
                        r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"{id}","SecretAccessKey":"{secret}","Token":"t","LastUpdated":"{SOON}","Expiration":"{NEVER}"}}"#
                    ),
                )
            }
            (host, _) if host.starts_with("sts.") => {
                let body = request
                    .body()
                    .bytes()
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                    .unwrap_or_default();
                log.lock().unwrap().push(body);
                if !trusted {
                    let words = "User is not authorized to perform: sts:AssumeRole";
                    let error = format!(
                        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{words}</Message></Error></ErrorResponse>"
                    );
                    return answer(403, error);
                }
                answer(
                    200,
                    format!(
                        "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>A:tracelift</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/exports/tracelift</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>tokenofarole</SessionToken><Expiration>{expires}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
                    ),
                )
            }
            (host, _) => {
                let by = request.headers().get("authorization").unwrap().to_str().unwrap();
                assert!(by.contains("ASIAROLE"), "{host}: {by}");
                if path.ends_with("/echo") {
                    let token = request.headers().get("x-amz-security-token").unwrap();
                    let words = format!("{by} {}", token.to_str().unwrap());
                    return answer(
                        403,
                        format!(
                            "<Error><Code>AccessDenied</Code><Message>{words}</Message></Error>"
                        ),
                    );
                }
                answer(200, String::new())
            }
        }
    });
    (http, asked)
}

async fn put(store: &dyn ObjectStore) {
    store.put(&object(), Bytes::from_static(b"x"), false).await.unwrap();
}

fn object() -> NewObject {
    let (content_type, metadata) = ("application/octet-stream", HashMap::new());
    NewObject { key: "k".to_owned(), content_type, metadata }
}

async fn connect(http: SharedHttpConnector) -> Arc<dyn ObjectStore> {
    Connector::over(http, EndpointPolicy::default())
        .store(&bucket(), &role(), Duration::from_secs(5), 1)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_role_is_assumed_once_under_the_workspaces_external_id() {
    let (http, asked) = aws(NEVER, true);
    let client = connect(http).await;
    put(&*client).await;
    put(&*client).await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].contains("ExternalId=workspace-7") && asked[0].contains("role%2Fexports"),
        "{}",
        asked[0]
    );
}

#[tokio::test]
async fn a_roles_keys_are_renewed_before_they_expire() {
    let (http, asked) = aws(SOON, true);
    let client = connect(http).await;
    put(&*client).await;
    put(&*client).await;
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_role_that_does_not_trust_us_is_told_with_what_to_do() {
    let (http, _) = aws(NEVER, false);
    let error = check(&*connect(http).await, uuid::Uuid::nil()).await.unwrap_err();
    assert_eq!(error.fault, Fault::NoIdentity);
    insta::assert_snapshot!(error.to_string());
}

#[tokio::test]
async fn a_store_that_repeats_the_keys_of_a_role_is_not_shown_doing_so() {
    let (http, _) = aws(NEVER, true);
    let object = NewObject { key: "echo".to_owned(), ..object() };
    let refused = connect(http).await.put(&object, Bytes::from_static(b"x"), false).await;
    let words = refused.unwrap_err().words;
    assert!(words.contains("Credential=[access key id]/"), "{words}");
    assert!(words.ends_with(" [session token]"), "{words}");
}

/// Where a write is sent, for each setting of the bucket.
#[tokio::test]
async fn every_setting_of_the_client_shows_in_the_address() {
    let mut table = String::new();
    let aws = || BucketInput {
        bucket_name: "traces".into(),
        region: "us-east-1".into(),
        ..BucketInput::default()
    };
    let other = || BucketInput {
        endpoint_url: "https://store.example.com".into(),
        region: String::new(),
        ..aws()
    };
    let fast = ClientOptions { use_accelerate_endpoint: true, ..ClientOptions::default() };
    let east = |host| ClientOptions {
        us_east_1_regional_endpoint: Some(host),
        ..ClientOptions::default()
    };
    let unsigned =
        ClientOptions { payload_signing_enabled: Some(false), ..ClientOptions::default() };
    let inside = "https://traces.store.example.com".to_owned();
    let cases = [
        ("aws", aws()),
        ("aws, path", BucketInput { addressing: Addressing::Path, ..aws() }),
        ("aws, accelerated", BucketInput { client: fast, ..aws() }),
        ("aws, legacy us-east-1", BucketInput { client: east(UsEast1::Legacy), ..aws() }),
        ("aws, regional us-east-1", BucketInput { client: east(UsEast1::Regional), ..aws() }),
        (
            "aws, legacy elsewhere",
            BucketInput { client: east(UsEast1::Legacy), region: "eu-west-1".into(), ..aws() },
        ),
        ("aws, body not signed", BucketInput { client: unsigned, ..aws() }),
        ("other", other()),
        ("other, virtual", BucketInput { addressing: Addressing::Virtual, ..other() }),
        (
            "below a path",
            BucketInput { endpoint_url: "https://x.supabase.co/storage/v1/s3".into(), ..other() },
        ),
        (
            "below a path, virtual",
            BucketInput {
                endpoint_url: "https://x.supabase.co/storage/v1/s3".into(),
                addressing: Addressing::Virtual,
                ..other()
            },
        ),
        (
            "bucket in the endpoint",
            BucketInput { endpoint_url: inside, include_bucket_in_prefix: Some(false), ..other() },
        ),
    ];
    for (name, input) in cases {
        let seen = Arc::new(Mutex::new(String::new()));
        let log = seen.clone();
        let http = answers(move |request| {
            let header = |name| {
                request
                    .headers()
                    .get(name)
                    .map_or("none", |value| value.to_str().unwrap())
                    .chars()
                    .take(16)
                    .collect::<String>()
            };
            let checksum =
                header("x-amz-checksum-crc32") != "none" || header("x-amz-trailer") != "none";
            let signed = header("x-amz-content-sha256");
            *log.lock().unwrap() = format!("{} body {signed}, checksum {checksum}", request.uri());
            http::Response::builder().body(SdkBody::empty()).unwrap()
        });
        let bucket = input.check().unwrap();
        let secret_access_key = SecretString::from("s");
        let keys = Grant::Keys(Keys {
            access_key_id: "AKIA".to_owned(),
            secret_access_key,
            session_token: None,
        });
        let connector = Connector::over(http, EndpointPolicy::default());
        let store = connector.store(&bucket, &keys, Duration::from_secs(5), 1).await.unwrap();
        put(&*store).await;
        table += &format!("{name}: {}\n", seen.lock().unwrap());
    }
    insta::assert_snapshot!(table);
}
