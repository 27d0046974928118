//! Follows an export until it has ended. A broken stream is reopened a limited number of times.

mod view;

use std::{process::ExitCode, time::Duration};

use tonic::Status;
use tracelift_core::export::ExportStatus;
use tracelift_proto::v1;
use view::View;

use crate::{
    connection::Connection,
    error::{CliError, is_broken},
};

/// How many consecutive streams may bring nothing: about 40 s in all.
const FRUITLESS: u32 = 8;
/// The exit code that shells use for Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Shows every change until the export has ended, or until Ctrl-C.
pub(crate) async fn until_ended(
    connection: &Connection,
    id: &str,
    json: bool,
) -> Result<ExitCode, CliError> {
    let mut view = View::new(json);
    let ended = tokio::select! {
        ended = follow(connection, id, &mut view) => ended,
        _ = tokio::signal::ctrl_c() => {
            view.clear();
            eprintln!("Stopped watching; the export goes on.");
            eprintln!("  watch it again:  tracelift export watch {id}");
            eprintln!("  stop it:         tracelift export cancel {id}");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    view.clear();
    let ended = ended?;
    view.end(&ended)?;
    Ok(exit_code(ended.status().known()))
}

async fn follow(
    connection: &Connection,
    id: &str,
    view: &mut View,
) -> Result<v1::Export, CliError> {
    let mut fruitless = 0;
    loop {
        let before = view.changes();
        let broken = match stream(connection, id, view).await {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {
                connection.refused(Status::unavailable("the stream ended before the export did"))
            }
            Err(error) => error,
        };
        fruitless = if view.changes() > before { 0 } else { fruitless + 1 };
        let may_pass = matches!(&broken, CliError::Refused { status, .. } if is_broken(status));
        if !may_pass || view.changes() == 0 || fruitless > FRUITLESS {
            return Err(broken);
        }
        view.note("the connection broke, trying again");
        tokio::time::sleep(pause(fruitless)).await;
    }
}

/// Reads one stream to its end. Returns the export if it has ended.
async fn stream(
    connection: &Connection,
    id: &str,
    view: &mut View,
) -> Result<Option<v1::Export>, CliError> {
    let request = connection.stream(v1::WatchExportRequest { id: id.to_owned() });
    let changes = connection.exports().watch_export(request).await;
    let mut changes = changes.map_err(|status| connection.refused(status))?.into_inner();
    while let Some(change) = changes.message().await.map_err(|status| connection.refused(status))? {
        let export = connection.present(change.export)?;
        if view.changes() == 0 && export.status() == v1::ExportStatus::IntervalScheduled {
            view.note(
                "this is a schedule: it goes on until it is cancelled, Ctrl-C stops watching",
            );
        }
        view.change(&export)?;
        if export.status().known().is_some_and(ExportStatus::ended) {
            return Ok(Some(export));
        }
    }
    Ok(None)
}

/// A quarter of a second, doubled each time, at most 8 s.
fn pause(fruitless: u32) -> Duration {
    Duration::from_millis(250 << fruitless.min(5))
}

fn exit_code(status: Option<ExportStatus>) -> ExitCode {
    match status {
        Some(ExportStatus::Completed) => ExitCode::SUCCESS,
        Some(ExportStatus::Cancelled) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_eight_seconds() {
        let pauses: Vec<_> =
            (0..=FRUITLESS).map(|fruitless| pause(fruitless).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]);
    }
}
