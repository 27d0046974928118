//! Moved ids: ids that occur at several start times, because an SDK corrected its clock and
//! ingested a row again with another one. The start time is part of the table's key, so the engine
//! keeps both. In an export, each id counts once, where its newest version is.
//!
//! Hardly any project has such ids, and finding them requires looking at every id. So the result of
//! a search is remembered per export for a while, and only if there are any do the export's queries
//! select which rows count.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::OnceCell,
    time::{Duration, Instant},
};
use tracelift_core::{
    failure::Failure,
    id::{SessionId, TenantId},
    time::Window,
};

use super::{Slice, Source, failures::failure, query};

/// Whether ids have moved within, into or out of an export's window, by project and window.
#[derive(Debug, Default)]
pub(super) struct Moved(Mutex<HashMap<Of, (Instant, Answer)>>);

type Of = (TenantId, SessionId, Window);
type Answer = Arc<OnceCell<bool>>;

/// How long a result is valid: rows of a window that has ended seldom move.
const MEMORY: Duration = Duration::from_secs(600);
/// Ids examined per query, which holds each of them in the server's memory.
const IDS_AT_ONCE: u64 = 8_000_000;

impl Moved {
    /// Callers for the same export share one result.
    pub(super) async fn of(&self, source: &Source, slice: &Slice) -> Result<bool, Failure> {
        let answer = self.answer((slice.tenant, slice.session, slice.of_export));
        answer.get_or_try_init(|| ask(source, slice)).await.copied()
    }

    fn answer(&self, of: Of) -> Answer {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (asked, _)| asked.elapsed() < MEMORY);
        known.entry(of).or_insert_with(|| (Instant::now(), Answer::default())).1.clone()
    }
}

async fn ask(source: &Source, slice: &Slice) -> Result<bool, Failure> {
    let sizes = source
        .of_project(&query::sizes(&source.schema), slice, slice.of_export)
        .fetch_one::<(u64, u64)>()
        .await;
    let (of_project, of_window) = sizes.map_err(|error| failure(&error))?;
    let sql = query::moved(&source.schema, of_window >= of_project / 2);
    let shares = of_window.div_ceil(IDS_AT_ONCE);
    for share in 0..shares {
        let query = source
            .of_project(&sql, slice, slice.of_export)
            .param("shares", shares)
            .param("share", share);
        if query.fetch_one::<u64>().await.map_err(|error| failure(&error))? > 0 {
            tracing::info!(session = %slice.session, "ids stand at several start times; each counts where its newest version is");
            return Ok(true);
        }
    }
    Ok(false)
}
