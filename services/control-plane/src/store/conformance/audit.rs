//! The audit log.

use futures::future::join_all;
use tracelift_core::{
    audit::{Broken, Chain, Verifier},
    export::ExportStatus,
    id::{KeyId, TenantId},
    schedule::Hours,
    task::Event,
};
use uuid::Uuid;

use super::{
    Owner, at, claim_one, destination, export, make, owner, planned, report, sealed, tenant,
};
use crate::store::{
    Act, Action, ApiKey, AuditEntry, AuditFilter, AuditPage, CreateOutcome, Deletion, Due,
    NewDestination, NewExport, NewIdentity, Permission, RequestKey, Store, Who,
};

fn by(n: u128) -> Act {
    Act {
        who: Who::Key(KeyId(Uuid::from_u128(n))),
        request_id: format!("request-{n}"),
        address: "192.0.2.1".into(),
    }
}

fn key(owner: Owner, n: u128) -> ApiKey {
    ApiKey {
        id: KeyId(Uuid::from_u128(n)),
        tenant: owner.tenant,
        display_name: "ci".into(),
        permission: Permission::Admin,
        created_at: at(1),
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    }
}

async fn all(store: &Store, tenant: Option<TenantId>) -> AuditPage {
    store.audit_records(tenant, AuditFilter::default(), 1000).await.unwrap()
}

/// Of each record, oldest first: the action, its object and why it was refused.
async fn told(store: &Store, tenant: Option<TenantId>) -> Vec<(String, String, Option<String>)> {
    let page = all(store, tenant).await;
    let told = page.records.into_iter().rev().map(|of| of.record);
    told.map(|record| (record.action, record.object, record.refused)).collect()
}

fn verified(page: AuditPage) -> Result<u64, Broken> {
    let Chain { anchor, head } = page.chain;
    let mut verifier = Verifier::new(head);
    page.records.into_iter().try_for_each(|record| verifier.check(record))?;
    verifier.finish(anchor)
}

pub(crate) async fn every_act_leaves_one_record_of_who_did_what(store: &Store) {
    let mine = owner(store, 1).await;
    store.create_key(by(2), key(mine, 5), [1; 32]).await.unwrap();
    assert_eq!(store.keys(mine.tenant).await.unwrap(), [key(mine, 5)], "it may administer");
    store.revoke_key(by(2), None, KeyId(Uuid::from_u128(5)), at(2)).await.unwrap();
    let new = NewIdentity {
        identity: tracelift_core::destination::Identity::Keys,
        sealed: Some(sealed(3)),
        keys: Vec::new(),
    };
    store.replace_identity(by(3), mine.tenant, mine.destination, new, at(3)).await.unwrap();
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 4).await;
    let lease = task.lease().unwrap().clone();
    let exporter = Act { who: Who::Exporter(Some(lease.exporter.clone())), ..by(4) };
    store
        .access(exporter, (task.id, task.fence), lease.exporter, lease.incarnation, at(5))
        .await
        .unwrap();
    store.cancel_export(by(6), mine.tenant, id, at(6)).await.unwrap();
    let clean_up = claim_one(store, "a", 6).await;
    report(store, &clean_up, Event::CleanedUp { adopted: None }, 6).await;
    let gone = store.delete_destination(by(7), mine.tenant, mine.destination, at(7)).await;
    assert_eq!(gone.unwrap(), Deletion::Done);

    let (tenant, destination) = (mine.tenant.to_string(), mine.destination.to_string());
    let key = Uuid::from_u128(5).to_string();
    let expected = [
        ("create_tenant", &tenant),
        ("create_bulk_export_destination", &destination),
        ("create_api_key", &key),
        ("delete_api_key", &key),
        ("update_bulk_export_destination", &destination),
        ("create_bulk_export", &id.to_string()),
        ("read_destination_credentials", &destination),
        ("cancel_bulk_export", &id.to_string()),
        ("delete_bulk_export_destination", &destination),
    ];
    let expected = expected.map(|(action, object)| (action.to_owned(), object.clone(), None));
    assert_eq!(told(store, Some(mine.tenant)).await, expected);

    let records = all(store, Some(mine.tenant)).await.records;
    let of = |action: &str| {
        let found = records.iter().find(|of| of.record.action == action).unwrap();
        found.record.clone()
    };
    let deleted = of("delete_bulk_export_destination");
    assert_eq!((deleted.at, deleted.tenant), (at(7), Some(mine.tenant)));
    assert_eq!((&*deleted.actor_kind, deleted.actor), ("api_key", Uuid::from_u128(7).to_string()));
    assert_eq!((&*deleted.request_id, &*deleted.address), ("request-7", "192.0.2.1"));
    let read = of("read_destination_credentials");
    assert_eq!((&*read.actor_kind, &*read.actor), ("exporter", "a"));
}

