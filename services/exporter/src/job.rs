//! A job: what an exporter does under one lease. The data path reads
//!
//! ```text
//! rows → hydrate → encode → upload → publish
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;
use tracelift_bucket::Connector;
use tracelift_core::{
    Invalid,
    destination::Bucket,
    export::ExportSpec,
    failure::{Failure, FailureClass, Step},
    file::{Cursor, File, FileIntent, LeftOut, Totals},
    id::RunId,
    layout::Layout,
    plan::Partition,
    run::{Finished, Identity, NARROWEST},
    time::Window,
};
use tracelift_proto::{fleet::v1, identity_from, left_out_from, time_from};

use crate::{
    access::Access,
    destination::Destination,
    encode::Encoder,
    hydrate::Hydrator,
    lease::{Lease, Stop},
    meter::{Meter, Stage},
    publish::{self, PublishedRun, Read},
    report::Reporter,
    schema::{self, Origin},
    settings::Limits,
    source::{Extent, Slice, Source},
    upload::Uploader,
};

/// Why a job ended before its run was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Something failed; the control plane decides what happens next.
    Failed(Failure),
    /// The job was told to stop.
    Stopped(Stop),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the jobs of a process share.
#[derive(Clone)]
pub(crate) struct Workshop {
    pub(crate) source: Source,
    pub(crate) hydrator: Hydrator,
    pub(crate) connector: Connector,
    pub(crate) access: Access,
    pub(crate) reporter: Reporter,
    pub(crate) limits: Limits,
}

/// What there is to do under a lease.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    /// Export a partition from a cursor on.
    Slice {
        slice: Slice,
        /// Files and rows of earlier attempts.
        before: Totals,
        /// An upload that an earlier attempt may have left open.
        unresolved: Option<FileIntent>,
    },
    /// Write a run's manifest: its file list is frozen already.
    Publish { slice: Slice, frozen: Frozen },
    /// Write the export's manifest and `_SUCCESS`.
    Finalise { runs: Vec<PublishedRun>, read: Read },
    /// End what a run that was stopped or has failed may have left open.
    CleanUp(Left),
    /// Find the experiments with rows in the export's window.
    FindExperiments,
    /// Count the export's rows once more, project by project.
    Reconcile { slices: Vec<Slice> },
}

/// What a run holds once its file list is frozen.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) files: Vec<File>,
    pub(crate) left_out: LeftOut,
    pub(crate) identity: Identity,
    pub(crate) read: Read,
}

impl Frozen {
    /// As the control plane says it of a run of that window.
    pub(crate) fn of(told: &v1::Publish, window: Window) -> Result<Self, Invalid> {
        let files = told.files.iter().map(File::try_from).collect::<Result<_, _>>()?;
        let left_out = left_out_from("left_out", told.left_out.as_ref())?;
        let read_at = told.read_at.as_ref().map(|at| time_from("read_at", Some(at))).transpose()?;
        Ok(Self {
            files,
            left_out,
            identity: identity_from(told.identity),
            read: Read::of(window, read_at),
        })
    }
}

impl Task {
    /// Whether the bucket took writes of this export before, for this task to come to be.
    fn follows_writes(&self) -> bool {
        match self {
            Self::Slice { before, unresolved, .. } => {
                before.files > 0
                    || unresolved.as_ref().is_some_and(|intent| !intent.upload_id.is_empty())
            }
            Self::Finalise { runs, .. } => !runs.is_empty(),
            _ => false,
        }
    }
}

/// What a run that was stopped or has failed may have left at the key of its next file.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) run: RunId,
    /// Its partition, which is in the key.
    pub(crate) partition: Partition,
    pub(crate) next_file: u32,
    pub(crate) unresolved: Option<FileIntent>,
}

/// One run in work.
pub(crate) struct Job {
    pub(crate) workshop: Workshop,
    pub(crate) lease: Lease,
    pub(crate) spec: ExportSpec,
    pub(crate) meter: Arc<Meter>,
}

