//! Requests that are repeated under a key.

use futures::future::join_all;
use tracelift_core::{
    destination::Destination, export::Export, id::DestinationId, limit::Quota, task::Event,
};
use uuid::Uuid;

use super::{
    ALL, Owner, act, at, claim_one, complete, destination, owner, planned, report, sealed, view,
};
use crate::store::{
    CreateDestinationOutcome, CreateOutcome, Deletion, ExportFilter, ExportView, NewDestination,
    NewExport, RequestKey, Store,
};

/// Export `n`, made then, under a key that stands for `what`.
async fn asked(
    store: &Store,
    owner: Owner,
    n: u128,
    key: &str,
    what: u8,
    now: i64,
) -> (Export, CreateOutcome) {
    let (export, tasks) = planned(owner, n, 2, now);
    let request = Some(RequestKey { key: key.to_owned(), digests: vec![[what; 32]] });
    let made = store
        .create_export(act(), NewExport { request, ..NewExport::of(export.clone(), tasks) })
        .await
        .unwrap();
    (export, made)
}

pub(crate) async fn a_repeated_request_gets_the_same_answer_and_makes_nothing(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let (first, made) = asked(store, mine, 1, "once", 1, 10).await;
    let answer = Box::new(ExportView::planned(first.clone(), &planned(mine, 1, 2, 10).1));
    assert_eq!(made, CreateOutcome::Now(answer.clone()));
    let task = claim_one(store, "a", 11).await;
    store.cancel_export(act(), mine.tenant, first.id, at(12)).await.unwrap();
    assert_eq!(
        asked(store, mine, 2, "once", 1, 20).await.1,
        CreateOutcome::Before(answer),
        "whatever has become of it"
    );
    assert_eq!(asked(store, mine, 3, "once", 2, 20).await.1, CreateOutcome::OtherRequest);
    assert!(matches!(asked(store, mine, 4, "twice", 1, 20).await.1, CreateOutcome::Now(_)));
    assert!(
        matches!(asked(store, other, 5, "once", 2, 20).await.1, CreateOutcome::Now(_)),
        "another workspace's keys are its own"
    );
    assert_eq!(store.exports(mine.tenant, ExportFilter::default(), ALL).await.unwrap().len(), 2);
    assert_eq!(task.export, first.id);
}

pub(crate) async fn a_repeated_request_uses_up_no_quota(store: &Store) {
    let mine = owner(store, 1).await;
    let quota = Quota { exports_per_hour: 1, schedules: 0 };
    let ask = async |n| {
        let (export, tasks) = planned(mine, n, 1, 5);
        let request = Some(RequestKey { key: "k".to_owned(), digests: vec![[7; 32]] });
        store
            .create_export(act(), NewExport { request, quota, ..NewExport::of(export, tasks) })
            .await
            .unwrap()
    };
    assert!(matches!(ask(1).await, CreateOutcome::Now(_)));
    assert!(matches!(ask(2).await, CreateOutcome::Before(_)));
}

pub(crate) async fn a_key_is_kept_for_a_day(store: &Store) {
    let mine = owner(store, 1).await;
    let day = 86_400;
    asked(store, mine, 1, "once", 1, 0).await;
    store.forget_requests(at(day - 1)).await.unwrap();
    assert!(matches!(asked(store, mine, 2, "once", 1, day - 1).await.1, CreateOutcome::Before(_)));
    assert!(
        matches!(asked(store, mine, 3, "once", 2, day).await.1, CreateOutcome::Now(_)),
        "too old, though nobody has forgotten it"
    );
    store.forget_requests(at(2 * day)).await.unwrap();
    assert!(matches!(asked(store, mine, 4, "once", 3, 2 * day).await.1, CreateOutcome::Now(_)));
}

