//! Manifests: a run's is a pure function of its frozen file list, the export's of its runs;
//! `_SUCCESS` comes last.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tracelift_bucket::{SignedAsAsked as _, WriteArguments as _};
use tracelift_core::{
    export::{ExportSpec, Projects},
    failure::Step,
    file::{File, HydrationMiss, Totals},
    filter::Filter,
    id::RunId,
    layout::Layout,
    oversized::Oversized,
    plan::Partition,
    run::Identity,
    time::{Timestamp, Window},
};

use crate::{
    destination::Destination,
    job::{Frozen, Halt},
    schema,
    source::Slice,
};

/// A partition as the export's manifest lists it.
#[derive(Debug, Clone)]
pub(crate) struct PublishedRun {
    pub(crate) run: RunId,
    pub(crate) partition: Partition,
    pub(crate) totals: Totals,
    pub(crate) identity: Identity,
    /// When it was read, where the control plane knows.
    pub(crate) read_at: Option<Timestamp>,
}

/// When rows were first read, where the control plane knows, and whether that was before the end of
/// their window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Read {
    pub(crate) at: Option<Timestamp>,
    pub(crate) window_open: bool,
}

impl Read {
    /// Of one window.
    pub(crate) fn of(window: Window, at: Option<Timestamp>) -> Self {
        Self { at, window_open: at.is_some_and(|at| at < window.end()) }
    }
}

/// The manifest of one run.
pub(crate) fn run_manifest(
    layout: &Layout<'_>,
    run: RunId,
    slice: &Slice,
    frozen: &Frozen,
) -> Value {
    let Frozen { files, left_out, identity, read } = frozen;
    json!({
        "version": 1,
        "export_id": layout.export.to_string(),
        "run_id": run.to_string(),
        "tenant_id": layout.tenant.to_string(),
        "session_id": slice.session.to_string(),
        "start_time": time(slice.window.start()),
        "end_time": time(slice.window.end()),
        "read_at": read.at.map(time),
        "window_open": read.window_open,
        "filter": slice.filter.as_ref().map(Filter::text),
        "format_version": layout.version.as_str(),
        "schema_hash": schema::hash(&slice.columns, slice.version),
        "columns": slice.columns.names(),
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

/// The manifest of an export. `session_id` is null when it is of all experiments.
pub(crate) fn export_manifest(
    layout: &Layout<'_>,
    spec: &ExportSpec,
    runs: &[PublishedRun],
    read: Read,
) -> Value {
    let sum = runs.iter().fold(Totals::default(), |sum, run| sum.plus(run.totals));
    // The rule that held for all of them.
    let weak = runs.iter().any(|run| run.identity == Identity::IdAndStartTime);
    let identity = if weak { Identity::IdAndStartTime } else { Identity::Id };
    let runs = runs.iter().map(|published| {
        let read = Read::of(published.partition.window, published.read_at);
        json!({
            "run_id": published.run.to_string(),
            "session_id": published.partition.session.to_string(),
            "start_time": time(published.partition.window.start()),
            "end_time": time(published.partition.window.end()),
            "read_at": read.at.map(time),
            "window_open": read.window_open,
            "manifest": layout.run_manifest(published.run),
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
        "schema_hash": schema::hash(&spec.columns, spec.format_version),
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

/// By limit, how many values (for a row's limit: rows) a warehouse may refuse.
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

/// Writes a JSON document to a key.
pub(crate) async fn put(
    destination: &Destination,
    key: &str,
    document: &Value,
) -> Result<(), Halt> {
    let text = format!("{document:#}\n");
    write(destination, key, "application/json", text.into()).await
}

/// Writes the empty object that says: this export is complete.
pub(crate) async fn put_success(destination: &Destination, key: &str) -> Result<(), Halt> {
    write(destination, key, "application/octet-stream", Bytes::new()).await
}

/// Whoever writes it writes the same, so it may be written twice, and replaced.
async fn write(
    destination: &Destination,
    key: &str,
    content_type: &str,
    body: Bytes,
) -> Result<(), Halt> {
    let put = destination.call("PutObject", |client| {
        let bucket = client.bucket();
        let call = client
            .s3
            .put_object()
            .with_options_of(bucket)
            .bucket(&bucket.name)
            .key(key)
            .content_type(content_type);
        call.body(ByteStream::from(body.clone())).signed_as_asked(bucket).send()
    });
    put.await.map(drop).map_err(|error| error.at(Step::Publish))
}

#[cfg(test)]
mod tests {
    use tracelift_core::{
        column::Columns,
        export::{Compression, FormatVersion},
        file::{Cursor, LeftOut},
        id::{DestinationId, ExportId, SessionId, TenantId},
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
        };
        let slice = Slice {
            tenant: layout.tenant,
            session: SessionId(id(3)),
            window,
            of_export: window,
            columns: Columns::parse("f", &["id", "inputs"]).unwrap(),
            version: FormatVersion::V1,
            filter: Some(Filter::read("eq(name, \"x\")").unwrap()),
            cursor: None,
            narrow: 0,
        };
        let file = File {
            number: 0,
            key: layout.data_file(slice.partition(), RunId(id(4)), 0),
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
        let run = PublishedRun {
            run: RunId(id(4)),
            partition: slice.partition(),
            totals,
            identity: Identity::IdAndStartTime,
            read_at,
        };
        let read = Read::of(window, read_at);
        let frozen = Frozen { files: vec![file], left_out, identity: Identity::Id, read };
        let run_manifest = run_manifest(&layout, RunId(id(4)), &slice, &frozen);
        let spec = ExportSpec {
            destination: DestinationId(id(7)),
            projects: Projects::One(slice.session),
            window,
            every: None,
            compression: Compression::default(),
            format_version: FormatVersion::V1,
            columns: slice.columns.clone(),
            filter: slice.filter.clone(),
        };
        let of_one = export_manifest(&layout, &spec, std::slice::from_ref(&run), read);
        let late = PublishedRun { read_at: Some(window.end()), ..run };
        let of_all = export_manifest(
            &layout,
            &ExportSpec { projects: Projects::Experiments, ..spec },
            &[late],
            Read::default(),
        );
        insta::assert_snapshot!(format!("{run_manifest:#}\n{of_one:#}\n{of_all:#}"));
    }
}