pub(crate) async fn what_is_refused_is_recorded_with_the_reason(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = export(store, mine, 1, 1).await;
    let before = told(store, Some(mine.tenant)).await.len();
    let gone = store.delete_destination(by(1), mine.tenant, mine.destination, at(1)).await.unwrap();
    assert_eq!(gone, Deletion::InUse(id));
    assert_eq!(store.cancel_export(by(1), other.tenant, id, at(1)).await.unwrap(), None);
    let (export, tasks) = planned(Owner { destination: other.destination, ..mine }, 2, 1, 1);
    let new = NewExport::of(export, tasks);
    assert_eq!(store.create_export(by(1), new).await.unwrap(), CreateOutcome::NoDestination);

    let refused = told(store, Some(mine.tenant)).await.split_off(before);
    let reasons: Vec<_> =
        refused.iter().map(|(action, _, why)| (&**action, &**why.as_ref().unwrap())).collect();
    assert_eq!(
        reasons,
        [
            ("delete_bulk_export_destination", "an export uses the destination"),
            ("create_bulk_export", "the destination does not exist"),
        ]
    );
    let theirs = told(store, Some(other.tenant)).await.pop().unwrap();
    assert_eq!(
        theirs,
        ("cancel_bulk_export".into(), id.to_string(), Some("the export does not exist".into()))
    );

    let entry = AuditEntry {
        tenant: None,
        action: Action::RefuseLogin,
        object: String::new(),
        refused: Some("the API key is not valid".into()),
    };
    store.record(Act::by(Who::Anonymous), entry, at(9)).await.unwrap();
    let logins = all(store, None).await.records;
    assert_eq!((logins.len(), logins[0].record.tenant, logins[0].record.at), (1, None, at(9)));
}

pub(crate) async fn what_changes_nothing_leaves_no_record(store: &Store) {
    let mine = owner(store, 1).await;
    store.create_key(by(1), key(mine, 5), [1; 32]).await.unwrap();
    let (first, tasks) = planned(mine, 1, 1, 5);
    let request = Some(RequestKey { key: "once".into(), digests: vec![[1; 32]] });
    let new = NewExport { request, ..NewExport::of(first.clone(), tasks) };
    let id = KeyId(Uuid::from_u128(5));
    store.create_export(by(1), new.clone()).await.unwrap();
    store.cancel_export(by(1), mine.tenant, first.id, at(6)).await.unwrap();
    store.revoke_key(by(1), None, id, at(6)).await.unwrap();
    let before = told(store, Some(mine.tenant)).await;

    let again = store.create_export(by(1), new).await.unwrap();
    assert!(matches!(again, CreateOutcome::Before(_)), "{again:?}");
    let again = store.cancel_export(by(1), mine.tenant, first.id, at(7)).await.unwrap();
    assert_eq!(again.unwrap().export.status, ExportStatus::Cancelled);
    assert!(store.revoke_key(by(1), None, id, at(7)).await.unwrap().is_some());
    assert_eq!(
        store.revoke_key(by(1), None, KeyId(Uuid::from_u128(6)), at(7)).await.unwrap(),
        None
    );
    assert_eq!(told(store, Some(mine.tenant)).await, before);
}

pub(crate) async fn an_act_that_fails_leaves_no_record(store: &Store) {
    let mine = owner(store, 1).await;
    let before = told(store, Some(mine.tenant)).await;
    store.create_tenant(by(1), tenant(1)).await.unwrap_err();
    let twice = NewDestination::of(destination(mine, 0), Some(sealed(1)));
    store.create_destination(by(1), twice).await.unwrap_err();
    assert_eq!(told(store, Some(mine.tenant)).await, before);
    assert_eq!(verified(all(store, Some(mine.tenant)).await), Ok(2));
}

pub(crate) async fn chains_of_tenants_are_apart_and_each_is_verified(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    for n in 1..=3 {
        export(store, mine, n, 1).await;
    }
    for (whose, count) in [(Some(mine.tenant), 5), (Some(other.tenant), 2), (None, 0)] {
        let page = all(store, whose).await;
        assert!(page.records.iter().all(|of| of.record.tenant == whose));
        assert_eq!(verified(page), Ok(count));
    }
    let mut page = all(store, Some(mine.tenant)).await;
    page.records[1].record.object = "another".into();
    assert_eq!(verified(page), Err(Broken::Changed(4)));
}

