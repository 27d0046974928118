//! Tenants that are suspended, resumed and deleted.

use tracelift_core::{export::ExportStatus, id::KeyId, schedule::Hours, time::Timestamp};
use uuid::Uuid;

use super::{
    ALL, Owner, act, at, claim, destination, export, make, owner, planned, sealed, tenant, view,
};
use crate::store::{
    ApiKey, Change, Due, ExportFilter, NewDestination, Permission, Store, StoreError, Tenant,
};

/// Schedule `n`, whose first windows are due at the time that is returned.
async fn schedule(store: &Store, owner: Owner, n: u128) -> Timestamp {
    let (mut made, _) = planned(owner, n, 1, 0);
    let (start, every) = (made.spec.window.start(), Hours::new("", 24).unwrap());
    (made.spec.every, made.spec.window) = (Some(every), every.window(start, 0).unwrap());
    made.status = ExportStatus::IntervalScheduled;
    make(store, made, Vec::new()).await;
    start.plus_seconds(2 * 86_400)
}

async fn key(store: &Store, owner: Owner) {
    let key = ApiKey {
        id: KeyId(Uuid::from_u128(5)),
        tenant: owner.tenant,
        display_name: "ci".into(),
        permission: Permission::Manage,
        created_at: at(1),
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    };
    assert!(store.create_key(act(), key, [5; 32]).await.unwrap());
}

pub(crate) async fn a_suspended_tenant_begins_nothing_until_it_is_resumed(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    key(store, mine).await;
    let due = Due { before: schedule(store, mine, 1).await, under_way: 0 };
    let id = export(store, mine, 2, 2).await;
    export(store, other, 3, 1).await;
    let mut changes = store.changes();
    let suspended = store.set_suspended(act(), mine.tenant, true, at(2)).await.unwrap();
    assert_eq!(suspended, Some(Tenant { suspended_at: Some(at(2)), ..tenant(1) }));
    while changes.recv().await.unwrap() != Change::Tenant(mine.tenant) {}
    assert!(store.key_by_hash([5; 32]).await.unwrap().unwrap().suspended);
    assert_eq!(store.due_schedules(due).await.unwrap(), []);
    let schedules = store.exports(mine.tenant, ExportFilter::default(), ALL).await.unwrap();
    let schedule = schedules.iter().find(|view| view.export.spec.every.is_some()).unwrap();
    assert_eq!(store.spawn(schedule.export.id, due, at(3)).await.unwrap(), 0);
    let claimed: Vec<_> = claim(store, "a", 9, 3).await.iter().map(|of| of.task.tenant).collect();
    assert_eq!(claimed, [other.tenant]);
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Created);

    let again = store.set_suspended(act(), mine.tenant, true, at(4)).await.unwrap().unwrap();
    assert_eq!(again.suspended_at, Some(at(2)), "the first time counts");
    let resumed = store.set_suspended(act(), mine.tenant, false, at(5)).await.unwrap();
    assert_eq!(resumed, Some(tenant(1)));
    assert_eq!(claim(store, "b", 9, 6).await.len(), 2);
    assert_eq!(store.spawn(schedule.export.id, due, at(6)).await.unwrap(), 2);
    let nobody = tracelift_core::id::TenantId(Uuid::from_u128(9));
    assert_eq!(store.set_suspended(act(), nobody, true, at(7)).await.unwrap(), None);
}

pub(crate) async fn of_a_deleted_tenant_everything_ends_and_its_id_is_not_used_again(
    store: &Store,
) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    key(store, mine).await;
    let due = Due { before: schedule(store, mine, 1).await, under_way: 0 };
    let id = export(store, mine, 2, 2).await;
    let theirs = export(store, other, 3, 1).await;
    let deleted = store.delete_tenant(act(), mine.tenant, at(5)).await.unwrap();
    assert_eq!(deleted, Some(Tenant { deleted_at: Some(at(5)), ..tenant(1) }));
    assert_eq!(store.key_by_hash([5; 32]).await.unwrap(), None);
    assert_eq!(store.all_sealed().await.unwrap(), [(other.tenant, other.destination, sealed(2))]);
    while store.end_next(at(6)).await.unwrap() {}
    let exports = store.exports(mine.tenant, ExportFilter::default(), ALL).await.unwrap();
    assert_eq!(exports.len(), 2);
    assert!(exports.iter().all(|view| view.export.status == ExportStatus::Cancelled));
    assert_eq!(store.due_schedules(due).await.unwrap(), []);
    assert_eq!(view(store, other, theirs).await.export.status, ExportStatus::Created);
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Cancelled);

    assert!(!store.has_tenant(mine.tenant).await.unwrap());
    let again = store.create_tenant(act(), tenant(1)).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    let resumed = store.set_suspended(act(), mine.tenant, false, at(7)).await.unwrap();
    assert_eq!(resumed, None, "it is for good");
    let twice = store.delete_tenant(act(), mine.tenant, at(8)).await.unwrap().unwrap();
    assert_eq!(twice.deleted_at, Some(at(5)));
}

pub(crate) async fn what_is_made_in_the_moment_of_a_deletion_ends_too(store: &Store) {
    let mine = owner(store, 1).await;
    store.delete_tenant(act(), mine.tenant, at(5)).await.unwrap();
    let late = Owner {
        destination: tracelift_core::id::DestinationId(Uuid::from_u128(0xd0_0000)),
        ..mine
    };
    let new = NewDestination::of(destination(late, 6), Some(sealed(7)));
    store.create_destination(act(), new).await.unwrap();
    let id = export(store, late, 1, 1).await;
    while store.end_next(at(7)).await.unwrap() {}
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Cancelled);
    assert_eq!(store.all_sealed().await.unwrap(), []);
}
