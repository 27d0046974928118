//! Fills offloaded fields into batches: many objects in flight, used in order, bounded in bytes.
//! Rows that do not match the filter once their fields are known are dropped.

mod assemble;
mod cells;
mod content_filter;
mod prefetch;
mod repeated;

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracelift_core::{
    column::Columns,
    export::FormatVersion,
    failure::{Failure, FailureClass, Step},
    file::{Cursor, HydrationMiss, LeftOut},
    time::Timestamp,
};
use tracelift_runtime::tasks;

use crate::{
    blob::{self, BlobStore, FetchError, Miss, Owner},
    budget::{Budget, Turn},
    meter::{Meter, Stage},
    pointer,
    settings::Limits,
    source::{self, Rows, Slice, Source, query::out, schema::SourceSchema},
};
pub(crate) use assemble::Assembly;
pub(crate) use cells::{Cell, PLACEHOLDERS, cells};
pub(crate) use content_filter::ContentFilter;
use content_filter::{AbandonOnDrop, Abandoned};
use prefetch::Prefetch;
use repeated::Repeated;

/// Rows for the file, and the rows left out around them.
#[derive(Debug)]
pub(crate) struct Hydrated {
    /// The exported rows; `None` if there are none.
    pub(crate) rows: Option<HydratedRows>,
    /// Rows left out before the last exported one.
    pub(crate) before: LeftOut,
    /// Rows left out after it; all of them if none is exported.
    pub(crate) behind: LeftOut,
}

/// Exported rows, at least one.
#[derive(Debug)]
pub(crate) struct HydratedRows {
    /// The exported columns, in order.
    pub(crate) batch: RecordBatch,
    /// Start time of the first row.
    pub(crate) first: Timestamp,
    /// Position of the last row.
    pub(crate) last: Cursor,
    /// Fields that were filled in.
    pub(crate) objects: u64,
    /// Fields that could not be filled in.
    pub(crate) misses: Vec<HydrationMiss>,
}

/// Where offloaded fields come from.
#[derive(Clone)]
pub(crate) struct Hydrator {
    pub(crate) source: Source,
    pub(crate) blobs: BlobStore,
    pub(crate) concurrency: usize,
    pub(crate) limits: Limits,
}

/// A batch's bytes divided by this may be kept for objects that several of its fields point to.
const REPEATED_SHARE: u64 = 4;

/// Source batches held at once: the one being filled in and the next one, whose objects are already
/// being fetched.
const BATCHES: usize = 2;

/// A source batch in this stage, which has room for [`BATCHES`].
struct Read {
    batch: Arc<RecordBatch>,
    cells: Vec<Cell>,
    decider: Option<ContentFilter>,
    room: OwnedSemaphorePermit,
}

/// A source batch, or one field of the batch before it, in order of use.
enum Item {
    Batch(Read),
    Field(Arc<RecordBatch>, Cell, Turn),
}

/// An item whose object has arrived.
enum Ready {
    Batch(Read),
    Field(Cell, Result<String, FetchError>, Turn),
}

