//! API keys: when they expire, when they were used, and how one takes another's place.

use std::collections::BTreeMap;

use tracelift_core::{id::KeyId, time::Timestamp};
use uuid::Uuid;

use super::{Owner, act, at, owner};
use crate::store::{ApiKey, AuditFilter, NewKey, Permission, Rotated, Store};

fn id(n: u128) -> KeyId {
    KeyId(Uuid::from_u128(n))
}

fn key(owner: Owner, n: u128, expires_at: Option<Timestamp>) -> ApiKey {
    ApiKey {
        id: id(n),
        tenant: owner.tenant,
        display_name: "ci".into(),
        permission: Permission::Manage,
        created_at: at(1),
        revoked_at: None,
        expires_at,
        last_used_at: None,
    }
}

fn new(n: u8) -> NewKey {
    NewKey { id: id(n.into()), hash: [n; 32], expires_at: None }
}

pub(crate) async fn a_key_is_read_back_with_when_it_expires_and_was_last_used(store: &Store) {
    let mine = owner(store, 1).await;
    let made = key(mine, 5, Some(at(100)));
    assert!(store.create_key(act(), made.clone(), [5; 32]).await.unwrap());
    let read = async || store.key_by_id(id(5)).await.unwrap().unwrap().key;
    assert_eq!(read().await, made);
    let used = |seconds| BTreeMap::from([(id(5), at(seconds)), (id(6), at(seconds))]);
    store.keys_used(used(20)).await.unwrap();
    store.keys_used(used(10)).await.unwrap();
    assert_eq!(
        read().await,
        ApiKey { last_used_at: Some(at(20)), ..made.clone() },
        "the later one"
    );
    let known = store.key_by_hash([5; 32]).await.unwrap().unwrap();
    assert_eq!((known.key.id, known.suspended), (id(5), false));
    let nobody = Owner { tenant: tracelift_core::id::TenantId(Uuid::from_u128(9)), ..mine };
    assert!(!store.create_key(act(), key(nobody, 6, None), [6; 32]).await.unwrap());
}

pub(crate) async fn a_rotated_key_expires_after_the_overlap_and_the_new_one_may_do_the_same(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let made = key(mine, 5, None);
    store.create_key(act(), made.clone(), [5; 32]).await.unwrap();
    let whose = Some(mine.tenant);
    let rotated = store.rotate_key(act(), whose, id(5), new(6), at(50), at(10)).await.unwrap();
    let old = ApiKey { expires_at: Some(at(50)), ..made.clone() };
    let next = ApiKey { id: id(6), created_at: at(10), ..made };
    assert_eq!(rotated, Rotated::Done(Box::new((old.clone(), next.clone()))));
    assert_eq!(store.key_by_hash([6; 32]).await.unwrap().unwrap().key, next);
    assert_eq!(store.key_by_hash([5; 32]).await.unwrap().unwrap().key, old);
    let again = store.rotate_key(act(), whose, id(5), new(7), at(90), at(20)).await.unwrap();
    let Rotated::Done(keys) = again else { panic!("{again:?}") };
    assert_eq!(keys.0.expires_at, Some(at(50)), "never later than before");

    let page = store.audit_records(whose, AuditFilter::default(), 3).await.unwrap();
    let told: Vec<_> = page.records.iter().map(|of| of.record.action.as_str()).collect();
    assert_eq!(told, ["create_api_key", "rotate_api_key", "create_api_key"]);
}

pub(crate) async fn a_key_is_revoked_and_rotated_by_its_own_tenant_or_the_operator_only(
    store: &Store,
) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let made = key(mine, 5, None);
    store.create_key(act(), made.clone(), [5; 32]).await.unwrap();
    let theirs = Some(other.tenant);
    assert_eq!(store.revoke_key(act(), theirs, id(5), at(2)).await.unwrap(), None);
    let rotated = store.rotate_key(act(), theirs, id(5), new(6), at(9), at(2)).await.unwrap();
    assert_eq!(rotated, Rotated::Absent);
    assert_eq!(store.keys(mine.tenant).await.unwrap(), [made]);
    let own = store.revoke_key(act(), Some(mine.tenant), id(5), at(3)).await.unwrap().unwrap();
    assert_eq!(own.revoked_at, Some(at(3)));
    assert_eq!(store.key_by_id(id(5)).await.unwrap(), None);
}

pub(crate) async fn a_key_that_is_not_valid_is_not_rotated(store: &Store) {
    let mine = owner(store, 1).await;
    store.create_key(act(), key(mine, 5, Some(at(10))), [5; 32]).await.unwrap();
    store.create_key(act(), key(mine, 6, None), [6; 32]).await.unwrap();
    store.revoke_key(act(), None, id(6), at(2)).await.unwrap();
    for (old, next) in [(5, 7), (6, 8)] {
        let rotated = store.rotate_key(act(), None, id(old), new(next), at(99), at(10)).await;
        assert_eq!(rotated.unwrap(), Rotated::Invalid);
    }
    assert_eq!(store.keys(mine.tenant).await.unwrap().len(), 2);
}