pub(crate) async fn of_requests_that_come_at_once_one_makes_an_export(store: &Store) {
    let mine = owner(store, 1).await;
    let made = join_all((1..=8).map(|n| asked(store, mine, n, "once", 1, 5))).await;
    let answers: Vec<_> = made
        .into_iter()
        .map(|(_, made)| match made {
            CreateOutcome::Now(view) | CreateOutcome::Before(view) => view.export.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(answers.iter().all(|id| *id == answers[0]), "{answers:?}");
    assert_eq!(store.exports(mine.tenant, ExportFilter::default(), ALL).await.unwrap().len(), 1);
}

pub(crate) async fn a_removed_export_takes_its_key_along(store: &Store) {
    let mine = owner(store, 1).await;
    let (first, _) = asked(store, mine, 1, "once", 1, 0).await;
    for now in [1, 3] {
        let task = claim_one(store, "a", now).await;
        complete(store, &task, 0, now + 1).await;
    }
    for (event, now) in [(Event::Published, 5), (Event::Counted { rows: 0 }, 7)] {
        let task = claim_one(store, "a", now).await;
        report(store, &task, event, now + 1).await;
    }
    assert!(view(store, mine, first.id).await.export.status.ended());
    assert_eq!(store.remove_ended(at(10)).await.unwrap(), 1);
    assert!(matches!(asked(store, mine, 2, "once", 2, 11).await.1, CreateOutcome::Now(_)));
}

/// Destination `n`, made then, under a key that stands for `what`.
async fn wished(
    store: &Store,
    owner: Owner,
    n: u128,
    key: &str,
    what: &[u8],
    now: i64,
) -> (Destination, CreateDestinationOutcome) {
    let made = destination(Owner { destination: DestinationId(Uuid::from_u128(n)), ..owner }, now);
    let request = Some(RequestKey {
        key: key.to_owned(),
        digests: what.iter().map(|what| [*what; 32]).collect(),
    });
    let new = NewDestination { request, ..NewDestination::of(made.clone(), Some(sealed(n))) };
    (made, store.create_destination(act(), new).await.unwrap())
}

pub(crate) async fn a_repeated_request_makes_one_destination(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let (first, made) = wished(store, mine, 1, "once", &[1], 10).await;
    let answer = Box::new(first.clone());
    assert_eq!(made, CreateDestinationOutcome::Now(answer.clone()));
    let before = CreateDestinationOutcome::Before(answer);
    assert_eq!(wished(store, mine, 2, "once", &[1], 20).await.1, before);
    assert_eq!(
        wished(store, mine, 3, "once", &[2, 1], 20).await.1,
        before,
        "any of the digests will do"
    );
    assert_eq!(
        wished(store, mine, 4, "once", &[2], 20).await.1,
        CreateDestinationOutcome::OtherRequest
    );
    let key = RequestKey { key: "once".to_owned(), digests: vec![[1; 32]] };
    assert_eq!(
        store.requested_destination(mine.tenant, key.clone(), at(20)).await.unwrap(),
        Some(before)
    );
    assert_eq!(
        store.requested_destination(other.tenant, key.clone(), at(20)).await.unwrap(),
        None,
        "another workspace's keys are its own"
    );
    assert!(
        matches!(asked(store, mine, 5, "once", 9, 20).await.1, CreateOutcome::Now(_)),
        "a key of exports is another"
    );
    assert_eq!(
        store.requested_destination(mine.tenant, key.clone(), at(10 + 86_400)).await.unwrap(),
        None,
        "too old"
    );
    assert_eq!(
        store.delete_destination(act(), mine.tenant, first.id, at(30)).await.unwrap(),
        Deletion::Done
    );
    assert_eq!(
        store.requested_destination(mine.tenant, key, at(40)).await.unwrap(),
        None,
        "a deleted one frees its key"
    );
    assert!(matches!(
        wished(store, mine, 6, "once", &[2], 40).await.1,
        CreateDestinationOutcome::Now(_)
    ));
    store.forget_requests(at(40 + 86_400)).await.unwrap();
    assert!(
        matches!(
            wished(store, mine, 7, "once", &[3], 41).await.1,
            CreateDestinationOutcome::Now(_)
        ),
        "forgotten"
    );
}

pub(crate) async fn of_requests_that_come_at_once_one_makes_a_destination(store: &Store) {
    let mine = owner(store, 1).await;
    let made = join_all((1..=8).map(|n| wished(store, mine, n, "once", &[1], 5))).await;
    assert_eq!(
        made.iter().filter(|(_, made)| matches!(made, CreateDestinationOutcome::Now(_))).count(),
        1
    );
    assert_eq!(store.destinations(mine.tenant).await.unwrap().len(), 2, "with the owner's own");
}
