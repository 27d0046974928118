//! The audit log over gRPC: who may read it, and what it says of calls.

use tonic::{Code, Status};
use tracelift_core::{
    audit::{Chained, Link, Verifier},
    id::TenantId,
};
use tracelift_proto::{fleet::v1 as fleet, v1};
use uuid::Uuid;

use crate::{
    bucket::Bucket,
    exporter::Exporter,
    plane::{Caller, FLEET, UNKNOWN, plane},
};

async fn list(
    caller: &Caller,
    request: v1::ListAuditRecordsRequest,
) -> Result<v1::ListAuditRecordsResponse, Status> {
    caller.admin().list_audit_records(request).await.map(tonic::Response::into_inner)
}

fn of(tenant: &str) -> v1::ListAuditRecordsRequest {
    v1::ListAuditRecordsRequest { tenant_id: tenant.to_owned(), ..Default::default() }
}

/// The newest record of an action.
async fn newest(caller: &Caller, tenant: &str, action: &str) -> v1::AuditRecord {
    let request = v1::ListAuditRecordsRequest { actions: vec![action.to_owned()], ..of(tenant) };
    list(caller, request).await.unwrap().records.remove(0)
}

#[tokio::test]
async fn a_record_says_who_did_what_by_which_request_and_from_where() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let caller = plane.caller(&[
        ("x-api-key", &format!("tl_{}", Uuid::from_u128(11))),
        ("x-request-id", "order-17"),
    ]);
    let export = mine.export(&plane, 1).await;
    let request = v1::CancelExportRequest { id: export.id.clone() };
    caller.exports().cancel_export(request).await.unwrap();
    let record = newest(&mine.admin, "", "cancel_bulk_export").await;
    assert_eq!((&*record.tenant_id, &record.object), (&*mine.tenant.to_string(), &export.id));
    assert_eq!((&*record.actor_kind, record.actor), ("api_key", Uuid::from_u128(11).to_string()));
    assert_eq!((&*record.request_id, &*record.peer_address), ("order-17", "127.0.0.1"));
    assert_eq!(record.refused, None);

    let _ = mine.export(&plane, 1).await;
    let task = Exporter::connect(&plane, "a", 1).await.assignment().await;
    let request = fleet::GetDestinationAccessRequest {
        task_id: task.task_id,
        fence: task.fence,
        exporter_id: "a".into(),
        incarnation: "first".into(),
    };
    plane.fleet().fleet().get_destination_access(request).await.unwrap();
    let read = newest(&mine.admin, "", "read_destination_credentials").await;
    assert_eq!((&*read.actor_kind, &*read.actor), ("exporter", "a"));

    let mut admin = plane.admin().admin();
    let new = v1::CreateTenantRequest { id: String::new(), display_name: "Acme".into() };
    let tenant = admin.create_tenant(new).await.unwrap().into_inner().tenant.unwrap();
    let made = newest(&plane.admin(), &tenant.id, "create_tenant").await;
    assert_eq!((&*made.actor_kind, &*made.actor), ("admin_token", "admin"));
}