impl Hydrator {
    /// Fills in `rows` and sends each finished batch to `sink`, until the rows end or the sink is
    /// closed.
    pub(crate) async fn run(
        &self,
        slice: &Slice,
        rows: &mut Rows,
        meter: &Meter,
        sink: &mpsc::Sender<Hydrated>,
    ) -> Result<(), Failure> {
        let abandoned = Abandoned::default();
        let _abandon = AbandonOnDrop(abandoned.clone());
        let shared = Arc::new(slice.clone());
        let prepare = Prepare {
            slice: shared.clone(),
            schema: self.source.schema().clone(),
            abandoned,
            repeated_bytes: self.limits.batch_bytes / REPEATED_SHARE,
        };
        let (budget, room) =
            (Budget::new(self.limits.batch_bytes), Arc::new(Semaphore::new(BATCHES)));
        let items = items(rows, &prepare, &budget, &room);
        let ready = items.map(|item| async {
            Ok::<_, Failure>(match item? {
                Item::Batch(read) => Ready::Batch(read),
                Item::Field(batch, cell, mut turn) => {
                    let found = self.fetch(slice, &batch, &cell, &mut turn).await;
                    Ready::Field(cell, found, turn)
                }
            })
        });
        let ready = std::pin::pin!(ready.buffered(self.concurrency));
        let mut ready = Prefetch::of(ready, self.concurrency);
        let mut assembly: Option<Assembly> = None;
        let (mut denied, mut held) = (Denied::default(), None);
        loop {
            let waiting = meter.time(if assembly.is_some() { Stage::Hydrate } else { Stage::Read });
            let next = ready.next().await;
            drop(waiting);
            match next.transpose()? {
                Some(Ready::Batch(read)) => {
                    assembly = Some(Assembly::new(shared.clone(), read, self.limits.batch_bytes))
                }
                Some(Ready::Field(cell, found, _turn)) => {
                    denied.judge(&found, &self.blobs)?;
                    if let Some(assembly) = &mut assembly {
                        assembly.fill(&cell, found, meter)?;
                    }
                }
                None => {
                    denied.judged(&self.blobs)?;
                    if let Some(held) = held {
                        let _ = sink.send(held).await; // a closed sink reports its own failure
                    }
                    return Ok(());
                }
            }
            while let Some(hydrated) = ready.meanwhile(advance(&mut assembly)).await? {
                // Hold back one batch until it is clear that the store grants access: no file may
                // contain rows without their objects before that.
                let suspect = denied.is_suspect(&self.blobs);
                if suspect && held.is_some() {
                    denied.judged(&self.blobs)?;
                }
                let before = held.take();
                let hydrated = if suspect {
                    held = Some(hydrated);
                    None
                } else {
                    Some(hydrated)
                };
                for hydrated in before.into_iter().chain(hydrated) {
                    if ready.meanwhile(sink.send(hydrated)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            assembly = assembly.filter(|assembly| !assembly.is_done());
        }
    }

    /// Fetches a field's text. A missing object may have moved when its trace's retention was
    /// extended, so its row's pointers are read again.
    async fn fetch(
        &self,
        slice: &Slice,
        batch: &RecordBatch,
        cell: &Cell,
        turn: &mut Turn,
    ) -> Result<String, FetchError> {
        let pointer = cell.pointer.clone()?;
        let owner = Owner { tenant: slice.tenant, session: slice.session };
        let outcome = match &cell.repeated {
            Some(repeated) => {
                repeated
                    .or_fetch(turn, async |turn| {
                        self.blobs.fetch(owner, cell.column, &pointer, turn).await
                    })
                    .await
            }
            None => self.blobs.fetch(owner, cell.column, &pointer, turn).await,
        };
        let gone = match outcome {
            // A store may answer "denied" for a missing object if the reader may not list.
            Err(FetchError::Miss(miss @ (Miss::NotFound | Miss::Denied(_)))) => {
                FetchError::Miss(miss)
            }
            outcome => return outcome,
        };
        let place = place(batch, cell.row).map_err(FetchError::Failure)?;
        let now = self.source.pointer(slice, place, cell.column);
        let Some(now) = now.await.map_err(FetchError::Failure)? else { return Err(gone) };
        match pointer::decode(self.source.schema(), cell.column, &now) {
            Ok(Some(moved)) if moved != pointer => {
                self.blobs.fetch(owner, cell.column, &moved, turn).await
            }
            _ => Err(gone),
        }
    }
}

/// Denied objects of a task, while the store has returned none.
#[derive(Debug, Default)]
struct Denied {
    objects: u32,
    answer: String,
}

/// After this many denied objects and none returned, the store is at fault, not the objects.
const DENIED_ALL: u32 = 16;

impl Denied {
    /// A failure once it is clear that the store grants no access at all.
    fn judge(
        &mut self,
        found: &Result<String, FetchError>,
        blobs: &BlobStore,
    ) -> Result<(), Failure> {
        let Err(FetchError::Miss(Miss::Denied(answer))) = found else { return Ok(()) };
        self.objects += 1;
        self.answer.clone_from(answer);
        if self.objects >= DENIED_ALL { self.judged(blobs) } else { Ok(()) }
    }

    /// Whether several objects were requested and none was returned. A single missing object is
    /// normal.
    fn is_suspect(&self, blobs: &BlobStore) -> bool {
        self.objects > 1 && !blobs.gives()
    }

    /// A failure while that is the case.
    fn judged(&self, blobs: &BlobStore) -> Result<(), Failure> {
        if self.is_suspect(blobs) { Err(blob::refuses_all(&self.answer)) } else { Ok(()) }
    }
}

/// The next rows of a batch that are ready. Their content is decided off the reactor.
async fn advance(assembly: &mut Option<Assembly>) -> Result<Option<Hydrated>, Failure> {
    let Some(mut own) = assembly.take() else { return Ok(None) };
    let (own, next) = if own.is_to_decide() {
        let decide = move || {
            let next = own.next();
            (own, next)
        };
        tasks::off_reactor(decide).await.map_err(|panic| panicked(&panic))?
    } else {
        let next = own.next();
        (own, next)
    };
    *assembly = Some(own);
    next
}

fn panicked(panic: &dyn std::fmt::Display) -> Failure {
    let detail = format!("rows could not be decided: {panic}");
    Failure { step: Step::Hydrate, class: FailureClass::Internal, detail }
}

/// How to find the offloaded fields of a batch.
struct Prepare {
    slice: Arc<Slice>,
    schema: Arc<SourceSchema>,
    abandoned: Abandoned,
    /// How many bytes a batch may keep for objects that several of its fields point to.
    repeated_bytes: u64,
}

impl Prepare {
    async fn read(&self, batch: RecordBatch, room: OwnedSemaphorePermit) -> Result<Read, Failure> {
        let decider = ContentFilter::of(&self.slice, &batch, &self.abandoned)?;
        let (slice, schema) = (self.slice.clone(), self.schema.clone());
        let repeated_bytes = self.repeated_bytes;
        let decides = decider.is_some();
        let work = move || {
            let mut cells = cells(&batch, &slice, &schema, decider.as_ref())?;
            Repeated::mark(&mut cells, repeated_bytes);
            Ok(Read { batch: Arc::new(batch), cells, decider, room })
        };
        if decides {
            tasks::off_reactor(work).await.map_err(|panic| panicked(&panic))?
        } else {
            work()
        }
    }
}

/// All batches, each followed by its offloaded fields in row order.
fn items<'a>(
    rows: &'a mut Rows,
    prepare: &'a Prepare,
    budget: &'a Arc<Budget>,
    room: &'a Arc<Semaphore>,
) -> impl Stream<Item = Result<Item, Failure>> + 'a {
    let batches = stream::unfold(rows, move |rows| async move {
        let room = room.clone().acquire_owned().await.ok()?;
        let read = match rows.next().await.transpose()? {
            Ok(batch) => prepare.read(batch, room).await,
            Err(failure) => Err(failure),
        };
        Some((read, rows))
    });
    let mut index = 0;
    batches.flat_map(move |read| {
        let items: Vec<_> = match read {
            Err(failure) => vec![Err(failure)],
            Ok(read) => {
                let mut fields = Vec::with_capacity(read.cells.len() + 1);
                fields.extend(read.cells.iter().zip(index..).map(|(cell, index)| {
                    Ok(Item::Field(read.batch.clone(), cell.clone(), budget.turn(index)))
                }));
                index += fields.len() as u64;
                fields.insert(0, Ok(Item::Batch(read)));
                fields
            }
        };
        stream::iter(items)
    })
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef, Failure> {
    batch.column_by_name(&out(name)).ok_or_else(|| unexpected(batch))
}

/// The position of a row in the partition's order.
fn place(batch: &RecordBatch, row: usize) -> Result<Cursor, Failure> {
    source::place(batch, row).ok_or_else(|| unexpected(batch))
}

pub(crate) fn unexpected(batch: &RecordBatch) -> Failure {
    let columns: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let detail =
        format!("ClickHouse answered other columns than were asked for: {}", columns.join(", "));
    Failure { step: Step::Read, class: FailureClass::Internal, detail }
}

/// The columns of this slice that go into the file.
fn exported(slice: &Slice) -> (&Columns, FormatVersion) {
    (&slice.columns, slice.version)
}
