//! Manifests. A partition's is a pure function of its frozen file list, an export's of its
//! partitions; `_SUCCESS` comes last.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tracelift_bucket::NewObject;
use tracelift_core::{
    assignment::{Frozen, PublishedPartition, ReadTime},
    export::{ExportSpec, Projects},
    failure::Step,
    file::{File, HydrationMiss, Totals},
    filter::Filter,
    id::TaskId,
    layout::Layout,
    oversized::Oversized,
    plan::Partition,
    task::Identity,
    time::Timestamp,
};

use crate::{destination::Destination, file_schema, lease::JobError};

/// The manifest of one partition.
pub(crate) fn run_manifest(
    layout: &Layout<'_>,
    task: TaskId,
    spec: &ExportSpec,
    frozen: &Frozen,
) -> Value {
    let Frozen { partition: Partition { session, window }, files, left_out, identity, .. } = frozen;
    let read = frozen.read();
    json!({
        "version": 1,
        "export_id": layout.export.to_string(),
        "run_id": task.to_string(),
        "tenant_id": layout.tenant.to_string(),
        "session_id": session.to_string(),
        "start_time": time(window.start()),
        "end_time": time(window.end()),
        "read_at": read.at.map(time),
        "window_open": read.window_open,
        "filter": spec.filter.as_ref().map(Filter::text),
        "format_version": layout.version.as_str(),
        "schema_hash": file_schema::hash(&spec.columns, spec.format_version),
        "columns": spec.columns.names(),
        "unique_by": identity.columns(),
        "totals": totals(Totals::of(files).plus(Totals::of_left_out(left_out))),
        "undecided_fields": misses(&left_out.named),
        "files": files.iter().map(file).collect::<Vec<_>>(),
    })
}

fn misses(misses: &[HydrationMiss]) -> Vec<Value> {
    misses.iter().map(|miss| json!({"id": miss.row_id.to_string(), "column": miss.column, "reason": miss.reason})).collect()
}

fn file(file: &File) -> Value {
    json!({
        "key": file.key,
        "rows": file.rows,
        "bytes": file.bytes,
        "etag": file.etag,
        "sha256": file.sha256,
        "min_start_time": time(file.min_start_time),
        "max_start_time": time(file.max_start_time),
        "hydrated_objects": file.hydrated_objects,
        "hydration_misses": file.hydration_misses,
        "misses": misses(&file.misses),
        "oversized_values": oversized(file.oversized),
    })
}

/// The manifest of an export. `session_id` is null for an export of all experiments.
pub(crate) fn export_manifest(
    layout: &Layout<'_>,
    spec: &ExportSpec,
    partitions: &[PublishedPartition],
    read: ReadTime,
) -> Value {
    let add = |sum: Totals, published: &PublishedPartition| sum.plus(published.totals);
    let sum = partitions.iter().fold(Totals::default(), add);
    // The identity that held for all partitions.
    let weak = partitions.iter().any(|found| found.identity == Identity::IdAndStartTime);
    let identity = if weak { Identity::IdAndStartTime } else { Identity::Id };
    let runs = partitions.iter().map(|published| {
        let read = ReadTime::of(published.partition.window, published.read_at);
        json!({
            "run_id": published.task.to_string(),
            "session_id": published.partition.session.to_string(),
            "start_time": time(published.partition.window.start()),
            "end_time": time(published.partition.window.end()),
            "read_at": read.at.map(time),
            "window_open": read.window_open,
            "manifest": layout.run_manifest(published.task),
            "totals": totals(published.totals),
        })
    });
    json!({
        "version": 1,
        "export_id": layout.export.to_string(),
        "tenant_id": layout.tenant.to_string(),
        "session_id": spec.projects.one().map(|session| session.to_string()),
        "all_experiments": spec.projects == Projects::Experiments,
        "start_time": time(spec.window.start()),
        "end_time": time(spec.window.end()),
        "read_at": read.at.map(time),
        "window_open": read.window_open,
        "filter": spec.filter.as_ref().map(Filter::text),
        "format_version": layout.version.as_str(),
        "schema_hash": file_schema::hash(&spec.columns, spec.format_version),
        "export_path": layout.export_path(spec.projects),
        "unique_by": identity.columns(),
        "totals": totals(sum),
        "runs": runs.collect::<Vec<_>>(),
    })
}

