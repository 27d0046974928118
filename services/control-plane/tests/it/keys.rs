//! API keys over gRPC: by the admins of a workspace and by the operator, with an end and an overlap.

use tonic::{Code, Status};
use tracelift_proto::{time_to, v1};

use crate::plane::{Caller, Plane, plane, shown};

async fn list(plane: &Plane, key: &str) -> Result<(), Status> {
    let caller = plane.caller(&[("x-api-key", key)]);
    caller.exports().list_exports(v1::ListExportsRequest::default()).await.map(drop)
}

async fn create(
    caller: &Caller,
    request: v1::CreateApiKeyRequest,
) -> Result<v1::CreateApiKeyResponse, Status> {
    caller.admin().create_api_key(request).await.map(tonic::Response::into_inner)
}

fn named(name: &str) -> v1::CreateApiKeyRequest {
    v1::CreateApiKeyRequest { display_name: name.to_owned(), ..Default::default() }
}

async fn in_seconds(plane: &Plane, seconds: i64) -> Option<prost_types::Timestamp> {
    Some(time_to(plane.store.now().await.unwrap().plus_seconds(seconds)))
}

#[tokio::test]
async fn an_expired_key_is_refused_like_a_wrong_one_though_it_was_used_just_before() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let expires_at = in_seconds(&plane, 60).await;
    let made = create(&mine.admin, v1::CreateApiKeyRequest { expires_at, ..named("ci") }).await;
    let made = made.unwrap();
    assert_eq!(made.api_key.unwrap().expires_at, expires_at);
    list(&plane, &made.key).await.unwrap();
    plane.clock.advance(60);
    let expired = shown(list(&plane, &made.key).await);
    assert_eq!(expired, shown(list(&plane, "tl_wrong").await));
    let late = v1::CreateApiKeyRequest { expires_at, ..named("late") };
    let words = create(&mine.admin, late).await.unwrap_err();
    assert_eq!(words.message(), "expires_at: must be in the future");
}

#[tokio::test]
async fn a_rotated_key_works_beside_the_new_one_until_the_overlap_is_over() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let old = create(&mine.admin, named("ci")).await.unwrap();
    let id = old.api_key.unwrap().id;
    let request = v1::RotateApiKeyRequest { id, overlap_seconds: 300, expires_at: None };
    let rotated = mine.admin.admin().rotate_api_key(request.clone()).await.unwrap().into_inner();
    assert_eq!(rotated.previous.unwrap().expires_at, in_seconds(&plane, 300).await);
    assert_eq!(rotated.api_key.unwrap().display_name, "ci");
    list(&plane, &old.key).await.unwrap();
    list(&plane, &rotated.key).await.unwrap();
    plane.clock.advance(300);
    assert_eq!(list(&plane, &old.key).await.unwrap_err().code(), Code::Unauthenticated);
    list(&plane, &rotated.key).await.unwrap();
    let again = mine.admin.admin().rotate_api_key(request).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{}", again.message());
}

#[tokio::test]
async fn admins_of_a_workspace_manage_its_keys_and_no_others() {
    let plane = plane().await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let made = create(&mine.admin, named("mine")).await.unwrap().api_key.unwrap();
    assert_eq!(made.tenant_id, mine.tenant.to_string());
    let foreign =
        v1::CreateApiKeyRequest { tenant_id: other.tenant.to_string(), ..named("theirs") };
    let code =
        |answer: Result<_, Status>| answer.map_or_else(|status| status.code(), |()| Code::Ok);
    assert_eq!(code(create(&mine.admin, foreign).await.map(drop)), Code::PermissionDenied);
    assert_eq!(code(create(&mine.manage, named("no")).await.map(drop)), Code::PermissionDenied);
    let mut admin = mine.admin.admin();
    let listed = admin.list_api_keys(v1::ListApiKeysRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().api_keys.len(), 4);

    let revoke = v1::RevokeApiKeyRequest { id: made.id };
    let mut theirs = other.admin.admin();
    assert_eq!(code(theirs.revoke_api_key(revoke.clone()).await.map(drop)), Code::NotFound);
    let rotate = v1::RotateApiKeyRequest { id: revoke.id.clone(), ..Default::default() };
    assert_eq!(code(theirs.rotate_api_key(rotate).await.map(drop)), Code::NotFound);
    assert_eq!(code(admin.revoke_api_key(revoke).await.map(drop)), Code::Ok);
}
