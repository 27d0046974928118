//! Who may do what.

use std::{fmt::Write as _, future::Future};

use tonic::Status;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tracelift_core::id::KeyId;
use tracelift_proto::{PROTOCOL, v1};
use uuid::Uuid;

use crate::{
    exporter,
    plane::{ADMIN, Caller, FLEET, SESSION, UNKNOWN, act, plane, plane_with, shown, spec},
};

/// A line per call.
#[derive(Default)]
struct Table(String);

impl Table {
    async fn note<T>(&mut self, what: &str, call: impl Future<Output = Result<T, Status>>) {
        let _ = writeln!(self.0, "{what}: {}", shown(call.await));
    }
}

async fn list(caller: Caller) -> Result<(), Status> {
    caller.exports().list_exports(v1::ListExportsRequest::default()).await.map(drop)
}

#[tokio::test]
async fn a_call_needs_a_good_key_of_its_workspace() {
    let plane = plane().await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let good = format!("tl_{}", KeyId(Uuid::from_u128(11)));
    let (own, foreign) = (mine.tenant.to_string(), other.tenant.to_string());
    let bearer = format!("Bearer {good}");
    let mut table = Table::default();
    for (what, headers) in [
        ("no key", &[][..]),
        ("an empty key", &[("x-api-key", "")]),
        ("a wrong key", &[("x-api-key", "tl_wrong")]),
        ("the admin token", &[("authorization", &format!("Bearer {ADMIN}"))]),
        ("basic auth", &[("authorization", "Basic dXNlcjpwYXNz")]),
        ("a good key", &[("x-api-key", &good)]),
        ("a good key as bearer", &[("authorization", &bearer)]),
        ("with its workspace", &[("x-api-key", &good), ("x-tenant-id", &own)]),
        ("with another workspace", &[("x-api-key", &good), ("x-tenant-id", &foreign)]),
        ("with no workspace's id", &[("x-api-key", &good), ("x-tenant-id", "me")]),
    ] {
        table.note(what, list(plane.caller(headers))).await;
    }
    plane
        .store
        .revoke_key(act(), None, KeyId(Uuid::from_u128(11)), tracelift_core::time::Timestamp::EPOCH)
        .await
        .unwrap();
    table.note("a revoked key", list(plane.caller(&[("x-api-key", &good)]))).await;
    insta::assert_snapshot!(table.0);
}

