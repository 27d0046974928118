//! Reads trace rows from ClickHouse: one slice as a stream of Arrow batches, in order, starting
//! after a cursor.
//!
//! A stream without Arrow's end marker was truncated, whatever the transport says, and is never
//! taken for complete. Nor is one that has the marker but lacks rows, because a setting cut it
//! short ([`tally`]).

mod answer;
mod extent;
mod failures;
mod feedback;
pub(crate) mod filter;
mod merging;
mod moved;
mod pins;
pub(crate) mod query;
pub(crate) mod schema;
mod stream;
mod tally;
mod text;
mod versions;

use std::sync::{Arc, Mutex, PoisonError};

use clickhouse::{Client, Compression, query::Query};
use secrecy::ExposeSecret as _;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracelift_core::{
    column::{Column, Columns},
    export::FormatVersion,
    failure::{Failure, FailureClass},
    file::Cursor,
    filter::Filter,
    id::{SessionId, TenantId},
    plan::{Experiment, MAX_PARTITIONS},
    task::{Identity, MAX_BATCH_SHRINK},
    time::{Timestamp, Window},
};
use tracelift_runtime::secret::SecretError;
use uuid::Uuid;

use answer::Answer;
pub(crate) use extent::Extent;
use extent::{Interval, ReadPlan};
use failures::{broke, code, config, cut, failure};
use feedback::{LookUp, sql};
use filter::Pushdown;
use merging::{Merging, Table};
use moved::Moved;
use query::RenderedQuery;
use schema::{MAX_POINTER_COLUMNS, SourceSchema, VersionedTable};
use stream::QueryRequest;
pub(crate) use stream::{Rows, place};
use tally::Counts;
use versions::Versions;

use crate::settings::{ClickHouse, Limits};

/// The trace store.
#[derive(Clone)]
pub(crate) struct Source {
    client: Client,
    schema: Arc<SourceSchema>,
    batch_bytes: u64,
    identity: Identity,
    pins: Arc<Mutex<Option<Pins>>>,
    moved: Arc<Moved>,
}

/// The settings clause that ends every query.
struct Pins {
    clause: String,
    /// When the server was asked which settings it supports.
    asked: Instant,
}

/// Selects rows.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) window: Window,
    /// The window of the whole export.
    pub(crate) of_export: Window,
    pub(crate) columns: Columns,
    pub(crate) version: FormatVersion,
    /// Only rows that match.
    pub(crate) filter: Option<Filter>,
    /// Only rows after this one.
    pub(crate) cursor: Option<Cursor>,
    /// How often the response was recently aborted, at most [`MAX_BATCH_SHRINK`]. The higher, the
    /// fewer rows are requested at once.
    pub(crate) batch_shrink: u32,
}

/// Feedback rows per block of a response. Low, because a row can be wide; more bring little speed.
const FEEDBACK_BLOCK_ROWS: u64 = 16;
/// If feedback is exported, the batch being looked up, its feedback, and the batch being read
/// meanwhile share the bytes of one batch, so that the task needs no more memory.
const FEEDBACK_SHARES: u64 = 3;
/// Timeout for killing a query.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How many seconds the server waits while the destination blocks the exporter.
const SEND_TIMEOUT: &str = "600";
/// How long to remember which settings the server supports; it may be replaced by another version.
const PINS_MEMORY: Duration = Duration::from_secs(600);

impl Source {
    pub(crate) fn new(
        client: Client,
        settings: &ClickHouse,
        limits: &Limits,
    ) -> Result<Self, SecretError> {
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
            .with_setting(
                "output_format_arrow_compression_method",
                settings.clickhouse_compression.as_str(),
            )
            .with_setting("output_format_arrow_string_as_string", "0")
            .with_setting("output_format_arrow_low_cardinality_as_dictionary", "0")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("optimize_read_in_order", "1");
        Ok(Self {
            client,
            schema: Arc::new(SourceSchema::of(settings)),
            batch_bytes: limits.batch_bytes,
            identity: settings.unique_by.into(),
            pins: Arc::default(),
            moved: Arc::default(),
        })
    }

    /// What the tables look like.
    pub(crate) fn schema(&self) -> &SourceSchema {
        &self.schema
    }

    /// What identifies a row.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Checks whether rows can be read correctly, as far as that is possible without reading any.
    pub(crate) async fn inspect(&self) -> Result<(), Failure> {
        self.prepare().await?;
        self.merging().await?;
        self.merging_of_feedback().await.map(drop)
    }