impl Job {
    /// Does the task; a lease that ends stops it wherever it is.
    pub(crate) async fn run(&self, task: Task) -> Result<(), Halt> {
        match &task {
            Task::FindExperiments => return self.find_experiments().await,
            Task::Reconcile { slices } => return self.reconcile(slices).await,
            _ => {}
        }
        self.meter.doing("connecting");
        let (access, connector) = (self.workshop.access.clone(), self.workshop.connector.clone());
        let (lease, meter, patience) =
            (self.lease.clone(), self.meter.clone(), self.workshop.limits.patience);
        let destination = Destination::open(access, connector, lease, meter, patience).await?;
        if task.follows_writes() {
            destination.has_taken();
        }
        match task {
            Task::Slice { slice, before, unresolved } => {
                let frozen = self.export(&destination, slice.clone(), before, unresolved).await?;
                self.publish(&destination, &slice, &frozen).await
            }
            Task::Publish { slice, frozen } => self.publish(&destination, &slice, &frozen).await,
            Task::Finalise { runs, read } => self.finalise(&destination, &runs, read).await,
            Task::CleanUp(left) => self.clean_up(&destination, &left).await,
            Task::FindExperiments => self.find_experiments().await,
            Task::Reconcile { slices } => self.reconcile(&slices).await,
        }
    }

    /// Rows → hydrate → encode → upload, each running while the others do; then past the commit
    /// point.
    async fn export(
        &self,
        destination: &Arc<Destination>,
        mut slice: Slice,
        mut before: Totals,
        unresolved: Option<FileIntent>,
    ) -> Result<Frozen, Halt> {
        let (Self { workshop, lease, spec, meter }, limits) = (self, self.workshop.limits);
        let (bucket, partition) = (destination.bucket(), slice.partition());
        let key = |number| self.layout(&bucket).data_file(partition, lease.run, number);
        let uploader = self.uploader(destination, lease.run, &key);
        if lease.is_of_a_later_attempt() {
            meter.doing("taking over");
            if let Some(file) = uploader.take_over(before.files, unresolved.as_ref()).await? {
                workshop.reporter.file_done(lease, &file).await?;
                before = before.plus(Totals::of([&file]));
                slice.cursor = Some(file.cursor);
            }
        }
        let slice = &slice;

        let before_candidates = before.candidates();
        meter.doing("reading");
        let extent = tokio::select! {
            why = lease.halted() => return Err(Halt::Stopped(why)),
            extent = workshop.source.extent(slice) => extent?,
        };
        meter.estimate_rows(before.candidates() + extent.rows());
        let query_id = format!("tracelift-{}-{}", lease.run, lease.fence.0);
        let mut rows = workshop.source.rows(slice, &extent, &query_id, lease.drain().clone())?;
        let (batch_sink, batches) = mpsc::channel(1);
        let (part_sink, mut parts) = mpsc::channel(1);

        let read = async {
            let reading = workshop.hydrator.run(slice, &mut rows, meter, &batch_sink);
            let read = tokio::select! {
                why = lease.halted() => Err(Halt::Stopped(why)),
                read = reading => read.map_err(Halt::Failed),
            };
            drop(batch_sink); // the encoder closes the file in hand: what was read until here is kept
            read
        };
        let encoder = Encoder {
            schema: schema::arrow(&slice.columns, slice.version),
            properties: schema::properties(
                &slice.columns,
                slice.version,
                spec.compression,
                Origin { export: lease.export, run: lease.run },
            ),
            limits,
            meter: meter.clone(),
        };
        let encode = encoder.run(batches, part_sink);
        let upload = async {
            let uploaded = uploader.run(&mut parts, before).await;
            drop(parts); // the encoder and with it the reader end when nobody takes their parts
            uploaded
        };
        let (read, encoded, uploaded) = tokio::join!(read, encode, upload);

        if !rows.complete() {
            workshop.source.kill(&query_id).await;
        }
        if let Some(why) = lease.stopped() {
            return Err(Halt::Stopped(why));
        }
        let rest = encoded?;
        let totals = uploaded?;
        if let Err(halt) = read {
            return Err(self.named(slice, &extent, rows.last(), halt).await);
        }
        if !rows.complete() {
            return Err(Halt::Stopped(Stop::Drained));
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
            identity: workshop.source.identity(),
        };
        self.commit(slice, &finished).await
    }

    /// A failure of reading, with the row named that cannot be read, once the rows are asked for
    /// one by one.
    async fn named(
        &self,
        slice: &Slice,
        extent: &Extent,
        last: Option<Cursor>,
        halt: Halt,
    ) -> Halt {
        let Halt::Failed(failure) = &halt else { return halt };
        if slice.narrow < NARROWEST
            || !matches!(failure.class, FailureClass::SourceBroke | FailureClass::SourceMemory)
        {
            return halt;
        }
        let row = tokio::select! {
            why = self.lease.halted() => return Halt::Stopped(why),
            row = self.workshop.source.unreadable(slice, extent, last.or(slice.cursor)) => row,
        };
        let Some(row) = row else { return halt };
        let detail =
            format!("the row {} of {} cannot be read: {}", row.id, row.start_time, failure.detail);
        Halt::Failed(Failure { step: Step::Read, class: FailureClass::SourceRow, detail })
    }

