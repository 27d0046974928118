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
mod measure;
mod merging;
mod moved;
mod pins;
pub(crate) mod query;
pub(crate) mod schema;
mod search;
mod stream;
mod tally;
mod text;
mod versions;

use std::sync::{Arc, Mutex};

use clickhouse::{Client, Compression, query::Query};
use secrecy::ExposeSecret as _;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;
use tracelift_core::{
    column::{Column, Columns},
    export::FormatVersion,
    failure::Failure,
    file::Cursor,
    filter::Filter,
    id::{SessionId, TenantId},
    task::{Identity, MAX_BATCH_SHRINK},
    time::Window,
};
use tracelift_runtime::secret::SecretError;

use answer::Answer;
pub(crate) use extent::Extent;
use extent::ReadPlan;
use failures::failure;
use feedback::{LookUp, sql};
use merging::Merging;
use moved::Moved;
use pins::Pins;
use query::RenderedQuery;
use schema::{MAX_POINTER_COLUMNS, SourceSchema};
use stream::QueryRequest;
pub(crate) use stream::{Rows, place};
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
    pub(crate) fn schema(&self) -> &Arc<SourceSchema> {
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

/// Rows to request at once: a quarter per aborted response, in the end one at a time.
fn narrowed(rows: u64, batch_shrink: u32) -> u64 {
    if batch_shrink >= MAX_BATCH_SHRINK { 1 } else { (rows >> (2 * batch_shrink)).max(1) }
}
