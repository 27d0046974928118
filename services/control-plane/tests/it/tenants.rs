//! Workspaces over gRPC: suspended, resumed, deleted.

use tonic::Code;
use tracelift_proto::v1;

use crate::plane::{Workspace, plane, shown, soon};

async fn watched(mine: &Workspace, id: &str) -> tonic::Streaming<v1::WatchExportResponse> {
    let request = v1::WatchExportRequest { id: id.to_owned() };
    let mut watch = mine.read.exports().watch_export(request).await.unwrap().into_inner();
    soon(watch.message()).await.unwrap().unwrap();
    watch
}

#[tokio::test]
async fn a_suspended_workspace_is_refused_with_the_reason_and_its_watches_end() {
    let plane = plane().await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let export = mine.export(&plane, 1).await;
    let theirs_export = other.export(&plane, 1).await;
    let (mut watch, mut theirs) =
        (watched(&mine, &export.id).await, watched(&other, &theirs_export.id).await);
    let mut admin = plane.admin().admin();
    let id = mine.tenant.to_string();
    let request = v1::SuspendTenantRequest { id: id.clone() };
    let suspended = admin.suspend_tenant(request).await.unwrap().into_inner().tenant.unwrap();
    assert!(suspended.suspended_at.is_some());
    let words = "the workspace is suspended; ask the operator of this service";
    let ended = loop {
        match soon(watch.message()).await {
            Ok(Some(_)) => {}
            ended => break ended.unwrap_err(),
        }
    };
    assert_eq!((ended.code(), ended.message()), (Code::PermissionDenied, words));
    let request = v1::GetExportRequest { id: export.id.clone() };
    let refused = mine.read.exports().get_export(request).await;
    assert_eq!(shown(refused), format!("PermissionDenied: {words}"));
    let request = v1::ListAuditRecordsRequest::default();
    let refused = mine.admin.admin().list_audit_records(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    admin.resume_tenant(v1::ResumeTenantRequest { id }).await.unwrap();
    assert_eq!(mine.get(&export.id).await.id, export.id);
    other.cancel(&theirs_export.id).await.unwrap();
    while let Some(told) = soon(theirs.message()).await.unwrap() {
        assert_eq!(told.export.unwrap().id, theirs_export.id, "another's watch goes on to its end");
    }
}

#[tokio::test]
async fn a_deleted_workspace_is_gone_for_good() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut watch = watched(&mine, &export.id).await;
    let mut admin = plane.admin().admin();
    let id = mine.tenant.to_string();
    let request = v1::DeleteTenantRequest { id: id.clone() };
    let mut own = mine.admin.admin();
    assert_eq!(
        own.delete_tenant(request.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let deleted = admin.delete_tenant(request).await.unwrap().into_inner().tenant.unwrap();
    assert!(deleted.deleted_at.is_some());
    while let Ok(Some(_)) = soon(watch.message()).await {}
    let request = v1::GetExportRequest { id: export.id.clone() };
    let refused = mine.read.exports().get_export(request).await;
    assert_eq!(shown(refused), "Unauthenticated: the API key is not valid");
    let view = plane.store.export(mine.tenant, export.id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(view.export.status.as_str(), "Cancelled");
    assert_eq!(plane.store.all_sealed().await.unwrap(), []);

    let again = v1::CreateTenantRequest { id: id.clone(), display_name: "again".into() };
    assert_eq!(admin.create_tenant(again).await.unwrap_err().code(), Code::AlreadyExists);
    let key = v1::CreateApiKeyRequest {
        tenant_id: id,
        display_name: "late".into(),
        ..Default::default()
    };
    assert_eq!(admin.create_api_key(key).await.unwrap_err().code(), Code::NotFound);
}
