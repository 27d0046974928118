//! A checker that finds nothing is worth nothing: each fault is injected and must be found.

use serde_json::json;
use tracelift_proto::{time_to, v1};

use super::*;
use crate::source;

const KEY: &str = "chaos/export_id=e/x/r1-00000.parquet";

type Change = fn(&mut Found);

fn row(n: u8) -> (String, Row) {
    (
        format!("row-{n}"),
        Row { start_time: source::start().micros() + i64::from(n), hash: u64::from(n) },
    )
}

fn truth() -> Rows {
    (0..5).map(row).collect()
}

/// A complete export of rows 0, 1 and 2 in one file.
fn good() -> Found {
    let told = Listed { rows: 3, bytes: 7, etag: "e".to_owned(), sha256: "s".to_owned() };
    let (start, end) = (source::start(), source::start().micros() + 3);
    let end = tracelift_core::time::Timestamp::from_micros(end).unwrap();
    let spec = v1::ExportSpec {
        start_time: Some(time_to(start)),
        end_time: Some(time_to(end)),
        ..Default::default()
    };
    let result = v1::RunResult {
        exported_files: vec![format!("{DESTINATION_BUCKET}/{KEY}")],
        ..Default::default()
    };
    let run = ExportRun {
        id: "r1".to_owned(),
        status: RunStatus::Completed.into(),
        result: Some(result),
        ..Default::default()
    };
    let listed =
        json!({"files": [{"key": KEY, "rows": 3, "bytes": 7, "etag": "e", "sha256": "s"}]});
    Found {
        export: Export {
            id: "e".to_owned(),
            spec: Some(spec),
            status: ExportStatus::Completed.into(),
            ..Default::default()
        },
        runs: vec![run],
        files: BTreeMap::from([(KEY.to_owned(), told)]),
        rows: (0..3).map(row).map(|(id, row)| (id, vec![row])).collect(),
        manifests: BTreeMap::from([
            ("chaos/_manifests/export_id=e/run_id=r1.json".to_owned(), listed),
            (
                "chaos/_manifests/export_id=e/manifest.json".to_owned(),
                json!({"totals": {"rows": 3}}),
            ),
        ]),
        success: true,
        uploads: BTreeSet::new(),
    }
}

fn judged(change: impl FnOnce(&mut Found)) -> Report {
    let (mut found, mut report) = (good(), Report::default());
    change(&mut found);
    found.checker(&truth(), &mut report);
    report
}

fn counts(change: impl FnOnce(&mut Found)) -> (u64, u64, u64, usize) {
    let report = judged(change);
    assert_eq!(
        report.good(),
        (report.lost, report.doubled, report.wrong, report.leftovers.len()) == (0, 0, 0, 0)
    );
    (report.lost, report.doubled, report.wrong, report.leftovers.len())
}

#[test]
fn an_export_that_holds_its_rows_once_is_good() {
    assert_eq!(counts(|_| {}), (0, 0, 0, 0));
    assert_eq!(judged(|_| {}).rows, 3);
}

#[test]
fn rows_that_are_lost_doubled_changed_or_of_others_are_counted() {
    assert_eq!(counts(|found| drop(found.rows.remove("row-1"))), (1, 0, 0, 0));
    assert_eq!(counts(|found| found.rows.get_mut("row-1").unwrap().push(row(1).1)), (0, 1, 0, 0));
    assert_eq!(counts(|found| found.rows.get_mut("row-1").unwrap()[0].hash += 1), (0, 0, 1, 0));
    assert_eq!(
        counts(|found| drop(found.rows.insert("row-4".to_owned(), vec![row(4).1]))),
        (0, 0, 1, 0)
    );
}

#[test]
fn what_a_cancelled_export_lacks_is_not_lost_but_what_it_doubles_is_doubled() {
    let cancelled = |found: &mut Found| {
        found.export.set_status(ExportStatus::Cancelled);
        found.runs[0].set_status(RunStatus::Cancelled);
        found.success = false;
        found.rows.remove("row-1");
    };
    assert_eq!(counts(cancelled), (0, 0, 0, 0));
    assert_eq!(
        counts(|found| {
            cancelled(found);
            found.rows.get_mut("row-2").unwrap().push(row(2).1);
        }),
        (0, 1, 0, 0)
    );
    assert_eq!(
        counts(|found| {
            cancelled(found);
            found.success = true;
        }),
        (0, 0, 0, 1)
    );
}

#[test]
fn what_is_left_or_missing_in_the_bucket_is_named() {
    let faults: [(&str, Change); 9] = [
        ("open upload", |found| found.uploads.extend(["x".to_owned()])),
        ("pending upload", |found| {
            found.runs[0].result.as_mut().unwrap().pending_upload =
                Some(v1::PendingUpload::default())
        }),
        ("object that no run lists", |found| {
            found.runs[0].result.as_mut().unwrap().exported_files.clear()
        }),
        ("listed file that is not there", |found| {
            found.runs[0].result.as_mut().unwrap().exported_files.push("exports/y".to_owned())
        }),
        ("has no manifest", |found| found.manifests.retain(|key, _| !key.contains("run_id"))),
        ("does not say what is there", |found| found.files.get_mut(KEY).unwrap().bytes += 1),
        ("does not say what is there", |found| found.files.get_mut(KEY).unwrap().etag.push('x')),
        ("tells None rows of 3", |found| found.manifests.retain(|key, _| key.contains("run_id"))),
        ("_SUCCESS is missing", |found| found.success = false),
    ];
    for (words, fault) in faults {
        let report = judged(fault);
        assert!(
            report.leftovers.len() == 1 && report.leftovers[0].contains(words),
            "{words}: {:?}",
            report.leftovers
        );
    }
}