pub(crate) async fn of_acts_at_once_each_has_a_number_of_its_own(store: &Store) {
    let owners = [owner(store, 1).await, owner(store, 2).await];
    let made = (0..12u128).map(|n| {
        let (export, tasks) = planned(owners[usize::from(n % 2 == 1)], n, 1, 5);
        store.create_export(by(n), NewExport::of(export, tasks))
    });
    for made in join_all(made).await {
        assert!(matches!(made.unwrap(), CreateOutcome::Now(_)));
    }
    for owner in owners {
        assert_eq!(verified(all(store, Some(owner.tenant)).await), Ok(2 + 6));
    }
}

pub(crate) async fn a_schedule_is_the_actor_of_what_it_spawns(store: &Store) {
    let mine = owner(store, 1).await;
    let (mut export, _) = planned(mine, 1, 1, 0);
    let (start, every) = (export.spec.window.start(), Hours::new("", 24).unwrap());
    (export.spec.every, export.spec.window) = (Some(every), every.window(start, 0).unwrap());
    export.status = ExportStatus::IntervalScheduled;
    let id = export.id;
    make(store, export, Vec::new()).await;
    let due = Due { before: start.plus_seconds(3 * 86_400), under_way: 0 };
    assert_eq!(store.spawn(id, due, at(1)).await.unwrap(), 3);
    assert_eq!(store.spawn(id, due, at(1)).await.unwrap(), 0);
    let page = all(store, Some(mine.tenant)).await;
    let spawned: Vec<_> =
        page.records.iter().filter(|of| of.record.action == "spawn_bulk_export").collect();
    assert_eq!(spawned.len(), 3);
    for of in spawned {
        assert_eq!((&*of.record.actor_kind, &of.record.actor), ("schedule", &id.to_string()));
        let spawned = of.record.object.parse().unwrap();
        let view = store.export(mine.tenant, spawned).await.unwrap().unwrap();
        assert_eq!(view.export.source, Some(id));
    }
    assert_eq!(verified(page), Ok(6));
}

pub(crate) async fn records_are_listed_by_time_and_action_in_pages_newest_first(store: &Store) {
    let mine = owner(store, 1).await;
    for n in 1..=4 {
        let (export, tasks) = planned(mine, n, 1, i64::try_from(n).unwrap() * 10);
        make(store, export, tasks).await;
    }
    let listed = async |wanted: AuditFilter, most| {
        let page = store.audit_records(Some(mine.tenant), wanted, most).await.unwrap();
        assert_eq!(page.chain.head.number, 6);
        page.records.into_iter().map(|of| of.record.number).collect::<Vec<_>>()
    };
    let everything = AuditFilter::default;
    assert_eq!(listed(everything(), 10).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(listed(everything(), 2).await, [6, 5]);
    assert_eq!(listed(AuditFilter { before: Some(5), ..everything() }, 2).await, [4, 3]);
    let within = AuditFilter { from: Some(at(10)), until: Some(at(20)), ..everything() };
    assert_eq!(listed(within, 10).await, [4, 3], "both ends count");
    let actions = |actions: &[&str]| AuditFilter {
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        ..everything()
    };
    assert_eq!(listed(actions(&["create_tenant"]), 10).await, [1]);
    assert_eq!(listed(actions(&["create_tenant", "create_bulk_export"]), 3).await, [6, 5, 4]);
    assert_eq!(listed(actions(&["create_bulk"]), 10).await, [0; 0], "only a whole name counts");
}

pub(crate) async fn old_records_are_removed_and_the_rest_is_still_verified(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    for n in 1..=4 {
        let (export, tasks) = planned(mine, n, 1, i64::try_from(n).unwrap() * 10);
        make(store, export, tasks).await;
    }
    let remove = async |limit| {
        let mut removed = 0;
        loop {
            match store.remove_records(at(limit)).await.unwrap() {
                0 => break removed,
                some => removed += some,
            }
        }
    };
    assert_eq!(remove(0).await, 0);
    assert_eq!(remove(20).await, 2 + 1 + 2, "and both of the other tenant");
    let page = all(store, Some(mine.tenant)).await;
    assert_eq!((page.chain.anchor.number, page.chain.head.number), (3, 6));
    assert_eq!(verified(page), Ok(3));
    assert_eq!(verified(all(store, Some(other.tenant)).await), Ok(0));

    let (export, tasks) = planned(other, 9, 1, 5);
    make(store, export, tasks).await;
    let page = all(store, Some(other.tenant)).await;
    assert_eq!((page.records[0].record.number, page.chain.anchor.number), (3, 2));
    assert_eq!(verified(page), Ok(1));
}
