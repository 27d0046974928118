//! Destinations: nothing is saved before the bucket has taken a probe, and a refusal says what to
//! do.

use std::{fmt::Write as _, sync::LazyLock};

use tokio::net::TcpListener;
use tonic::{Code, Status};
use tracelift_proto::v1;

use crate::{
    bucket::{Answer, Bucket, takes_everything},
    plane::{Workspace, plane, plane_with, shown},
};

const KEY_ID: &str = "AKIDVISIBLE";
const SECRET: &str = "wJalrXUtnFEMIK7MDENG";

fn request(endpoint: &str) -> v1::CreateDestinationRequest {
    v1::CreateDestinationRequest {
        display_name: "My S3 Destination".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "traces".into(),
            prefix: "root/a/".into(),
            endpoint_url: endpoint.into(),
            ..v1::BucketConfig::default()
        }),
        credentials: Some(credentials(SECRET)),
        ..Default::default()
    }
}

fn credentials(secret: &str) -> v1::Credentials {
    v1::Credentials {
        access_key_id: KEY_ID.into(),
        secret_access_key: secret.into(),
        session_token: String::new(),
    }
}

async fn create(owner: &Workspace, endpoint: &str) -> Result<v1::Destination, Status> {
    let created = owner.manage.destinations().create_destination(request(endpoint)).await?;
    Ok(created.into_inner().destination.unwrap())
}

static ENDLESS_ID: LazyLock<String> = LazyLock::new(|| {
    let id = "x".repeat(1 << 20);
    format!(
        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    )
});

