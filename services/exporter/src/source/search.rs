//! Searches for a tenant's experiments, and for a row that cannot be read.

use tracelift_core::{
    failure::Failure,
    file::Cursor,
    id::{SessionId, TenantId},
    plan::{Experiment, MAX_PARTITIONS},
    time::{Timestamp, Window},
};
use uuid::Uuid;

use super::{
    Slice, Source,
    extent::Extent,
    failures::{broke, cut, failure},
    query::{self, RenderedQuery},
};

impl Source {
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
}