#[tokio::test]
async fn only_who_may_administer_a_workspace_reads_its_records_and_the_operator_reads_all() {
    let plane = plane().await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let (own, foreign) = (mine.tenant.to_string(), other.tenant.to_string());
    let code = async |caller: &Caller, tenant: &str| {
        list(caller, of(tenant)).await.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code(&mine.admin, "").await, Code::Ok);
    assert_eq!(code(&mine.admin, &own).await, Code::Ok);
    assert_eq!(code(&mine.admin, &foreign).await, Code::PermissionDenied);
    assert_eq!(code(&mine.manage, &own).await, Code::PermissionDenied);
    assert_eq!(code(&mine.read, "").await, Code::PermissionDenied);
    assert_eq!(code(&plane.caller(&[]), &own).await, Code::Unauthenticated);
    let exporter = plane.caller(&[("authorization", &format!("Bearer {FLEET}"))]);
    assert_eq!(code(&exporter, &own).await, Code::Unauthenticated);
    for tenant in ["", &own, &foreign, UNKNOWN] {
        assert_eq!(code(&plane.admin(), tenant).await, Code::Ok);
    }
    assert_eq!(code(&plane.admin(), "x").await, Code::InvalidArgument);

    let records = list(&mine.admin, of("")).await.unwrap().records;
    assert!(!records.is_empty() && records.iter().all(|record| record.tenant_id == own));
    let mut calls = mine.admin.admin();
    let refused = calls.list_tenants(v1::ListTenantsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{}", refused.message());
}

#[tokio::test]
async fn pages_join_to_a_chain_that_is_verified() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    for _ in 0..3 {
        mine.export(&plane, 1).await;
    }
    let mut request = v1::ListAuditRecordsRequest { limit: 2, ..of("") };
    let first = list(&mine.admin, request.clone()).await.unwrap();
    let mut verifier = Verifier::new(Link::try_from(first.head.clone().unwrap()).unwrap());
    let (mut page, mut count) = (first, 0);
    let anchor = loop {
        assert!(page.records.len() <= 2);
        for record in page.records {
            verifier.check(Chained::try_from(record).unwrap()).unwrap();
            count += 1;
        }
        if page.next_page_token.is_empty() {
            break page.anchor.unwrap();
        }
        request.page_token = page.next_page_token;
        page = list(&mine.admin, request.clone()).await.unwrap();
    };
    assert_eq!(verifier.finish(anchor.try_into().unwrap()), Ok(count));
    assert_eq!(count, 4 + 2 * 3, "the workspace, its keys, destinations and exports");
}

#[tokio::test]
async fn refused_logins_are_recorded_once_a_minute_and_address() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let wrong = plane.caller(&[("x-api-key", "tl_wrong-key-of-somebody")]);
    for _ in 0..5 {
        let refused = wrong.exports().list_exports(v1::ListExportsRequest::default()).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    let records = list(&plane.admin(), of("")).await.unwrap().records;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((&*record.action, &*record.actor_kind), ("refuse_login", "anonymous"));
    assert_eq!(record.refused.as_deref(), Some("the API key is not valid"));
    assert_eq!((&*record.peer_address, &*record.object), ("127.0.0.1", ""));
    assert!(!format!("{records:?}").contains("wrong-key"));
    assert_eq!(mine.tenant, TenantId(Uuid::from_u128(1)));
}

#[tokio::test]
async fn a_refused_endpoint_is_recorded_without_what_it_answered() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let bucket = Bucket::answering(|_| {
        (403, "<Error><Code>AccessDenied</Code><Message>secret words</Message></Error>")
    })
    .await;
    let endpoint_url = format!("http://{}", bucket.address);
    let request = v1::CreateDestinationRequest {
        display_name: "bucket".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "traces".into(),
            endpoint_url: endpoint_url.clone(),
            ..Default::default()
        }),
        credentials: Some(v1::Credentials {
            access_key_id: "AKIDAUDIT".into(),
            secret_access_key: "secret-of-the-bucket".into(),
            session_token: String::new(),
        }),
        ..Default::default()
    };
    mine.manage.destinations().create_destination(request).await.unwrap_err();
    let record = newest(&mine.admin, "", "refuse_endpoint").await;
    assert_eq!(record.object, format!("{endpoint_url} traces"));
    assert_eq!(record.refused.as_deref(), Some("Access denied"));
    let everything = format!("{record:?}");
    assert!(!everything.contains("secret") && !everything.contains("AKIDAUDIT"), "{everything}");
}

#[tokio::test]
async fn wrong_fields_of_a_list_are_named() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let far = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    let wrong = v1::ListAuditRecordsRequest {
        start_time: Some(far),
        actions: vec!["a,b".into()],
        ..of("")
    };
    let words = list(&mine.admin, wrong).await.unwrap_err();
    assert!(words.message().contains("start_time: "), "{}", words.message());
    assert!(words.message().contains("actions: must be at most 100 names"), "{}", words.message());
    let token = v1::ListAuditRecordsRequest { page_token: "x".into(), ..of("") };
    assert_eq!(list(&mine.admin, token).await.unwrap_err().code(), Code::InvalidArgument);
}