/// Which fault, and how a bucket with it answers.
type Recorded = (&'static str, fn(&str) -> Answer);

/// As the providers send them; a hostile one repeats the key id.
const RECORDED: [Recorded; 13] = [
    ("no such bucket", |_| {
        (
            404,
            "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>",
        )
    }),
    ("access denied", |_| {
        (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
    }),
    ("unknown key id", |_| {
        (
            403,
            "<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist in our records.</Message><AWSAccessKeyId>AKIDVISIBLE</AWSAccessKeyId></Error>",
        )
    }),
    ("unknown key id, Garage", |_| {
        (
            403,
            "<Error><Code>AccessDenied</Code><Message>Forbidden: No such key: AKIDVISIBLE</Message></Error>",
        )
    }),
    ("wrong secret", |_| {
        (
            403,
            "<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match the signature you provided. Check your key and signing method.</Message><AWSAccessKeyId>AKIDVISIBLE</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256</StringToSign></Error>",
        )
    }),
    ("wrong region, 301", |_| {
        (
            301,
            "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be addressed using the specified endpoint.</Message></Error>",
        )
    }),
    ("wrong region, 400", |_| {
        (
            400,
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>",
        )
    }),
    ("a web page", |_| {
        (200, "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Hello</body></html>")
    }),
    ("nothing but 200", |_| (200, "")),
    ("a web server's 404", |_| (404, "<html><body>Not Found</body></html>")),
    ("no multipart uploads", |line| match line.split(' ').next() {
        Some("POST") => {
            (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        }
        _ => (200, ""),
    }),
    ("an upload id that no address can hold", |line| {
        if line.starts_with("POST") { (200, &ENDLESS_ID) } else { (200, "") }
    }),
    ("asks to slow down", |_| {
        (
            503,
            "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
        )
    }),
];

#[tokio::test]
async fn a_bucket_that_refuses_is_told_in_words_and_not_saved() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let mut text = String::new();
    for (what, answer) in RECORDED {
        let bucket = Bucket::answering(answer).await;
        let answer = create(&mine, &format!("http://{}", bucket.address)).await;
        let _ = writeln!(
            text,
            "{what}\n  {}",
            shown(answer).replace(&bucket.address.to_string(), "[bucket]")
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let answer = create(&mine, &format!("http://{nobody}")).await;
    let words = shown(answer).replace(&nobody.to_string(), "[bucket]");
    let _ = writeln!(text, "nobody listens\n  {words}");

    for secret in [KEY_ID, SECRET] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(plane.store.destinations(mine.tenant).await.unwrap().is_empty(), "nothing was saved");
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn an_endpoint_inside_the_operators_network_is_refused_unless_allowed() {
    let plane = plane_with(|settings| settings.endpoints.endpoints_allow.clear()).await;
    let mine = plane.workspace(1).await;
    let bucket = Bucket::good().await;
    let port = bucket.address.port();
    let mut text = String::new();
    for host in ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.7"] {
        let _ = writeln!(text, "{}", shown(create(&mine, &format!("http://{host}:{port}")).await));
    }
    insta::assert_snapshot!(text.replace(&format!(":{port}"), ":PORT"));
    assert!(bucket.asked().is_empty(), "it was never connected to");
    assert!(plane.store.destinations(mine.tenant).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bucket_that_takes_the_probe_is_saved_without_its_credentials() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let bucket = Bucket::good().await;
    let made = create(&mine, &format!("http://{}", bucket.address)).await.unwrap();
    assert_eq!(made.credentials_keys, ["access_key_id", "secret_access_key"]);
    assert_eq!(made.config.as_ref().unwrap().prefix, "root/a");
    let asked: Vec<_> = bucket
        .asked()
        .iter()
        .map(|line| line.split("/tmp/").map(str::to_owned).next().unwrap())
        .collect();
    let (put, post) = ("PUT /traces/root/a", "POST /traces/root/a");
    assert_eq!(
        asked,
        [put, post, put, post, "DELETE /traces/root/a"],
        "an object, the same in parts, and away with it"
    );
    let known = v1::StoreFeatures { checksums: true, conditional_writes: false, object_size: true };
    assert_eq!(made.features, Some(known), "it does not look at conditions");

    let mut destinations = mine.read.destinations();
    let got = destinations
        .get_destination(v1::GetDestinationRequest { id: made.id.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(got.destination.as_ref(), Some(&made));
    let listed = destinations
        .list_destinations(v1::ListDestinationsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .destinations;
    assert_eq!(listed, [made]);
    let shown = format!("{listed:?}");
    assert!(!shown.contains(KEY_ID) && !shown.contains(SECRET), "{shown}");
    let [(_, _, sealed)] = &plane.store.all_sealed().await.unwrap()[..] else {
        panic!("one destination")
    };
    assert!(!sealed.0.contains(KEY_ID) && !sealed.0.contains(SECRET));
}

#[tokio::test]
async fn a_repeated_request_makes_one_destination_and_asks_its_bucket_once() {
    let plane = plane().await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let bucket = Bucket::good().await;
    let endpoint = format!("http://{}", bucket.address);
    let ask = async |owner: &Workspace, idempotency_key: &str, secret: &str| {
        let request = v1::CreateDestinationRequest {
            credentials: Some(credentials(secret)),
            idempotency_key: idempotency_key.to_owned(),
            ..request(&endpoint)
        };
        owner
            .manage
            .destinations()
            .create_destination(request)
            .await
            .map(|made| made.into_inner().destination.unwrap())
    };
    let first = ask(&mine, "once", SECRET).await.unwrap();
    let asked = bucket.asked().len();
    plane.clock.advance(60);
    assert_eq!(ask(&mine, "once", SECRET).await.unwrap(), first);
    assert_eq!(bucket.asked().len(), asked, "the bucket was checked when it was saved");
    let refused = [ask(&mine, "once", "another").await, ask(&mine, "with space", SECRET).await];
    assert_eq!(refused[0].as_ref().unwrap_err().code(), Code::AlreadyExists);
    insta::assert_snapshot!(refused.map(shown).join("\n"));
    assert_eq!(plane.store.destinations(mine.tenant).await.unwrap().len(), 1);
    assert_ne!(
        ask(&mine, "", SECRET).await.unwrap().id,
        first.id,
        "without a key each request is its own"
    );
    assert_ne!(
        ask(&other, "once", SECRET).await.unwrap().id,
        first.id,
        "another workspace's keys are its own"
    );

    mine.manage
        .destinations()
        .delete_destination(v1::DeleteDestinationRequest { id: first.id.clone() })
        .await
        .unwrap();
    assert_ne!(
        ask(&mine, "once", SECRET).await.unwrap().id,
        first.id,
        "a deleted one frees its key"
    );
}

#[tokio::test]
async fn a_bucket_that_refuses_deletes_is_fine() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let bucket = Bucket::answering(|line| match line.split(' ').next() {
        Some("DELETE") => {
            (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        }
        _ => takes_everything(line),
    })
    .await;
    create(&mine, &format!("http://{}", bucket.address)).await.unwrap();
}

#[tokio::test]
async fn new_credentials_replace_the_old_only_when_the_bucket_takes_them() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let bucket = Bucket::good().await;
    let made = create(&mine, &format!("http://{}", bucket.address)).await.unwrap();
    let first = plane.store.all_sealed().await.unwrap();
    plane.clock.advance(60);
    let update = |secret| v1::UpdateDestinationCredentialsRequest {
        id: made.id.clone(),
        credentials: Some(credentials(secret)),
        ..Default::default()
    };
    let changed = mine
        .manage
        .destinations()
        .update_destination_credentials(update("another"))
        .await
        .unwrap()
        .into_inner();
    let changed = changed.destination.unwrap();
    assert_eq!((&changed.id, changed.created_at), (&made.id, made.created_at));
    assert_ne!(changed.updated_at, made.updated_at);
    let second = plane.store.all_sealed().await.unwrap();
    assert_ne!(second, first);

    drop(bucket);
    let refused = mine
        .manage
        .destinations()
        .update_destination_credentials(update("a-third"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(plane.store.all_sealed().await.unwrap(), second);
}
