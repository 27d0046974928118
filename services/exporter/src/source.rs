//! Trace rows out of ClickHouse: one slice as a stream of Arrow batches, in order, from a cursor on.
//!
//! A stream that ends without Arrow's end marker was cut, whatever the transport says, and is never taken for its end.

mod answer;
mod extent;
mod feedback;
pub(crate) mod filter;
pub(crate) mod query;
mod stream;
mod text;
mod versions;

use clickhouse::{Client, Compression};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use tracelift_core::{
    column::{Column, Columns},
    export::FormatVersion,
    failure::{Failure, FailureClass, Step},
    file::Cursor,
    filter::Filter,
    id::{SessionId, TenantId},
    plan::{Experiment, MAX_PARTITIONS, Partition},
    run::NARROWEST,
    time::{Timestamp, Window},
};
use tracelift_runtime::secret::SecretError;
use uuid::Uuid;

use answer::Answer;
pub(crate) use extent::Extent;
use extent::Stretch;
use feedback::LookUp;
use filter::Pushed;
use stream::Question;
pub(crate) use stream::{Rows, place};
use versions::Versions;

use crate::settings::{ClickHouse, Limits};

/// The trace store.
#[derive(Clone)]
pub(crate) struct Source {
    client: Client,
    table: String,
    feedbacks: String,
    batch_bytes: u64,
}

/// Which rows.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) window: Window,
    pub(crate) columns: Columns,
    pub(crate) version: FormatVersion,
    /// Only rows that match.
    pub(crate) filter: Option<Filter>,
    /// Only rows behind this one.
    pub(crate) cursor: Option<Cursor>,
    /// How often the answer broke off lately, at most [`NARROWEST`]: the higher, the fewer rows are asked for at once.
    pub(crate) narrow: u32,
}

impl Slice {
    /// The partition that it is of.
    pub(crate) fn partition(&self) -> Partition {
        Partition { session: self.session, window: self.window }
    }
}

/// Rows of feedback in a block of an answer: few, because a row can be wide; more gain little.
const FEEDBACK_BLOCK_ROWS: u64 = 16;
/// Where feedback is exported, the batch that is looked up, its feedback and the batch that is read meanwhile share the bytes
/// of one batch, so that a run holds no more than another one.
const FEEDBACK_SHARES: u64 = 3;
/// Longest wait for an answer to a kill.
const KILL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// Seconds for which the server waits while the exporter is held up by its destination.
const SEND_TIMEOUT: &str = "600";

impl Source {
    pub(crate) fn new(client: Client, settings: &ClickHouse, limits: &Limits) -> Result<Self, SecretError> {
        let mut client = client
            .with_url(&settings.clickhouse_url)
            .with_user(&settings.clickhouse_user)
            .with_database(&settings.clickhouse_database)
            .with_compression(Compression::None)
            .with_product_info("tracelift", env!("CARGO_PKG_VERSION"));
        if let Some(password) = settings.password()? {
            client = client.with_password(password.expose_secret());
        }
        let client = client
            .with_setting("output_format_arrow_compression_method", settings.clickhouse_compression.as_str())
            .with_setting("output_format_arrow_string_as_string", "0")
            .with_setting("output_format_arrow_low_cardinality_as_dictionary", "0")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("optimize_read_in_order", "1");
        Ok(Self {
            client,
            table: settings.runs_table.clone(),
            feedbacks: settings.feedbacks_table.clone(),
            batch_bytes: limits.batch_bytes,
        })
    }

    /// The rows of a slice, with their feedback where it is exported, until it ends or `drain` is cancelled. `query_id` names
    /// the query, for [`Source::kill`].
    pub(crate) fn rows(&self, slice: &Slice, extent: &Extent, query_id: &str, drain: CancellationToken) -> Result<Rows, Failure> {
        let looks_up = slice.columns.contains(Column::Feedbacks);
        let batch_bytes = if looks_up { self.batch_bytes / FEEDBACK_SHARES } else { self.batch_bytes };
        let block_rows = narrowed(extent.block_rows(batch_bytes), slice.narrow);
        let feedback = looks_up.then(|| LookUp::new(self.clone(), slice, query_id, batch_bytes));
        let question = Question { source: self.clone(), slice: slice.clone(), query_id: query_id.to_owned(), block_rows };
        Rows::new(question, extent.versions, feedback, drain)
    }

    /// The rows of a slice without their feedback.
    fn table(&self, slice: &Slice, versions: Versions, query_id: &str, block_rows: u64) -> Result<Answer, Failure> {
        let pushed = self.pushed(slice);
        let sql = query::rows(&self.table, &slice.columns, slice.version, versions, slice.cursor.is_some(), pushed.as_ref());
        let query = self
            .behind(sql, slice)
            .with_setting("query_id", query_id)
            .with_setting("max_block_size", block_rows.to_string())
            .with_setting("http_send_timeout", SEND_TIMEOUT);
        query.fetch_bytes("ArrowStream").map(Answer::new).map_err(|error| failure(&error))
    }