#[tokio::test]
async fn a_watch_ends_with_its_key() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let request = v1::WatchExportRequest { id: export.id.clone() };
    let mut watch = mine.read.exports().watch_export(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    for key in plane.store.keys(mine.tenant).await.unwrap() {
        let now = tracelift_core::time::Timestamp::EPOCH;
        plane.store.revoke_key(act(), None, key.id, now).await.unwrap();
    }
    let ended = loop {
        if let Err(ended) = watch.message().await {
            break ended;
        }
    };
    assert_eq!(ended.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn a_key_that_may_only_read_changes_nothing() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let destination = export.spec.as_ref().unwrap().destination_id.clone();
    let (mut exports, mut destinations) = (mine.read.exports(), mine.read.destinations());
    let mut table = Table::default();
    table.note("get", exports.get_export(v1::GetExportRequest { id: export.id.clone() })).await;
    table
        .note(
            "runs",
            exports.list_runs(v1::ListRunsRequest {
                export_id: export.id.clone(),
                ..Default::default()
            }),
        )
        .await;
    table
        .note(
            "create export",
            exports.create_export(v1::CreateExportRequest {
                spec: export.spec.clone(),
                ..Default::default()
            }),
        )
        .await;
    table.note("limits", exports.get_limits(v1::GetLimitsRequest {})).await;
    let request = v1::RetryRunRequest { export_id: export.id.clone(), run_id: UNKNOWN.to_owned() };
    table.note("retry", exports.retry_run(request)).await;
    table
        .note("cancel", exports.cancel_export(v1::CancelExportRequest { id: export.id.clone() }))
        .await;
    table
        .note(
            "destinations",
            destinations.list_destinations(v1::ListDestinationsRequest::default()),
        )
        .await;
    table
        .note(
            "create destination",
            destinations.create_destination(v1::CreateDestinationRequest::default()),
        )
        .await;
    let update = v1::UpdateDestinationCredentialsRequest {
        id: destination,
        credentials: None,
        ..Default::default()
    };
    table.note("replace credentials", destinations.update_destination_credentials(update)).await;
    insta::assert_snapshot!(table.0);
    assert_eq!(mine.get(&export.id).await, export);
}

#[tokio::test]
async fn what_belongs_to_another_workspace_does_not_exist() {
    let plane = plane().await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let export = mine.export(&plane, 1).await;
    let destination = export.spec.as_ref().unwrap().destination_id.clone();
    let task = mine.tasks(&export.id).await.remove(0);
    let (mut exports, mut destinations) = (other.manage.exports(), other.manage.destinations());
    let mut table = Table::default();
    for (whose, export, task, destination) in [
        ("another's", export.id.as_str(), task.id.as_str(), destination.as_str()),
        ("nobody's", UNKNOWN, UNKNOWN, UNKNOWN),
    ] {
        let id = || export.to_owned();
        table
            .note(&format!("{whose} export"), exports.get_export(v1::GetExportRequest { id: id() }))
            .await;
        table.note("  watched", exports.watch_export(v1::WatchExportRequest { id: id() })).await;
        table
            .note("  cancelled", exports.cancel_export(v1::CancelExportRequest { id: id() }))
            .await;
        table
            .note(
                "  its runs",
                exports.list_runs(v1::ListRunsRequest { export_id: id(), ..Default::default() }),
            )
            .await;
        let request = v1::GetRunRequest { export_id: id(), run_id: task.to_owned() };
        table.note("  its run", exports.get_run(request)).await;
        let request = v1::RetryRunRequest { export_id: id(), run_id: task.to_owned() };
        table.note("  its run anew", exports.retry_run(request)).await;
        let request = v1::ListScheduleRunsRequest { source_export_id: id(), ..Default::default() };
        table.note("  as a schedule", exports.list_schedule_runs(request)).await;
        table
            .note(
                "  to that destination",
                other.create(spec(destination, "2024-01-01", "2024-01-02")),
            )
            .await;
        let request = v1::GetDestinationRequest { id: destination.to_owned() };
        table.note("  destination", destinations.get_destination(request)).await;
        let credentials = Some(v1::Credentials {
            access_key_id: "a".into(),
            secret_access_key: "b".into(),
            ..Default::default()
        });
        let request = v1::UpdateDestinationCredentialsRequest {
            id: destination.to_owned(),
            credentials,
            ..Default::default()
        };
        table.note("  its credentials", destinations.update_destination_credentials(request)).await;
    }
    let names = [
        (export.id.as_str(), "[export]"),
        (task.id.as_str(), "[run]"),
        (destination.as_str(), "[destination]"),
        (UNKNOWN, "[?]"),
    ];
    insta::assert_snapshot!(names.iter().fold(table.0, |text, (id, name)| text.replace(id, name)));
    assert_eq!(mine.get(&export.id).await, export);
    assert!(
        exports
            .list_exports(v1::ListExportsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .exports
            .is_empty()
    );
}

#[tokio::test]
async fn admin_calls_need_the_admin_token_and_exporters_the_fleet_token() {
    let plane = plane().await;
    plane.workspace(1).await;
    let key = format!("tl_{}", KeyId(Uuid::from_u128(11)));
    let (admin, fleet, wrong) =
        (format!("Bearer {ADMIN}"), format!("bearer {FLEET}"), "Bearer wrong".to_owned());
    let mut table = Table::default();
    for (what, headers) in [
        ("nothing", &[][..]),
        ("a wrong token", &[("authorization", wrong.as_str())]),
        ("an API key", &[("x-api-key", &key)]),
        ("the admin token", &[("authorization", &admin)]),
        ("the fleet token", &[("authorization", &fleet)]),
    ] {
        let caller = plane.caller(headers);
        table
            .note(
                &format!("{what}, admin"),
                caller.admin().list_tenants(v1::ListTenantsRequest::default()),
            )
            .await;
        table.note("  fleet", caller.fleet().connect(tokio_stream::empty())).await;
        let request = tracelift_proto::fleet::v1::GetDestinationAccessRequest {
            task_id: SESSION.into(),
            fence: 1,
            exporter_id: "a".into(),
            incarnation: "first".into(),
        };
        table.note("  access", caller.fleet().get_destination_access(request)).await;
    }
    insta::assert_snapshot!(table.0);
}

#[tokio::test]
async fn without_an_admin_token_admin_calls_are_off() {
    let plane = plane_with(|settings| settings.admin_token = None).await;
    insta::assert_snapshot!(shown(
        plane.admin().admin().list_tenants(v1::ListTenantsRequest::default()).await
    ));
    assert!(exporter::Exporter::connect(&plane, "a", 1).await.welcome.protocol == *PROTOCOL.end());
}

#[tokio::test]
async fn a_key_made_by_the_admin_works_at_once_and_until_it_is_revoked() {
    let plane = plane().await;
    let mut admin = plane.admin().admin();
    let created = admin
        .create_tenant(v1::CreateTenantRequest { id: String::new(), display_name: "Acme".into() })
        .await
        .unwrap();
    let tenant = created.into_inner().tenant.unwrap();
    let request = v1::CreateApiKeyRequest {
        tenant_id: tenant.id.clone(),
        display_name: "ci".into(),
        permission: v1::Permission::Read.into(),
        expires_at: None,
    };
    let made = admin.create_api_key(request).await.unwrap().into_inner();
    assert!(made.key.starts_with("tl_") && made.key.len() > 40);
    let caller = plane.caller(&[("x-api-key", &made.key)]);
    list(caller.clone()).await.unwrap();

    let listed = admin
        .list_api_keys(v1::ListApiKeysRequest {
            tenant_id: tenant.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .api_keys;
    assert_eq!(listed, [made.api_key.clone().unwrap()], "without its secret");
    admin.revoke_api_key(v1::RevokeApiKeyRequest { id: listed[0].id.clone() }).await.unwrap();
    assert_eq!(list(caller).await.unwrap_err().code(), tonic::Code::Unauthenticated);

    let mut table = Table::default();
    let again = v1::CreateTenantRequest { id: tenant.id.clone(), display_name: "Acme".into() };
    table.note("the same tenant again", admin.create_tenant(again)).await;
    let nobody = v1::CreateApiKeyRequest {
        tenant_id: UNKNOWN.into(),
        display_name: "ci".into(),
        permission: 0,
        expires_at: None,
    };
    table.note("a key of no tenant", admin.create_api_key(nobody)).await;
    table
        .note(
            "revoking no key",
            admin.revoke_api_key(v1::RevokeApiKeyRequest { id: UNKNOWN.into() }),
        )
        .await;
    insta::assert_snapshot!(table.0.replace(&tenant.id, "[tenant]"));
}

#[tokio::test]
async fn health_and_reflection_are_open_to_everybody() {
    let plane = plane().await;
    let channel = plane.caller(&[]).channel;
    let health = HealthClient::new(channel.clone())
        .check(HealthCheckRequest { service: String::new() })
        .await
        .unwrap();
    assert_eq!(health.into_inner().status, 1, "serving");
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    insta::assert_snapshot!(names.join("\n"));
}
