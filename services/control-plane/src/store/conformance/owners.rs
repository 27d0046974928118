//! Tenants, keys, destinations.

use tracelift_core::{
    destination::{Bucket, Identity, RoleArn, StoreFeatures},
    id::{DestinationId, KeyId},
    time::Timestamp,
};
use uuid::Uuid;

use super::{ALL, Owner, act, at, bucket, claim_one, destination, export, owner, planned, sealed};
use crate::store::{
    ApiKey, CreateOutcome, Deletion, NewDestination, NewExport, NewIdentity, Permission, Store,
    StoreError, Tenant,
};

fn key(owner: Owner, n: u128, created_at: Timestamp) -> ApiKey {
    let permission = Permission::Read;
    ApiKey {
        id: KeyId(Uuid::from_u128(n)),
        tenant: owner.tenant,
        display_name: "ci".into(),
        permission,
        created_at,
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    }
}

/// The key with this hash that was not revoked.
async fn valid(store: &Store, hash: u8) -> Option<ApiKey> {
    store.key_by_hash([hash; 32]).await.unwrap().map(|known| known.key)
}

pub(crate) async fn a_tenant_is_made_once(store: &Store) {
    let first = owner(store, 1).await;
    let second = Tenant::new(owner(store, 2).await.tenant, "tenant 2".into(), at(0));
    let again = Tenant { display_name: "another name".into(), created_at: at(9), ..second.clone() };
    match store.create_tenant(act(), again).await {
        Err(StoreError::Exists(what)) => assert_eq!(what, format!("tenant {}", second.id)),
        other => panic!("{other:?}"),
    }
    let third = Tenant::new(owner(store, 3).await.tenant, "tenant 3".into(), at(0));
    let tenants = store.tenants().await.unwrap();
    assert_eq!(tenants.len(), 3);
    assert!(tenants.contains(&second) && tenants.contains(&third));
    assert!(store.has_tenant(first.tenant).await.unwrap());
    assert!(!store.has_tenant(tracelift_core::id::TenantId(Uuid::from_u128(4))).await.unwrap());
}

pub(crate) async fn a_revoked_key_is_not_found_any_more(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let (old, new) = (key(mine, 1, at(1)), key(mine, 2, at(2)));
    store.create_key(act(), old.clone(), [1; 32]).await.unwrap();
    store.create_key(act(), new.clone(), [2; 32]).await.unwrap();
    assert_eq!(valid(store, 1).await, Some(old.clone()));
    assert_eq!(valid(store, 3).await, None);

    let revoked = ApiKey { revoked_at: Some(at(5)), ..old.clone() };
    assert_eq!(store.revoke_key(act(), None, old.id, at(5)).await.unwrap(), Some(revoked.clone()));
    assert_eq!(valid(store, 1).await, None);
    assert_eq!(
        store.revoke_key(act(), None, old.id, at(6)).await.unwrap(),
        Some(revoked.clone()),
        "the first time counts"
    );
    assert_eq!(
        store.revoke_key(act(), None, KeyId(Uuid::from_u128(9)), at(6)).await.unwrap(),
        None
    );
    assert_eq!(store.keys(mine.tenant).await.unwrap(), [new, revoked]);
    assert_eq!(store.keys(other.tenant).await.unwrap(), []);
}

pub(crate) async fn a_hash_is_stored_once(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    store.create_key(act(), key(mine, 1, at(1)), [1; 32]).await.unwrap();
    let twice = store.create_key(act(), key(other, 2, at(2)), [1; 32]).await;
    assert!(matches!(twice, Err(StoreError::Exists(_))), "{twice:?}");
    assert_eq!(valid(store, 1).await.unwrap().tenant, mine.tenant);
}

pub(crate) async fn another_tenants_destination_does_not_exist(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    assert_eq!(
        store.destination(mine.tenant, mine.destination).await.unwrap(),
        Some(destination(mine, 0))
    );
    assert_eq!(store.destination(other.tenant, mine.destination).await.unwrap(), None);
    assert_eq!(store.destinations(other.tenant).await.unwrap(), [destination(other, 0)]);
}

pub(crate) async fn destinations_come_newest_first(store: &Store) {
    let oldest = owner(store, 1).await;
    let [middle, newest] = [(50, 5), (40, 9)].map(|(id, created)| {
        let id = DestinationId(Uuid::from_u128(id));
        destination(Owner { destination: id, ..oldest }, created)
    });
    store
        .create_destination(act(), NewDestination::of(newest.clone(), Some(sealed(3))))
        .await
        .unwrap();
    store
        .create_destination(act(), NewDestination::of(middle.clone(), Some(sealed(2))))
        .await
        .unwrap();
    assert_eq!(
        store.destinations(oldest.tenant).await.unwrap(),
        [newest, middle, destination(oldest, 0)]
    );
}