    /// Asks the server which of the settings that every query must carry it supports.
    async fn prepare(&self) -> Result<(), Failure> {
        let asked = self
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|pins| pins.asked);
        if asked.is_some_and(|asked| asked.elapsed() < PINS_MEMORY) {
            return Ok(());
        }
        let known = match self.client.query_raw(&pins::question()).fetch_all::<String>().await {
            Ok(known) => known,
            Err(error) if code(&error.to_string()) == Some(NO_GRANT) => {
                tracing::warn!(%error, "system.settings cannot be read; only settings that every version of ClickHouse knows are pinned");
                Vec::new()
            }
            Err(error) => return Err(failure(&error)),
        };
        *self.pins.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Pins { clause: pins::clause(&known), asked: Instant::now() });
        Ok(())
    }

    /// A query with these settings.
    fn query(&self, sql: &str) -> Query {
        let pins = self
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|pins| pins.clause.clone());
        self.client.query_raw(&format!("{sql}{}", pins.unwrap_or_else(|| pins::clause(&[]))))
    }

    /// How a table's row versions are merged; `None` if there is no such table.
    async fn merging_of(&self, table: &VersionedTable) -> Result<Option<Merging>, Failure> {
        let found = self
            .query(query::TABLE)
            .param("table", &table.name)
            .fetch_optional::<(String, String, String)>()
            .await;
        match found {
            Ok(Some((engine, engine_full, sorting_key))) => {
                Table { engine, engine_full, sorting_key }.merging(table).map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) if code(&error.to_string()) == Some(NO_GRANT) => {
                tracing::debug!(%error, table = table.name, "the engine of the table is not known; the exporter merges the versions of its rows");
                Ok(Some(Merging::Ours))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// How versions of trace rows are merged.
    async fn merging(&self) -> Result<Merging, Failure> {
        let table = &self.schema.runs.versioned;
        self.merging_of(table).await?.ok_or_else(|| {
            let table = &table.name;
            config(format!(
                "the table {table} does not exist, or the exporter's ClickHouse user may not see it; check CLICKHOUSE_DATABASE and \
                 CLICKHOUSE_RUNS_TABLE, and grant SELECT"
            ))
        })
    }

    /// How versions of feedback are merged. A missing table is an error only for those who need it.
    async fn merging_of_feedback(&self) -> Result<Merging, Failure> {
        Ok(self.merging_of(&self.schema.feedbacks.versioned).await?.unwrap_or(Merging::Final))
    }

    /// Classifies an error. A server that rejects a setting another one accepted has a different
    /// version, as in a cluster during an upgrade; its own settings are asked for next time.
    fn failed(&self, error: &clickhouse::error::Error) -> Failure {
        let failure = failure(error);
        if code(&error.to_string()) != Some(UNKNOWN_SETTING) {
            return failure;
        }
        match self.pins.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(pins) if pins.clause != pins::clause(&[]) => {
                Failure { class: FailureClass::SourceTransient, ..failure }
            }
            _ => failure,
        }
    }

    /// How to read the rows of a slice, not considering moved ids.
    async fn plan(&self, slice: &Slice) -> Result<ReadPlan, Failure> {
        self.prepare().await?;
        let needs_feedback = slice.filter.is_some() || slice.columns.contains(Column::Feedbacks);
        let merging = self.merging().await?;
        let feedback =
            if needs_feedback { self.merging_of_feedback().await? } else { Merging::Final };
        let feedbacks = sql::feedback_of_project(&self.schema.feedbacks, feedback);
        let pushdown =
            slice.filter.as_ref().map(|filter| Pushdown::of(filter, &self.schema, &feedbacks));
        Ok(ReadPlan { merging, feedback, moved: false, pushdown: pushdown.map(Arc::new) })
    }

    /// Whether ids of the export also occur at other start times.
    async fn has_moved(&self, slice: &Slice) -> Result<bool, Failure> {
        match self.identity {
            Identity::Id => self.moved.of(self, slice).await,
            Identity::IdAndStartTime => Ok(false),
        }
    }

    /// Reads the rows of a slice, with feedback if exported, until the slice ends or `drain` is
    /// cancelled. `query_id` names the query for [`Source::kill`].
    pub(crate) fn rows(
        &self,
        slice: &Slice,
        extent: &Extent,
        query_id: &str,
        drain: CancellationToken,
    ) -> Result<Rows, Failure> {
        let looks_up = slice.columns.contains(Column::Feedbacks);
        let batch_bytes =
            if looks_up { self.batch_bytes / FEEDBACK_SHARES } else { self.batch_bytes };
        let block_rows = narrowed(extent.block_rows(batch_bytes), slice.batch_shrink);
        let plan = extent.plan.clone();
        let feedback = looks_up
            .then(|| LookUp::new(self.clone(), slice, plan.feedback, query_id, batch_bytes));
        let question = QueryRequest {
            source: self.clone(),
            slice: slice.clone(),
            plan,
            query_id: query_id.to_owned(),
            block_rows,
        };
        Rows::new(question, extent, feedback, drain)
    }

    /// Reads the rows of a slice without feedback.
    fn table(
        &self,
        slice: &Slice,
        plan: &ReadPlan,
        versions: Versions,
        query_id: &str,
        block_rows: u64,
    ) -> Result<Answer, Failure> {
        let query = self
            .about(slice, plan, |asked| query::rows(asked, &slice.columns, slice.version, versions))
            .with_setting("query_id", query_id)
            .with_setting("max_block_size", block_rows.to_string())
            .with_setting("http_send_timeout", SEND_TIMEOUT);
        query.fetch_bytes("ArrowStream").map(Answer::new).map_err(|error| failure(&error))
    }

    /// Reads the feedback on some rows of a slice, in the order of `ids`.
    fn feedback(
        &self,
        slice: &Slice,
        merging: Merging,
        ids: &[&str],
        query_id: &str,
    ) -> Result<Answer, Failure> {
        let query = self.query(&sql::feedback(&self.schema.feedbacks, merging));
        let query = query
            .param("tenant", slice.tenant.to_string())
            .param("session", slice.session.to_string())
            .param("ids", ids)
            .with_setting("query_id", query_id)
            .with_setting("max_block_size", FEEDBACK_BLOCK_ROWS.to_string())
            .with_setting("http_send_timeout", SEND_TIMEOUT);
        query.fetch_bytes("ArrowStream").map(Answer::new).map_err(|error| failure(&error))
    }

    /// Measures what there is to read in a slice.
    pub(crate) async fn extent(&self, slice: &Slice) -> Result<Extent, Failure> {
        let plan = self.plan(slice).await?;
        // Moved ids are rare, so measuring at the same time is seldom wasted.
        let (moved, extent) =
            tokio::join!(self.has_moved(slice), self.measure(slice, plan.clone()));
        if moved? { self.measure(slice, ReadPlan { moved: true, ..plan }).await } else { extent }
    }

    /// Measures a slice. A row that cannot be measured may be unreadable; then rows are read a few
    /// at a time, and reading finds it.
    async fn measure(&self, slice: &Slice, plan: ReadPlan) -> Result<Extent, Failure> {
        let versions = match plan.merging {
            // A filter looks at the newest versions only, and an unreadable row is searched for
            // among the rows that count.
            Merging::Final if slice.filter.is_none() && slice.batch_shrink == 0 && !plan.moved => {
                Versions::AsStored
            }
            _ => plan.merged(),
        };
        let query = self
            .about(slice, &plan, |asked| query::extent(asked, versions))
            .param("width", Extent::interval_of(slice.window));
        match query.fetch_all::<(i64, u64, u64, u64)>().await {
            Ok(found) => {
                let interval =
                    |(number, rows, bytes, widest)| (number, Interval { rows, bytes, widest });
                Ok(Extent::of(plan, versions, found.into_iter().map(interval).collect()))
            }
            Err(error) if code(&error.to_string()).is_some() && broke(&error) => {
                let versions = plan.merged();
                let counts = self.counts(slice, &plan, versions).await;
                if let Err(failure) = &counts {
                    tracing::warn!(%failure, "the rows cannot be counted beforehand: their answer is compared with nothing");
                }
                Ok(Extent::unknown(plan, versions, counts.ok()))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Counts the rows in each interval of a slice.
    async fn counts(
        &self,
        slice: &Slice,
        plan: &ReadPlan,
        versions: Versions,
    ) -> Result<Counts, Failure> {
        let query = self
            .about(slice, plan, |asked| query::counts(asked, versions))
            .param("width", Extent::interval_of(slice.window));
        let found =
            query.fetch_all::<(i64, u64, u64, u64)>().await.map_err(|error| failure(&error))?;
        Ok(found.into_iter().map(|(number, rows, ..)| (number, rows)).collect())
    }

    /// Counts the rows of a slice.
    pub(crate) async fn count(&self, slice: &Slice) -> Result<u64, Failure> {
        let plan = self.plan(slice).await?;
        let plan = ReadPlan { moved: self.has_moved(slice).await?, ..plan };
        self.about(slice, &plan, query::count).fetch_one().await.map_err(|error| failure(&error))
    }

    /// The tenant's experiments with rows in a window, at most one more than an export may have.
    pub(crate) async fn experiments(
        &self,
        tenant: TenantId,
        window: Window,
    ) -> Result<Vec<Experiment>, Failure> {
        self.prepare().await?;
        let merging = self.merging().await?;
        let query = self
            .query(&query::experiments(&self.schema, merging))
            .param("tenant", tenant.to_string())
            .param("start", window.start().micros())
            .param("end", window.end().micros())
            .param("most", MAX_PARTITIONS as u64 + 1);
        let found: Vec<(String, i64, i64)> =
            query.fetch_all().await.map_err(|error| failure(&error))?;
        let experiment = |(session, first, last): (String, i64, i64)| {
            let session = SessionId::parse("session_id", &session).ok()?;
            Some(Experiment {
                session,
                first: Timestamp::from_micros(first)?,
                last: Timestamp::from_micros(last)?,
            })
        };
        found
            .into_iter()
            .map(experiment)
            .collect::<Option<_>>()
            .ok_or_else(|| cut("what it says of the experiments makes no sense"))
    }

    /// The row after `last`, if it is the unreadable one: it was requested alone and failed again.
    pub(crate) async fn unreadable(
        &self,
        slice: &Slice,
        extent: &Extent,
        last: Option<Cursor>,
    ) -> Option<Cursor> {
        let (from, plan) = (Slice { cursor: last, ..slice.clone() }, &extent.plan);
        let next =
            self.about(&from, plan, query::next).fetch_optional::<(i64, String)>().await.ok()??;
        let row = Cursor {
            start_time: Timestamp::from_micros(next.0)?,
            id: Uuid::parse_str(&next.1).ok()?,
        };
        let sql = |asked: &RenderedQuery<'_>| {
            format!("{}\nLIMIT 1", query::rows(asked, &slice.columns, slice.version, plan.merged()))
        };
        let mut bytes = self
            .about(&from, plan, sql)
            .with_setting("max_block_size", "1")
            .fetch_bytes("ArrowStream")
            .ok()?;
        loop {
            match bytes.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return broke(&error).then_some(row),
            }
        }
    }

    /// A query about a slice, starting after its cursor.
    fn about(
        &self,
        slice: &Slice,
        plan: &ReadPlan,
        sql: impl FnOnce(&RenderedQuery<'_>) -> String,
    ) -> Query {
        let asked = RenderedQuery {
            schema: &self.schema,
            merging: plan.merging,
            moved: plan.moved,
            filter: plan.pushdown.as_deref(),
            resumes: slice.cursor.is_some(),
        };
        let query = self.of_project(&sql(&asked), slice, slice.window);
        let query = match slice.cursor {
            Some(cursor) => query
                .param("cursor_time", cursor.start_time.micros())
                .param("cursor_id", cursor.id.to_string()),
            None => query,
        };
        let parameters = plan.pushdown.iter().flat_map(|pushdown| &pushdown.parameters);
        // Already escaped: `param` does not escape NUL and carriage return.
        parameters
            .fold(query, |query, (name, value)| query.with_setting(format!("param_{name}"), value))
    }

    /// A query about the slice's project and a window.
    fn of_project(&self, sql: &str, slice: &Slice, window: Window) -> Query {
        self.query(sql)
            .param("tenant", slice.tenant.to_string())
            .param("session", slice.session.to_string())
            .param("start", window.start().micros())
            .param("end", window.end().micros())
    }

    /// What the pointer column of a field holds now; `None` if the row is gone, or if the field is
    /// never offloaded.
    pub(crate) async fn pointer(
        &self,
        slice: &Slice,
        row: Cursor,
        field: Column,
    ) -> Result<Option<String>, Failure> {
        let query = self.query(&query::pointers(&self.schema));
        let query = query
            .param("tenant", slice.tenant.to_string())
            .param("session", slice.session.to_string())
            .param("time", row.start_time.micros())
            .param("id", row.id.to_string());
        let found: Option<(String, String, String)> =
            query.fetch_optional().await.map_err(|error| failure(&error))?;
        let held = self.schema.runs.pointers.iter().position(|held| held.fields.contains(&field));
        Ok(found.zip(held).and_then(|((first, second, third), held)| {
            let columns: [String; MAX_POINTER_COLUMNS] = [first, second, third];
            columns.into_iter().nth(held)
        }))
    }

    /// Kills a query and its feedback queries. Killing an unknown query is a no-op; a server that
    /// does not respond is left alone.
    pub(crate) async fn kill(&self, query_id: &str) {
        let killed = self.client.query_raw(query::KILL).param("id", query_id).execute();
        match tokio::time::timeout(KILL_TIMEOUT, killed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, query_id, "the query could not be killed"),
            Err(_) => tracing::debug!(query_id, "nobody answered to the kill of the query"),
        }
    }
}

/// ClickHouse's error code for a missing grant.
const NO_GRANT: u32 = 497;
/// ClickHouse's error code for an unknown setting.
const UNKNOWN_SETTING: u32 = 115;

/// Rows to request at once: a quarter per aborted response, in the end one at a time.
fn narrowed(rows: u64, batch_shrink: u32) -> u64 {
    if batch_shrink >= MAX_BATCH_SHRINK { 1 } else { (rows >> (2 * batch_shrink)).max(1) }
}
