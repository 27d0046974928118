//! `tracelift export …`, `runs …`, `limits`

use std::process::ExitCode;

use tonic::{Response, Status};
use tracelift_core::export::{Compression, ExportStatus, FormatVersion};
use tracelift_proto::{pages, time_to, v1};
use uuid::Uuid;

use super::answer;
use crate::{
    args::{Export, ExportCreate, Global, Runs},
    connection::Connection,
    error::CliError,
    json, show, watch,
};

pub(super) async fn run(global: &Global, command: Export) -> Result<ExitCode, CliError> {
    let connection = Connection::tenant(global)?;
    match command {
        Export::Create(create) => start(global, &connection, create).await,
        Export::Watch { id } => watch::until_ended(&connection, &id.to_string(), global.json).await,
        Export::Get { id } => {
            let request = connection.call(v1::GetExportRequest { id: id.to_string() });
            let found = connection.exports().get_export(request).await;
            one(
                global,
                &connection,
                found.map_err(|status| connection.refused(status))?.into_inner().export,
            )
        }
        Export::Cancel { id } => {
            let request = connection.call(v1::CancelExportRequest { id: id.to_string() });
            let cancelled = connection.exports().cancel_export(request).await;
            one(
                global,
                &connection,
                cancelled.map_err(|status| connection.refused(status))?.into_inner().export,
            )
        }
        Export::List { limit, offset, statuses, destination, project } => {
            let known = |word: &String| {
                ExportStatus::parse("", word)
                    .ok()
                    .map(|status| v1::ExportStatus::from(status).into())
            };
            let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
            let request = v1::ListExportsRequest {
                offset,
                statuses: statuses.iter().filter_map(known).collect(),
                destination_id: id(destination),
                session_id: id(project),
                ..Default::default()
            };
            let found = pages::follow(limit, |limit, page_token| {
                let request = connection.call(v1::ListExportsRequest {
                    limit,
                    page_token,
                    ..request.clone()
                });
                let mut exports = connection.exports();
                async move { exports.list_exports(request).await.map(Response::into_inner) }
            });
            let found = found.await.map_err(|status| connection.refused(status))?;
            answer(
                global.json,
                || found.iter().map(json::export).collect(),
                || show::exports(&found),
            )
        }
        Export::ScheduleRuns { id } => {
            let source_export_id = id.to_string();
            let found = pages::follow(0, |limit, page_token| {
                let source_export_id = source_export_id.clone();
                let request = connection.call(v1::ListScheduleRunsRequest {
                    source_export_id,
                    limit,
                    offset: 0,
                    page_token,
                });
                let mut exports = connection.exports();
                async move { exports.list_schedule_runs(request).await.map(Response::into_inner) }
            });
            runs_of(global, &connection, found.await).await
        }
        Export::Runs { id } => {
            let export_id = id.to_string();
            let found = pages::follow(0, |limit, page_token| {
                let request = connection.call(v1::ListRunsRequest {
                    export_id: export_id.clone(),
                    limit,
                    offset: 0,
                    page_token,
                });
                let mut exports = connection.exports();
                async move { exports.list_runs(request).await.map(Response::into_inner) }
            });
            runs_of(global, &connection, found.await).await
        }
    }
}

/// Completes the file lists of runs: if a run has very many files, the control plane returns only
/// the first ones.
async fn runs_of(
    global: &Global,
    connection: &Connection,
    found: Result<Vec<v1::ExportRun>, Status>,
) -> Result<ExitCode, CliError> {
    let mut found = found.map_err(|status| connection.refused(status))?;
    for run in &mut found {
        let Some(result) = run
            .result
            .as_mut()
            .filter(|result| global.json && result.files as usize > result.exported_files.len())
        else {
            continue;
        };
        let request = v1::ListRunFilesRequest {
            export_id: run.export_id.clone(),
            run_id: run.id.clone(),
            ..Default::default()
        };
        let files = pages::follow(0, |_, page_token| {
            let request =
                connection.call(v1::ListRunFilesRequest { page_token, ..request.clone() });
            let mut exports = connection.exports();
            async move { exports.list_run_files(request).await.map(Response::into_inner) }
        });
        result.exported_files = files.await.map_err(|status| connection.refused(status))?;
    }
    answer(global.json, || found.iter().map(json::run).collect(), || show::runs(&found))
}

pub(super) async fn runs(global: &Global, command: Runs) -> Result<ExitCode, CliError> {
    let connection = Connection::tenant(global)?;
    let Runs::Retry { export, run } = command;
    let request = connection
        .call(v1::RetryRunRequest { export_id: export.to_string(), run_id: run.to_string() });
    let queued = connection.exports().retry_run(request).await;
    let queued = connection
        .present(queued.map_err(|status| connection.refused(status))?.into_inner().run)?;
    answer(global.json, || json::run(&queued), || show::runs(std::slice::from_ref(&queued)))
}

pub(super) async fn limits(global: &Global) -> Result<ExitCode, CliError> {
    let connection = Connection::tenant(global)?;
    let found = connection.exports().get_limits(connection.call(v1::GetLimitsRequest {})).await;
    let found = connection
        .present(found.map_err(|status| connection.refused(status))?.into_inner().limits)?;
    answer(global.json, || json::limits(&found), || show::limits(&found))
}

async fn start(
    global: &Global,
    connection: &Connection,
    create: ExportCreate,
) -> Result<ExitCode, CliError> {
    let (watched, idempotency_key) =
        (create.watch, create.idempotency_key.clone().unwrap_or_default());
    let request =
        connection.call(v1::CreateExportRequest { spec: Some(spec(create)), idempotency_key });
    let made = connection.exports().create_export(request).await;
    let made = connection
        .present(made.map_err(|status| connection.refused(status))?.into_inner().export)?;
    if !watched {
        return one(global, connection, Some(made));
    }
    if !global.json {
        super::print(&format!("export {}\n", made.id))?;
    }
    watch::until_ended(connection, &made.id, global.json).await
}

fn one(
    global: &Global,
    connection: &Connection,
    found: Option<v1::Export>,
) -> Result<ExitCode, CliError> {
    let found = connection.present(found)?;
    answer(global.json, || json::export(&found), || show::export(&found))
}

/// Converts the arguments; their values were validated when they were parsed.
fn spec(create: ExportCreate) -> v1::ExportSpec {
    let compression = create.compression.and_then(|word| Compression::parse("", &word).ok());
    let version = create
        .format_version
        .and_then(|word| FormatVersion::parse("", &word).ok())
        .unwrap_or_default();
    v1::ExportSpec {
        destination_id: create.destination.to_string(),
        session_id: create.project.map(|id| id.to_string()).unwrap_or_default(),
        all_experiments: create.all_experiments,
        start_time: Some(time_to(create.start)),
        end_time: create.end.map(time_to),
        interval_hours: create.every.unwrap_or_default(),
        compression: compression.map_or(v1::Compression::Unspecified, v1::Compression::from).into(),
        file_format: v1::FileFormat::Unspecified.into(),
        format_version: v1::FormatVersion::from(version).into(),
        export_fields: create.fields,
        filter: create.filter,
    }
}