    /// The commit point: from here on the file list is what the control plane says.
    async fn commit(&self, slice: &Slice, finished: &Finished) -> Result<Frozen, Halt> {
        let told = self.workshop.reporter.finished(&self.lease, finished).await?;
        Frozen::of(&told, slice.window)
            .map_err(|fault| Halt::Failed(internal(Step::Publish, &fault)))
    }

    fn uploader<'a>(
        &'a self,
        destination: &'a Arc<Destination>,
        run: RunId,
        key: &'a (dyn Fn(u32) -> String + Sync),
    ) -> Uploader<'a> {
        let parts_in_flight = usize::try_from(self.workshop.limits.parts_in_flight).unwrap_or(1);
        let (lease, reporter, meter) = (&self.lease, &self.workshop.reporter, &self.meter);
        Uploader { destination, run, lease, reporter, meter, parts_in_flight, key }
    }

    /// Ends a stopped run's upload; a file that it had completed all the same is reported.
    async fn clean_up(&self, destination: &Arc<Destination>, left: &Left) -> Result<(), Halt> {
        self.meter.doing("cleaning up");
        let bucket = destination.bucket();
        let key = |number| self.layout(&bucket).data_file(left.partition, left.run, number);
        let adopted = self
            .uploader(destination, left.run, &key)
            .take_over(left.next_file, left.unresolved.as_ref())
            .await?;
        self.workshop.reporter.cleaned_up(&self.lease, adopted.as_ref()).await
    }

    /// Finds what there is to export; the control plane makes partitions of it.
    async fn find_experiments(&self) -> Result<(), Halt> {
        self.meter.doing("finding experiments");
        let found = tokio::select! {
            why = self.lease.halted() => return Err(Halt::Stopped(why)),
            found = self.workshop.source.experiments(self.lease.tenant, self.spec.window) => found?,
        };
        self.workshop.reporter.experiments_found(&self.lease, &found).await
    }

    /// Counts what ClickHouse holds now.
    async fn reconcile(&self, slices: &[Slice]) -> Result<(), Halt> {
        self.meter.doing("counting");
        let mut rows = 0;
        for slice in slices {
            rows += tokio::select! {
                why = self.lease.halted() => return Err(Halt::Stopped(why)),
                rows = self.workshop.source.count(slice) => rows?,
            };
        }
        self.workshop.reporter.counted(&self.lease, rows).await
    }

    async fn publish(
        &self,
        destination: &Destination,
        slice: &Slice,
        frozen: &Frozen,
    ) -> Result<(), Halt> {
        self.meter.doing("publishing");
        let _writing = self.meter.time(Stage::Upload);
        let bucket = destination.bucket();
        let layout = self.layout(&bucket);
        let manifest = publish::run_manifest(&layout, self.lease.run, slice, frozen);
        publish::put(destination, &layout.run_manifest(self.lease.run), &manifest).await?;
        self.workshop.reporter.published(&self.lease).await
    }

    async fn finalise(
        &self,
        destination: &Destination,
        runs: &[PublishedRun],
        read: Read,
    ) -> Result<(), Halt> {
        self.meter.doing("publishing");
        let _writing = self.meter.time(Stage::Upload);
        let bucket = destination.bucket();
        let layout = self.layout(&bucket);
        let manifest = publish::export_manifest(&layout, &self.spec, runs, read);
        publish::put(destination, &layout.export_manifest(), &manifest).await?;
        publish::put_success(destination, &layout.success()).await?;
        self.workshop.reporter.published(&self.lease).await
    }

    fn layout<'a>(&self, bucket: &'a Bucket) -> Layout<'a> {
        Layout {
            prefix: &bucket.prefix,
            export: self.lease.export,
            tenant: self.lease.tenant,
            version: self.spec.format_version,
        }
    }
}

fn internal(step: Step, cause: &dyn std::fmt::Display) -> Failure {
    Failure { step, class: FailureClass::Internal, detail: cause.to_string() }
}

/// The rows of a spec within a partition.
pub(crate) fn slice(
    spec: &ExportSpec,
    lease: &Lease,
    Partition { session, window }: Partition,
) -> Slice {
    Slice {
        tenant: lease.tenant,
        session,
        window,
        of_export: spec.window,
        columns: spec.columns.clone(),
        version: spec.format_version,
        filter: spec.filter.clone(),
        cursor: None,
        narrow: 0,
    }
}
