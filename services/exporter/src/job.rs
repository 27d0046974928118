//! A job: what an exporter does under one lease. The data path is
//!
//! ```text
//! rows → hydrate → encode → upload → publish
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;
use tracelift_bucket::Connector;
use tracelift_core::{
    assignment::{Assigned, Frozen, Leftover, PublishedPartition, ReadTime, Resume},
    destination::Bucket,
    export::ExportSpec,
    failure::{Failure, FailureClass, Step},
    file::{Cursor, Totals},
    id::{SessionId, TaskId},
    layout::Layout,
    plan::Partition,
    task::{Finished, MAX_BATCH_SHRINK},
};

use crate::{
    access::DestinationAccess,
    destination::Destination,
    encode,
    file_schema::FileProvenance,
    hydrate::Hydrator,
    lease::{JobError, Lease, StopReason},
    meter::{Meter, Stage},
    publish,
    report::Reporter,
    settings::Limits,
    source::{Extent, Slice, Source},
    upload::Uploader,
};

/// Shared by all jobs of a process.
#[derive(Clone)]
pub(crate) struct JobContext {
    pub(crate) source: Source,
    pub(crate) hydrator: Hydrator,
    pub(crate) connector: Connector,
    pub(crate) access: DestinationAccess,
    pub(crate) reporter: Reporter,
    pub(crate) limits: Limits,
}

/// A task being worked on.
pub(crate) struct Job {
    pub(crate) context: JobContext,
    pub(crate) lease: Lease,
    pub(crate) spec: ExportSpec,
    pub(crate) meter: Arc<Meter>,
}

impl Job {
    /// Does the assigned work. If the lease ends, the job stops wherever it is.
    pub(crate) async fn run(&self, work: Assigned) -> Result<(), JobError> {
        match work {
            Assigned::Partition(resume) => {
                let destination = self.destination(resume.has_written()).await?;
                let frozen = self.export(&destination, resume).await?;
                self.publish(&destination, &frozen).await
            }
            Assigned::Publish(frozen) => {
                self.publish(&*self.destination(false).await?, &frozen).await
            }
            Assigned::Finalize { partitions, read } => {
                let destination = self.destination(!partitions.is_empty()).await?;
                self.finalize(&destination, &partitions, read).await
            }
            Assigned::CleanUp(leftover) => {
                self.clean_up(&self.destination(false).await?, &leftover).await
            }
            Assigned::FindExperiments => self.find_experiments().await,
            Assigned::Reconcile { sessions } => self.reconcile(&sessions).await,
        }
    }

    /// Opens the task's destination. `written`: whether it has accepted writes of this export
    /// before.
    async fn destination(&self, written: bool) -> Result<Arc<Destination>, JobError> {
        self.meter.doing("connecting");
        let (access, connector) = (self.context.access.clone(), self.context.connector.clone());
        let (lease, meter, patience) =
            (self.lease.clone(), self.meter.clone(), self.context.limits.patience);
        let destination = Destination::open(access, connector, lease, meter, patience).await?;
        if written {
            destination.has_taken();
        }
        Ok(destination)
    }

    /// Rows → hydrate → encode → upload, all concurrently; then passes the commit point.
    async fn export(
        &self,
        destination: &Arc<Destination>,
        resume: Resume,
    ) -> Result<Frozen, JobError> {
        let (Self { context, lease, spec, meter }, limits) = (self, self.context.limits);
        let Resume { partition, cursor, mut before, unresolved, batch_shrink } = resume;
        let mut slice = Slice { cursor, batch_shrink, ..self.slice(partition) };
        let bucket = destination.bucket();
        let key = |number| self.layout(&bucket).data_file(partition, lease.task, number);
        let uploader = self.uploader(destination, lease.task, &key);
        if lease.is_of_a_later_attempt() {
            meter.doing("taking over");
            if let Some(file) = uploader.take_over(before.files, unresolved.as_ref()).await? {
                context.reporter.file_done(lease, &file).await?;
                before = before.plus(Totals::of([&file]));
                slice.cursor = Some(file.cursor);
            }
        }
        let slice = &slice;

        let before_candidates = before.candidates();
        meter.doing("reading");
        let extent = tokio::select! {
            why = lease.halted() => return Err(JobError::Stopped(why)),
            extent = context.source.extent(slice) => extent?,
        };
        meter.estimate_rows(before.candidates() + extent.rows());
        let query_id = format!("tracelift-{}-{}", lease.task, lease.fence.0);
        let mut rows = context.source.rows(slice, &extent, &query_id, lease.drain().clone())?;
        let (batch_sink, batches) = mpsc::channel(1);
        let (part_sink, mut parts) = mpsc::channel(1);

        let read = async {
            let reading = context.hydrator.run(slice, &mut rows, meter, &batch_sink);
            let read = tokio::select! {
                why = lease.halted() => Err(JobError::Stopped(why)),
                read = reading => read.map_err(JobError::Failed),
            };
            drop(batch_sink); // the encoder closes the current file, which keeps what was read
            read
        };
        let provenance = FileProvenance { export: lease.export, task: lease.task };
        let encoder = encode::encoder(spec, provenance, limits, meter.clone());
        let encode = encode::run(encoder, batches, part_sink);
        let upload = async {
            let uploaded = uploader.run(&mut parts, before).await;
            drop(parts); // without a receiver the encoder ends, and with it the reader
            uploaded
        };
        let (read, encoded, uploaded) = tokio::join!(read, encode, upload);

        if !rows.complete() {
            context.source.kill(&query_id).await;
        }
        if let Some(why) = lease.stopped() {
            return Err(JobError::Stopped(why));
        }
        let rest = encoded?;
        let totals = uploaded?;
        if let Err(halt) = read {
            return Err(self.named(slice, &extent, rows.last(), halt).await);
        }
        if !rows.complete() {
            return Err(JobError::Stopped(StopReason::Drained));
        }
        let read = totals.plus(Totals::of_left_out(&rest)).candidates() - before_candidates;
        if read != rows.count() {
            let detail = format!("{read} rows are accounted for where {} were read", rows.count());
            return Err(internal(Step::Read, &detail).into());
        }
        let finished = Finished {
            files: totals.files,
            rows: totals.rows,
            rest,
            identity: context.source.identity(),
        };
        context.reporter.finished(lease, finished).await
    }

