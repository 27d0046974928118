//! Decides how to read a slice, and measures and counts it beforehand.

use std::sync::Arc;

use tracelift_core::{column::Column, failure::Failure, task::Identity};

use super::{
    Slice, Source,
    extent::{Extent, Interval, ReadPlan},
    failures::{broke, code, failure},
    feedback::sql,
    filter::Pushdown,
    merging::Merging,
    query,
    tally::Counts,
    versions::Versions,
};

impl Source {
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
    pub(super) async fn counts(
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
}