pub(crate) async fn credentials_are_replaced_for_their_owner_only(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let names = vec![
        "access_key_id".to_owned(),
        "secret_access_key".to_owned(),
        "session_token".to_owned(),
    ];

    let theirs = store
        .replace_identity(
            act(),
            other.tenant,
            mine.destination,
            NewIdentity { identity: Identity::Keys, sealed: Some(sealed(8)), keys: names.clone() },
            at(7),
        )
        .await
        .unwrap();
    assert_eq!(theirs, None);
    assert_eq!(
        store.destination(mine.tenant, mine.destination).await.unwrap(),
        Some(destination(mine, 0))
    );
    assert!(store.all_sealed().await.unwrap().contains(&(
        mine.tenant,
        mine.destination,
        sealed(1)
    )));

    let changed = store.replace_identity(
        act(),
        mine.tenant,
        mine.destination,
        NewIdentity { identity: Identity::Keys, sealed: Some(sealed(9)), keys: names.clone() },
        at(7),
    );
    let changed = changed.await.unwrap().unwrap();
    assert_eq!(
        (changed.credentials_keys, changed.updated_at, changed.created_at),
        (names, at(7), at(0))
    );
    let mut all = store.all_sealed().await.unwrap();
    all.sort_by_key(|(tenant, ..)| *tenant);
    assert_eq!(
        all,
        [(mine.tenant, mine.destination, sealed(9)), (other.tenant, other.destination, sealed(2))]
    );
}

pub(crate) async fn what_a_store_knows_is_remembered_and_handed_to_exporters(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let few = StoreFeatures { checksums: false, conditional_writes: true, object_size: false };
    store
        .remember_features(
            other.tenant,
            mine.destination,
            StoreFeatures { conditional_writes: false, ..few },
        )
        .await
        .unwrap();
    assert_eq!(
        store.destination(mine.tenant, mine.destination).await.unwrap(),
        Some(destination(mine, 0)),
        "it is another's"
    );
    store.remember_features(mine.tenant, mine.destination, few).await.unwrap();
    assert_eq!(
        store.destination(mine.tenant, mine.destination).await.unwrap().unwrap().bucket,
        Bucket { features: few, ..bucket() }
    );
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 6).await;
    let lease = task.lease().unwrap().clone();
    let access = store
        .access(act(), (task.id, task.fence), lease.exporter, lease.incarnation, at(7))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(access.bucket.features, few);
}

pub(crate) async fn credentials_are_sealed_anew_only_if_they_are_unchanged(store: &Store) {
    let mine = owner(store, 1).await;
    store.reseal(mine.destination, sealed(7), sealed(8)).await.unwrap();
    assert_eq!(store.all_sealed().await.unwrap(), [(mine.tenant, mine.destination, sealed(1))]);
    store.reseal(mine.destination, sealed(1), sealed(8)).await.unwrap();
    assert_eq!(store.all_sealed().await.unwrap(), [(mine.tenant, mine.destination, sealed(8))]);
}

pub(crate) async fn a_role_takes_the_place_of_keys_and_the_other_way_round(store: &Store) {
    let mine = owner(store, 1).await;
    let role = Identity::Role(
        RoleArn::parse("aws_role_arn", "arn:aws:iam::123456789012:role/exports").unwrap(),
    );
    let changed = store
        .replace_identity(
            act(),
            mine.tenant,
            mine.destination,
            NewIdentity { identity: role.clone(), sealed: None, keys: Vec::new() },
            at(5),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!((changed.identity, changed.credentials_keys), (role.clone(), Vec::new()));
    assert_eq!(store.all_sealed().await.unwrap(), []);
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 6).await;
    let lease = task.lease().unwrap().clone();
    let access = store
        .access(act(), (task.id, task.fence), lease.exporter, lease.incarnation, at(7))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((access.identity, access.sealed), (role, None));
    store
        .replace_identity(
            act(),
            mine.tenant,
            mine.destination,
            NewIdentity { identity: Identity::Keys, sealed: Some(sealed(4)), keys: Vec::new() },
            at(7),
        )
        .await
        .unwrap();
    assert_eq!(store.all_sealed().await.unwrap(), [(mine.tenant, mine.destination, sealed(4))]);
}

pub(crate) async fn a_destination_in_use_is_not_deleted(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = export(store, mine, 1, 1).await;
    assert_eq!(
        store.delete_destination(act(), other.tenant, mine.destination, at(2)).await.unwrap(),
        Deletion::Absent
    );
    assert_eq!(
        store.delete_destination(act(), mine.tenant, mine.destination, at(2)).await.unwrap(),
        Deletion::InUse(id)
    );
    store.cancel_export(act(), mine.tenant, id, at(3)).await.unwrap();
    assert_eq!(
        store.delete_destination(act(), mine.tenant, mine.destination, at(4)).await.unwrap(),
        Deletion::Done
    );
    assert_eq!(
        store.delete_destination(act(), mine.tenant, mine.destination, at(5)).await.unwrap(),
        Deletion::Absent
    );
}

pub(crate) async fn a_deleted_destination_keeps_no_credentials_and_its_exports_are_still_shown(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    store.cancel_export(act(), mine.tenant, id, at(3)).await.unwrap();
    store.delete_destination(act(), mine.tenant, mine.destination, at(4)).await.unwrap();
    assert_eq!(store.all_sealed().await.unwrap(), []);
    assert_eq!(store.destinations(mine.tenant).await.unwrap(), []);
    assert_eq!(store.destination(mine.tenant, mine.destination).await.unwrap(), None);
    assert_eq!(store.tasks(mine.tenant, id, ALL).await.unwrap().unwrap().len(), 1);
    let (again, tasks) = planned(mine, 2, 1, 5);
    assert_eq!(
        store.create_export(act(), NewExport::of(again, tasks)).await.unwrap(),
        CreateOutcome::NoDestination
    );
}