    /// Adds the unreadable row to a read failure, once rows are read one at a time.
    async fn named(
        &self,
        slice: &Slice,
        extent: &Extent,
        last: Option<Cursor>,
        halt: JobError,
    ) -> JobError {
        let JobError::Failed(failure) = &halt else { return halt };
        if slice.batch_shrink < MAX_BATCH_SHRINK
            || !matches!(failure.class, FailureClass::SourceBroke | FailureClass::SourceMemory)
        {
            return halt;
        }
        let row = tokio::select! {
            why = self.lease.halted() => return JobError::Stopped(why),
            row = self.context.source.unreadable(slice, extent, last.or(slice.cursor)) => row,
        };
        let Some(row) = row else { return halt };
        let detail =
            format!("the row {} of {} cannot be read: {}", row.id, row.start_time, failure.detail);
        JobError::Failed(Failure { step: Step::Read, class: FailureClass::SourceRow, detail })
    }

    fn uploader<'a>(
        &'a self,
        destination: &'a Arc<Destination>,
        task: TaskId,
        key: &'a (dyn Fn(u32) -> String + Sync),
    ) -> Uploader<'a> {
        let parts_in_flight = usize::try_from(self.context.limits.parts_in_flight).unwrap_or(1);
        let (lease, reporter, meter) = (&self.lease, &self.context.reporter, &self.meter);
        let content_type = self.spec.format.media_type();
        Uploader { destination, task, lease, reporter, meter, parts_in_flight, key, content_type }
    }

    /// Aborts the upload of a stopped or failed partition. If its file was completed after all,
    /// reports it.
    async fn clean_up(
        &self,
        destination: &Arc<Destination>,
        leftover: &Leftover,
    ) -> Result<(), JobError> {
        self.meter.doing("cleaning up");
        let Leftover { task, partition, next_file, unresolved } = leftover;
        let bucket = destination.bucket();
        let key = |number| self.layout(&bucket).data_file(*partition, *task, number);
        let uploader = self.uploader(destination, *task, &key);
        let adopted = uploader.take_over(*next_file, unresolved.as_ref()).await?;
        self.context.reporter.cleaned_up(&self.lease, adopted).await
    }

    /// Finds the experiments to export; the control plane turns them into partitions.
    async fn find_experiments(&self) -> Result<(), JobError> {
        self.meter.doing("finding experiments");
        let (source, lease) = (&self.context.source, &self.lease);
        let found = tokio::select! {
            why = lease.halted() => return Err(JobError::Stopped(why)),
            found = source.experiments(lease.tenant, self.spec.window) => found?,
        };
        self.context.reporter.experiments_found(lease, found).await
    }

    /// Counts the rows that ClickHouse holds now.
    async fn reconcile(&self, sessions: &[SessionId]) -> Result<(), JobError> {
        self.meter.doing("counting");
        let mut rows = 0;
        for session in sessions {
            let window = self.spec.window;
            let slice = self.slice(Partition { session: *session, window });
            rows += tokio::select! {
                why = self.lease.halted() => return Err(JobError::Stopped(why)),
                rows = self.context.source.count(&slice) => rows?,
            };
        }
        self.context.reporter.counted(&self.lease, rows).await
    }

    async fn publish(&self, destination: &Destination, frozen: &Frozen) -> Result<(), JobError> {
        self.meter.doing("publishing");
        let _writing = self.meter.time(Stage::Upload);
        let bucket = destination.bucket();
        let layout = self.layout(&bucket);
        let manifest = publish::run_manifest(&layout, self.lease.task, &self.spec, frozen);
        publish::put(destination, &layout.run_manifest(self.lease.task), &manifest).await?;
        self.context.reporter.published(&self.lease).await
    }

    async fn finalize(
        &self,
        destination: &Destination,
        partitions: &[PublishedPartition],
        read: ReadTime,
    ) -> Result<(), JobError> {
        self.meter.doing("publishing");
        let _writing = self.meter.time(Stage::Upload);
        let bucket = destination.bucket();
        let layout = self.layout(&bucket);
        let manifest = publish::export_manifest(&layout, &self.spec, partitions, read);
        publish::put(destination, &layout.export_manifest(), &manifest).await?;
        publish::put_success(destination, &layout.success()).await?;
        self.context.reporter.published(&self.lease).await
    }

    /// The export's rows within a partition.
    fn slice(&self, Partition { session, window }: Partition) -> Slice {
        Slice {
            tenant: self.lease.tenant,
            session,
            window,
            of_export: self.spec.window,
            columns: self.spec.columns.clone(),
            version: self.spec.format_version,
            filter: self.spec.filter.clone(),
            cursor: None,
            batch_shrink: 0,
        }
    }

    fn layout<'a>(&self, bucket: &'a Bucket) -> Layout<'a> {
        Layout {
            prefix: &bucket.prefix,
            export: self.lease.export,
            tenant: self.lease.tenant,
            version: self.spec.format_version,
            format: self.spec.format,
        }
    }
}

fn internal(step: Step, cause: &dyn std::fmt::Display) -> Failure {
    Failure { step, class: FailureClass::Internal, detail: cause.to_string() }
}