    /// The feedback on some rows of a slice, in the order of `ids`.
    fn feedback(&self, slice: &Slice, ids: &[&str], query_id: &str) -> Result<Answer, Failure> {
        let query = self.client.query_raw(&query::feedback(&self.feedbacks));
        let query = query
            .param("tenant", slice.tenant.to_string())
            .param("session", slice.session.to_string())
            .param("ids", ids)
            .with_setting("query_id", query_id)
            .with_setting("max_block_size", FEEDBACK_BLOCK_ROWS.to_string())
            .with_setting("http_send_timeout", SEND_TIMEOUT);
        query.fetch_bytes("ArrowStream").map(Answer::new).map_err(|error| failure(&error))
    }

    /// What there is to read in a slice. A row that cannot be measured may be one that cannot be read: it is read with few
    /// others at once, and reading it finds out.
    pub(crate) async fn extent(&self, slice: &Slice) -> Result<Extent, Failure> {
        let width = Extent::stretch_micros(slice.window.end().micros() - slice.window.start().micros());
        let query = self.of_slice(&query::extent(&self.table, self.pushed(slice).as_ref()), slice).param("width", width);
        let (stretches, versions) = tokio::join!(query.fetch_all::<(u64, u64, u64)>(), self.versions(slice));
        match stretches {
            Ok(found) => Ok(Extent::of(found.into_iter().map(|(rows, bytes, widest)| Stretch { rows, bytes, widest }).collect(), versions)),
            Err(error) if code(&error.to_string()).is_some() && broke(&error) => Ok(Extent::unknown()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// How versions are read. A filter asks about the newest only, and a row that cannot be read is looked for among those that count.
    async fn versions(&self, slice: &Slice) -> Versions {
        if slice.filter.is_some() || slice.narrow > 0 {
            return Versions::Merged;
        }
        match self.client.query_raw(query::KEYED).param("table", &self.table).fetch_one::<u64>().await {
            Ok(1) => Versions::AsStored,
            Ok(_) => Versions::Merged,
            Err(error) => {
                tracing::debug!(%error, "the key of the table is not known; ClickHouse merges the versions of its rows");
                Versions::Merged
            }
        }
    }

    /// How many rows of a slice there are.
    pub(crate) async fn count(&self, slice: &Slice) -> Result<u64, Failure> {
        self.of_slice(&query::count(&self.table, self.pushed(slice).as_ref()), slice).fetch_one().await.map_err(|error| failure(&error))
    }

    /// The experiments of a tenant with rows in a window, at most one more than an export may have.
    pub(crate) async fn experiments(&self, tenant: TenantId, window: Window) -> Result<Vec<Experiment>, Failure> {
        let query = self
            .client
            .query_raw(&query::experiments(&self.table))
            .param("tenant", tenant.to_string())
            .param("start", window.start().micros())
            .param("end", window.end().micros())
            .param("most", MAX_PARTITIONS as u64 + 1);
        let found: Vec<(String, i64, i64)> = query.fetch_all().await.map_err(|error| failure(&error))?;
        let experiment = |(session, first, last): (String, i64, i64)| {
            let session = SessionId::parse("session_id", &session).ok()?;
            Some(Experiment { session, first: Timestamp::from_micros(first)?, last: Timestamp::from_micros(last)? })
        };
        found.into_iter().map(experiment).collect::<Option<_>>().ok_or_else(|| cut("what it says of the experiments makes no sense"))
    }

    /// The row behind `last`, if it is the one that cannot be read: it was asked for alone, and failed again.
    pub(crate) async fn unreadable(&self, slice: &Slice, last: Option<Cursor>) -> Option<Cursor> {
        let from = Slice { cursor: last, ..slice.clone() };
        let pushed = self.pushed(slice);
        let next = self
            .behind(query::next(&self.table, last.is_some(), pushed.as_ref()), &from)
            .fetch_optional::<(i64, String)>()
            .await
            .ok()??;
        let row = Cursor { start_time: Timestamp::from_micros(next.0)?, id: Uuid::parse_str(&next.1).ok()? };
        let sql = format!(
            "{}\nLIMIT 1",
            query::rows(&self.table, &slice.columns, slice.version, Versions::Merged, last.is_some(), pushed.as_ref())
        );
        let mut bytes = self.behind(sql, &from).with_setting("max_block_size", "1").fetch_bytes("ArrowStream").ok()?;
        loop {
            match bytes.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return broke(&error).then_some(row),
            }
        }
    }

    /// A query of a slice from behind its cursor on.
    fn behind(&self, sql: String, slice: &Slice) -> clickhouse::query::Query {
        let query = self.of_slice(&sql, slice);
        match slice.cursor {
            Some(cursor) => query.param("cursor_time", cursor.start_time.micros()).param("cursor_id", cursor.id.to_string()),
            None => query,
        }
    }

    fn of_slice(&self, sql: &str, slice: &Slice) -> clickhouse::query::Query {
        let query = self
            .client
            .query_raw(sql)
            .param("tenant", slice.tenant.to_string())
            .param("session", slice.session.to_string())
            .param("start", slice.window.start().micros())
            .param("end", slice.window.end().micros());
        let parameters = self.pushed(slice).map(|pushed| pushed.parameters).unwrap_or_default();
        // Escaped already: `param` leaves NUL and carriage return as they are.
        parameters.into_iter().fold(query, |query, (name, value)| query.with_setting(format!("param_{name}"), value))
    }

    fn pushed(&self, slice: &Slice) -> Option<Pushed> {
        slice.filter.as_ref().map(|filter| Pushed::of(filter, &self.feedbacks))
    }

    /// The pointers of one row as they are now, in the order of [`query::POINTER_COLUMNS`]; `None` when the row is gone.
    pub(crate) async fn pointers(&self, slice: &Slice, time: Timestamp, id: Uuid) -> Result<Option<[String; 3]>, Failure> {
        let query = self.client.query_raw(&query::pointers(&self.table));
        let query = query
            .param("tenant", slice.tenant.to_string())
            .param("session", slice.session.to_string())
            .param("time", time.micros())
            .param("id", id.to_string());
        let found: Option<(String, String, String)> = query.fetch_optional().await.map_err(|error| failure(&error))?;
        Ok(found.map(|(inputs, outputs, others)| [inputs, outputs, others]))
    }

    /// Stops a query, and those about the feedback on its rows. A server that does not know it any more is content too, and one
    /// that does not answer is left alone.
    pub(crate) async fn kill(&self, query_id: &str) {
        let killed = self.client.query_raw(query::KILL).param("id", query_id).execute();
        match tokio::time::timeout(KILL_TIMEOUT, killed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, query_id, "the query could not be killed"),
            Err(_) => tracing::debug!(query_id, "nobody answered to the kill of the query"),
        }
    }
}

/// Rows that are asked for at once: a quarter with each time that the answer broke off, one by one in the end.
fn narrowed(rows: u64, narrow: u32) -> u64 {
    if narrow >= NARROWEST { 1 } else { (rows >> (2 * narrow)).max(1) }
}

/// The code of a server's exception.
fn code(text: &str) -> Option<u32> {
    text.split("Code: ").nth(1)?.split(['.', ' ']).next()?.parse().ok()
}

/// Whether an answer that had been asked for broke off, rather than nobody being there to ask.
fn broke(error: &clickhouse::error::Error) -> bool {
    let text = error.to_string();
    code(&text).map_or(!refused_connection(error), |code| !matches!(code, 202 | 252 | 439 | 36 | 43 | 46 | 47 | 62))
}

fn refused_connection(error: &clickhouse::error::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut kinds = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.any(|kind| kind == std::io::ErrorKind::ConnectionRefused)
}

/// A failure of the answer to the rows' query: the row that comes next may be why.
fn broken_off(error: &clickhouse::error::Error) -> Failure {
    let failure = failure(error);
    let class = if failure.class == FailureClass::SourceTransient && broke(error) { FailureClass::SourceBroke } else { failure.class };
    Failure { class, ..failure }
}

/// What an error of ClickHouse means, by its code where it gives one.
fn failure(error: &clickhouse::error::Error) -> Failure {
    let text = error.to_string();
    let class = match code(&text) {
        Some(173 | 241 | 307) => FailureClass::SourceMemory,
        Some(202 | 252 | 439) => FailureClass::Throttled,
        // A query of ours that the server does not understand will not be understood the next time either.
        Some(36 | 43 | 46 | 47 | 62) => FailureClass::Internal,
        _ => FailureClass::SourceTransient,
    };
    let sources = std::iter::successors(std::error::Error::source(error), |source| source.source()).last();
    let cause = sources.map(|cause| format!(" ({cause})")).unwrap_or_default();
    Failure { step: Step::Read, class, detail: format!("ClickHouse: {}{cause}", first_line(&text)) }
}

/// Server errors may quote rows after their first sentence; only that sentence is kept.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}

fn cut(reason: impl std::fmt::Display) -> Failure {
    Failure { step: Step::Read, class: FailureClass::SourceBroke, detail: format!("ClickHouse's answer was cut short: {reason}") }
}
