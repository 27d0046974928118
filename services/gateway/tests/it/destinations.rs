//! Operations 3, 4, 8, 9.

use tracelift_test_grpc::DESTINATION;

use crate::talk::{DESTINATIONS, world};

const GUIDE: &str = r#"{
"destination_type": "s3",
"display_name": "My S3 Destination",
"config": {
"bucket_name": "your-s3-bucket-name",
"prefix": "root_folder_prefix",
"region": "us-east-1",
"endpoint_url": "https://storage.googleapis.com"
},
"credentials": {
"access_key_id": "YOUR_S3_ACCESS_KEY_ID",
"secret_access_key": "YOUR_S3_SECRET_ACCESS_KEY"
}
}"#;

#[tokio::test]
async fn the_guides_destination_is_created_and_its_keys_are_only_named() {
    let world = world().await;
    let heard = world.ask("POST", DESTINATIONS, Some(GUIDE)).await;
    insta::assert_snapshot!(heard.shown());
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn every_choice_of_a_caller_reaches_the_control_plane() {
    let world = world().await;
    let body = GUIDE.replace(
        r#""region":"#,
        r#""include_bucket_in_prefix": true, "s3_additional_kwargs": {"StorageClass": "STANDARD_IA"}, "aws_role_arn": null,
           "config_kwargs_s3": {"addressing_style": "virtual", "use_accelerate_endpoint": false}, "region":"#,
    );
    let heard = world.ask("POST", DESTINATIONS, Some(&body)).await;
    assert_eq!(heard.status, 200, "{}", heard.body);
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn destinations_are_shown_and_listed() {
    let world = world().await;
    let one = world.ask("GET", &format!("{DESTINATIONS}/{DESTINATION}"), None).await;
    let all = world.ask("GET", DESTINATIONS, None).await;
    assert_eq!((one.status, all.status), (200, 200));
    assert_eq!(all.body, format!("[{}]", one.body));
}

#[tokio::test]
async fn credentials_can_be_replaced() {
    let world = world().await;
    let path = format!("{DESTINATIONS}/{DESTINATION}");
    let keys =
        r#"{"credentials": {"access_key_id": "AKIANEW", "secret_access_key": "new-secret"}}"#;
    assert_eq!(world.ask("PATCH", &path, Some(keys)).await.status, 200);
    let mut shown = Vec::new();
    for body in [
        "{}",
        r#"{"aws_role_arn": "arn:aws:iam::1:role/x"}"#,
        r#"{"credentials": {"access_key_id": ""}}"#,
    ] {
        shown.push(format!("{body}\n{}", world.ask("PATCH", &path, Some(body)).await.shown()));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
    assert_eq!(world.fake.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_about_credentials_repeats_no_value() {
    let world = world().await;
    let long = "hunter2".repeat(400);
    let wrong = [
        r#"["hunter2"]"#.to_owned(),
        r#""hunter2 with space""#.to_owned(),
        format!("\"{long}\""),
        r#"{"hunter2": 1}"#.to_owned(),
    ];
    for value in wrong {
        let body = GUIDE.replace("\"YOUR_S3_SECRET_ACCESS_KEY\"", &value);
        let heard = world.ask("POST", DESTINATIONS, Some(&body)).await;
        assert_eq!(heard.status, 422);
        assert!(
            heard.body.contains(r#"["body","credentials","secret_access_key"]"#),
            "{}",
            heard.body
        );
        assert!(!heard.body.contains("hunter2"), "{}", heard.body);
    }
    let broken = GUIDE.replace("\"YOUR_S3_SECRET_ACCESS_KEY\"", "\"hunter2");
    let heard = world.ask("POST", DESTINATIONS, Some(&broken)).await;
    assert!(heard.status == 422 && !heard.body.contains("hunter2"), "{}", heard.body);
}
