//! Wrong input: every wrong field is named, and nothing is stored.

use std::fmt::Write as _;

use tonic::{Code, Status};
use tracelift_control_plane::store::{ExportFilter, Page};
use tracelift_proto::{status::violations, v1};

use crate::plane::{plane, plane_with, spec};

/// The refusal's fields, a line each.
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    let lines = violations(&status).into_iter().fold(String::new(), |mut lines, fault| {
        let _ = writeln!(lines, "  {fault}");
        lines
    });
    assert!(!lines.is_empty(), "{status:?}");
    format!("{what}\n{lines}")
}

#[tokio::test]
async fn every_wrong_field_of_an_export_is_named() {
    let plane = plane_with(|settings| settings.max_export_days = 31).await;
    let mine = plane.workspace(1).await;
    let good = spec(&plane.destination(&mine).await.to_string(), "2024-01-01", "2024-01-02");
    let far = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let mut text = String::new();
    for (what, wrong) in [
        ("nothing", v1::ExportSpec::default()),
        (
            "end before start",
            v1::ExportSpec { start_time: good.end_time, end_time: good.start_time, ..good.clone() },
        ),
        ("a project and all experiments", v1::ExportSpec { all_experiments: true, ..good.clone() }),
        (
            "neither a project nor all experiments",
            v1::ExportSpec { session_id: String::new(), ..good.clone() },
        ),
        ("an empty range", v1::ExportSpec { end_time: good.start_time, ..good.clone() }),
        (
            "32 days, 31 are allowed",
            v1::ExportSpec {
                end_time: spec("", "2024-01-01", "2024-02-02").end_time,
                ..good.clone()
            },
        ),
        ("a time that is none", v1::ExportSpec { end_time: far, ..good.clone() }),
        (
            "all else",
            v1::ExportSpec {
                destination_id: "x".into(),
                session_id: "y".into(),
                compression: 77,
                format_version: 78,
                export_fields: vec!["id".into(), "colour".into()],
                ..good.clone()
            },
        ),
    ] {
        text += &refused(what, mine.create(wrong).await);
    }
    let nothing = mine.manage.exports().create_export(v1::CreateExportRequest::default()).await;
    text += &refused("no spec", nothing);
    insta::assert_snapshot!(text);
    assert!(
        plane
            .store
            .exports(mine.tenant, ExportFilter::default(), Page::ALL)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        mine.create(v1::ExportSpec {
            end_time: spec("", "2024-01-01", "2024-02-01").end_time,
            ..good
        })
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn every_wrong_field_of_a_destination_is_named() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let wrong = v1::CreateDestinationRequest {
        display_name: "a/b".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "a".into(),
            prefix: "x/../y".into(),
            region: "us east".into(),
            endpoint_url: "ftp://host".into(),
            include_bucket_in_prefix: Some(false),
            addressing_style: 0,
            s3_additional_kwargs: [("Colour".to_owned(), "red".to_owned())].into(),
            use_accelerate_endpoint: true,
            payload_signing_enabled: None,
            us_east_1_regional_endpoint: String::new(),
        }),
        credentials: Some(v1::Credentials {
            access_key_id: "with space".into(),
            secret_access_key: String::new(),
            session_token: "t".repeat(2049),
        }),
        aws_role_arn: String::new(),
        idempotency_key: "with space".into(),
    };
    let mut destinations = mine.manage.destinations();
    let mut text = refused("all", destinations.create_destination(wrong).await);
    text += &refused(
        "nothing",
        destinations.create_destination(v1::CreateDestinationRequest::default()).await,
    );
    let id = plane.destination(&mine).await.to_string();
    let update =
        v1::UpdateDestinationCredentialsRequest { id, credentials: None, ..Default::default() };
    text += &refused("no credentials", destinations.update_destination_credentials(update).await);
    insta::assert_snapshot!(text);
    assert_eq!(plane.store.destinations(mine.tenant).await.unwrap().len(), 1);
}

#[tokio::test]
async fn ids_pages_and_names_are_checked() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let (mut exports, mut destinations, mut admin) =
        (mine.read.exports(), mine.read.destinations(), plane.admin().admin());
    let no_id = || "me".to_owned();
    let mut text = refused("get", exports.get_export(v1::GetExportRequest { id: no_id() }).await);
    text += &refused("watch", exports.watch_export(v1::WatchExportRequest { id: no_id() }).await);
    text += &refused("cancel", mine.cancel("me").await);
    text += &refused(
        "list",
        exports.list_exports(v1::ListExportsRequest { limit: 1001, ..Default::default() }).await,
    );
    let tasks = |export_id, limit| v1::ListRunsRequest { export_id, limit, ..Default::default() };
    text += &refused("runs", exports.list_runs(tasks(no_id(), 0)).await);
    text += &refused("runs", exports.list_runs(tasks(crate::plane::UNKNOWN.into(), 1001)).await);
    let request = v1::GetRunRequest { export_id: crate::plane::UNKNOWN.into(), run_id: no_id() };
    text += &refused("run", exports.get_run(request).await);
    let request = v1::ListScheduleRunsRequest { source_export_id: no_id(), ..Default::default() };
    text += &refused("schedule", exports.list_schedule_runs(request).await);
    text += &refused(
        "destination",
        destinations.get_destination(v1::GetDestinationRequest { id: no_id() }).await,
    );
    let tenant = v1::CreateTenantRequest { id: no_id(), display_name: String::new() };
    text += &refused("tenant", admin.create_tenant(tenant).await);
    let key = v1::CreateApiKeyRequest {
        tenant_id: no_id(),
        display_name: "a\nb".into(),
        permission: 9,
        expires_at: None,
    };
    text += &refused("key", admin.create_api_key(key).await);
    text += &refused(
        "keys",
        admin
            .list_api_keys(v1::ListApiKeysRequest { tenant_id: no_id(), ..Default::default() })
            .await,
    );
    text += &refused("revoke", admin.revoke_api_key(v1::RevokeApiKeyRequest { id: no_id() }).await);
    insta::assert_snapshot!(text);
}