fn totals(totals: Totals) -> Value {
    json!({
        "files": totals.files,
        "rows": totals.rows,
        "bytes": totals.bytes,
        "undecided": totals.undecided,
        "decided_against": totals.decided_against,
        "hydration_misses": totals.hydration_misses,
        "oversized_values": oversized(totals.oversized),
    })
}

/// The number of values (or rows, for a limit on rows) over each warehouse limit.
fn oversized(oversized: Oversized) -> Value {
    oversized
        .named()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn time(time: Timestamp) -> String {
    time.to_string()
}

/// Writes a JSON document.
pub(crate) async fn put(
    destination: &Destination,
    key: &str,
    document: &Value,
) -> Result<(), JobError> {
    let text = format!("{document:#}\n");
    write(destination, key, "application/json", text.into()).await
}

/// Writes the empty object that marks the export as complete.
pub(crate) async fn put_success(destination: &Destination, key: &str) -> Result<(), JobError> {
    write(destination, key, "application/octet-stream", Bytes::new()).await
}

/// Every writer writes the same content, so the object may be written twice and replaced.
async fn write(
    destination: &Destination,
    key: &str,
    content_type: &'static str,
    body: Bytes,
) -> Result<(), JobError> {
    let object = NewObject { key: key.to_owned(), content_type, metadata: HashMap::new() };
    destination.put(&object, &body).await.map_err(|error| error.at(Step::Publish))
}

#[cfg(test)]
mod tests {
    use tracelift_core::{
        column::Columns,
        export::{Compression, FileFormat, FormatVersion},
        file::{Cursor, LeftOut},
        id::{DestinationId, ExportId, SessionId, TenantId},
        time::Window,
    };
    use uuid::Uuid;

    use super::*;

    #[test]
    fn manifests_name_every_file_with_what_it_holds() {
        let at = |text| Timestamp::parse("t", text).unwrap();
        let id = Uuid::from_u128;
        let window = Window::new(at("2024-01-01"), at("2024-01-02")).unwrap();
        let layout = Layout {
            prefix: "root",
            export: ExportId(id(1)),
            tenant: TenantId(id(2)),
            version: FormatVersion::V1,
            format: FileFormat::Parquet,
        };
        let partition = Partition { session: SessionId(id(3)), window };
        let spec = ExportSpec {
            destination: DestinationId(id(7)),
            projects: Projects::One(partition.session),
            window,
            every: None,
            compression: Compression::default(),
            format: FileFormat::Parquet,
            format_version: FormatVersion::V1,
            columns: Columns::parse("f", &["id", "inputs"]).unwrap(),
            filter: Some(Filter::read("eq(name, \"x\")").unwrap()),
        };
        let file = File {
            number: 0,
            key: layout.data_file(partition, TaskId(id(4)), 0),
            rows: 10,
            bytes: 1000,
            etag: "abc".into(),
            sha256: "00".repeat(32),
            min_start_time: window.start(),
            max_start_time: at("2024-01-01T23:59:59.999999Z"),
            cursor: Cursor { start_time: window.start(), id: id(5) },
            hydrated_objects: 9,
            hydration_misses: 1,
            misses: vec![HydrationMiss {
                row_id: id(6),
                column: "inputs".into(),
                reason: "the object does not exist".into(),
            }],
            oversized: Oversized::from_named([("redshift_varchar", 3)]),
            left_out: LeftOut::default(),
        };
        let named = vec![HydrationMiss {
            row_id: id(8),
            column: "extra".into(),
            reason: "the object does not exist".into(),
        }];
        let left_out = LeftOut { undecided: 1, decided_against: 2, named };
        let totals = Totals::of([&file]).plus(Totals::of_left_out(&left_out));
        let read_at = Some(at("2024-01-01T23:59:59.999999Z"));
        let published = PublishedPartition {
            task: TaskId(id(4)),
            partition,
            totals,
            identity: Identity::IdAndStartTime,
            read_at,
        };
        let files = vec![file];
        let frozen = Frozen { partition, files, left_out, identity: Identity::Id, read_at };
        let run_manifest = run_manifest(&layout, TaskId(id(4)), &spec, &frozen);
        let read = frozen.read();
        let of_one = export_manifest(&layout, &spec, std::slice::from_ref(&published), read);
        let late = PublishedPartition { read_at: Some(window.end()), ..published };
        let of_all = export_manifest(
            &layout,
            &ExportSpec { projects: Projects::Experiments, ..spec },
            &[late],
            ReadTime::default(),
        );
        insta::assert_snapshot!(format!("{run_manifest:#}\n{of_one:#}\n{of_all:#}"));
    }
}
