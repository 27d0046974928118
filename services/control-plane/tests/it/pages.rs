//! Lists that are larger than what a client with gRPC's defaults takes.

use tracelift_control_plane::store::ClaimRequest;
use tracelift_core::{
    file::{Cursor, File},
    id::ExporterId,
    limit::AtOnce,
    oversized::Oversized,
    task::{Event, Lease},
};
use tracelift_proto::{pages, v1};
use tracelift_runtime::clock::Clock as _;
use uuid::Uuid;

use crate::plane::{plane, shown, spec};

#[tokio::test]
async fn exports_come_in_pages_that_a_default_client_takes() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let once = spec(&plane.destination(&mine).await.to_string(), "2024-01-01", "2024-01-02");
    let filter = format!("eq(name, '{}')", "x".repeat(32_000));
    for _ in 0..150 {
        mine.create(v1::ExportSpec { filter: filter.clone(), ..once.clone() }).await.unwrap();
    }
    let (mut pages, mut exports) = (0, mine.read.exports());
    let all = pages::follow(1000, |limit, page_token| {
        pages += 1;
        let (request, mut exports) =
            (v1::ListExportsRequest { limit, page_token, ..Default::default() }, exports.clone());
        async move { exports.list_exports(request).await.map(tonic::Response::into_inner) }
    });
    let all = all.await.unwrap();
    let mut ids: Vec<_> = all.iter().map(|export| export.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), all.len(), pages), (150, 150, 2));

    let page = exports
        .list_exports(v1::ListExportsRequest { limit: 10, offset: 5, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.exports, all[5..15]);
    let request = v1::ListExportsRequest {
        limit: 10,
        offset: 5,
        page_token: page.next_page_token,
        ..Default::default()
    };
    assert_eq!(
        exports.list_exports(request).await.unwrap().into_inner().exports,
        all[15..25],
        "the offset is in the token"
    );
}

#[tokio::test]
async fn a_run_of_very_many_files_fits_and_all_of_them_can_be_listed() {
    const FILES: u32 = 6000;
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let now = plane.clock.now();
    let exporter = ExporterId::parse("e", "a").unwrap();
    let lease = Lease {
        exporter,
        incarnation: "first".into(),
        until: now.plus_seconds(30),
        progressed_at: now,
        patience: 600,
        asked_back: None,
    };
    let given = plane
        .store
        .claim(vec![ClaimRequest { lease, capacity: 1 }], AtOnce::default(), now)
        .await
        .unwrap()
        .remove(0);
    let task = &given.tasks[0].task;
    let key = |number: u32| format!("{}{number:05}", "k".repeat(195));
    for number in 0..FILES {
        let file = File {
            number,
            key: key(number),
            rows: 1,
            bytes: 1,
            etag: "e".into(),
            sha256: "00".repeat(32),
            min_start_time: now,
            max_start_time: now,
            cursor: Cursor { start_time: now, id: Uuid::nil() },
            hydrated_objects: 0,
            hydration_misses: 0,
            misses: Vec::new(),
            oversized: Oversized::default(),
            left_out: tracelift_core::file::LeftOut::default(),
        };
        plane.store.report(None, task.id, task.fence, Event::FileDone(file), 0, now).await.unwrap();
    }
    let shown = mine.tasks(&export.id).await.remove(0).result.unwrap();
    assert_eq!(shown.files, FILES);
    assert!(
        (1000..FILES as usize).contains(&shown.exported_files.len()),
        "{}",
        shown.exported_files.len()
    );

    let files = pages::follow(0, |_, page_token| {
        let (export_id, run_id, mut exports) =
            (export.id.clone(), task.id.to_string(), mine.read.exports());
        let request = v1::ListRunFilesRequest { export_id, run_id, limit: 0, page_token };
        async move { exports.list_run_files(request).await.map(tonic::Response::into_inner) }
    });
    let files = files.await.unwrap();
    assert!(
        files.iter().zip(0..).all(|(file, number)| file.ends_with(&format!("/{}", key(number))))
    );
    assert_eq!(files.len(), FILES as usize);
    assert!(files.starts_with(&shown.exported_files));
}

#[tokio::test]
async fn nonsense_for_a_token_is_refused_by_its_name() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export_id = mine.export(&plane, 2).await.id;
    let page = mine
        .read
        .exports()
        .list_runs(v1::ListRunsRequest {
            export_id: export_id.clone(),
            limit: 1,
            ..Default::default()
        })
        .await;
    let of_runs = page.unwrap().into_inner().next_page_token;
    let mut refused = Vec::new();
    for page_token in ["nonsense".to_owned(), of_runs] {
        let request =
            v1::ListExportsRequest { page_token: page_token.clone(), ..Default::default() };
        refused.push(shown(mine.read.exports().list_exports(request).await));
        let request = v1::ListDestinationsRequest { page_token, ..Default::default() };
        refused.push(shown(mine.read.destinations().list_destinations(request).await));
    }
    insta::assert_snapshot!(refused.join("\n"));
    let request = v1::ListRunFilesRequest {
        export_id,
        run_id: Uuid::nil().to_string(),
        ..Default::default()
    };
    assert_eq!(
        mine.read.exports().list_run_files(request).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
}
