//! Batches with the offloaded fields filled in: many objects in flight, used in order, bounded in bytes. Rows that turn
//! out not to match the filter once their fields are there go no further.

mod ahead;
mod assemble;
mod decide;
mod repeated;

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracelift_core::{
    column::{Column, Columns},
    export::FormatVersion,
    failure::{Failure, FailureClass, Step},
    file::HydrationMiss,
    filter::Filter,
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    blob::{BlobStore, Miss, NoBlob},
    budget::{Budget, Turn},
    meter::{Meter, Stage},
    pointer::{self, Pointer},
    settings::Limits,
    source::{
        self, Rows, Slice, Source,
        query::{POINTER_COLUMNS, out, pointer_column},
    },
};
use ahead::Ahead;
pub(crate) use assemble::Assembly;
pub(crate) use decide::Decider;
use repeated::Repeated;

/// Rows as they go into the file.
#[derive(Debug)]
pub(crate) struct Hydrated {
    /// The exported columns, in order.
    pub(crate) batch: RecordBatch,
    /// First and last start_time, and the last row's id.
    pub(crate) first: Timestamp,
    pub(crate) last: (Timestamp, Uuid),
    /// Fields that were filled in.
    pub(crate) objects: u64,
    /// Fields that could not be.
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

/// Of the bytes of a batch, so much is for objects that several of its fields point at.
const REPEATED_SHARE: u64 = 4;

/// Source batches that are here at once: the one that is filled in, and the next one, whose objects are fetched already.
const BATCHES: usize = 2;

/// A source batch on its way through this stage, which has room for [`BATCHES`].
struct Read {
    batch: Arc<RecordBatch>,
    cells: Vec<Cell>,
    decider: Option<Decider>,
    room: OwnedSemaphorePermit,
}

/// A source batch, or one field of the batch before it, in the order in which they are used.
enum Item {
    Batch(Read),
    Field(Arc<RecordBatch>, Cell, Turn),
}

/// An item once its object is there.
enum Ready {
    Batch(Read),
    Field(Cell, Result<String, NoBlob>, Turn),
}

/// One offloaded field.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    row: usize,
    column: Column,
    pointer: Result<Pointer, Miss>,
    /// Set when other fields of the batch point at the same object.
    repeated: Option<Arc<Repeated>>,
}

impl Hydrator {
    /// Fills in `rows`, and hands each finished batch to `sink`, until the rows end or the sink has gone.
    pub(crate) async fn run(&self, slice: &Slice, rows: &mut Rows, meter: &Meter, sink: &mpsc::Sender<Hydrated>) -> Result<(), Failure> {
        let (budget, room) = (Budget::new(self.limits.batch_bytes), Arc::new(Semaphore::new(BATCHES)));
        let items = items(rows, slice, &budget, &room, self.limits.batch_bytes / REPEATED_SHARE);
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
        let mut ready = Ahead::of(ready, self.concurrency);
        let mut assembly: Option<Assembly<'_>> = None;
        loop {
            let waiting = meter.time(if assembly.is_some() { Stage::Hydrate } else { Stage::Read });
            let next = ready.next().await;
            drop(waiting);
            match next.transpose()? {
                Some(Ready::Batch(read)) => assembly = Some(Assembly::new(slice, read, self.limits.batch_bytes)),
                Some(Ready::Field(cell, found, _turn)) => {
                    if let Some(assembly) = &mut assembly {
                        assembly.fill(&cell, found, meter)?;
                    }
                }
                None => return Ok(()),
            }
            while let Some(hydrated) = assembly.as_mut().map(Assembly::next).transpose()?.flatten() {
                if ready.meanwhile(sink.send(hydrated)).await.is_err() {
                    return Ok(());
                }
            }
            assembly = assembly.filter(|assembly| !assembly.is_done());
        }
    }

    /// A field's text. An object that is gone may have moved when its trace's retention was extended: its row is asked again.
    async fn fetch(&self, slice: &Slice, batch: &RecordBatch, cell: &Cell, turn: &mut Turn) -> Result<String, NoBlob> {
        let pointer = cell.pointer.clone()?;
        let outcome = match &cell.repeated {
            Some(repeated) => repeated.or_fetch(turn, async |turn| self.blobs.fetch(cell.column, &pointer, turn).await).await,
            None => self.blobs.fetch(cell.column, &pointer, turn).await,
        };
        let gone = match outcome {
            Err(NoBlob::Miss(Miss::NotFound)) => NoBlob::Miss(Miss::NotFound),
            outcome => return outcome,
        };
        let (time, id) = place(batch, cell.row).map_err(NoBlob::Failure)?;
        let Some(now) = self.source.pointers(slice, time, id).await.map_err(NoBlob::Failure)? else { return Err(gone) };
        let index = POINTER_COLUMNS.iter().position(|name| *name == pointer_column(cell.column)).unwrap_or_default();
        match pointer::decode(cell.column, &now[index]) {
            Ok(Some(moved)) if moved != pointer => self.blobs.fetch(cell.column, &moved, turn).await,
            _ => Err(gone),
        }
    }
}

/// Every batch, each followed by its offloaded fields in row order.
fn items<'a>(
    rows: &'a mut Rows,
    slice: &'a Slice,
    budget: &'a Arc<Budget>,
    room: &'a Arc<Semaphore>,
    repeated_bytes: u64,
) -> impl Stream<Item = Result<Item, Failure>> + 'a {
    let batches = stream::unfold(rows, move |rows| async move {
        let room = room.clone().acquire_owned().await.ok()?;
        rows.next().await.transpose().map(|next| (next.map(|batch| (batch, room)), rows))
    });
    let mut index = 0;
    batches.flat_map(move |batch| {
        let read = batch.and_then(|(batch, room)| {
            let decider = Decider::of(slice, &batch)?;
            let mut cells = cells(&batch, slice, decider.as_ref())?;
            Repeated::mark(&mut cells, repeated_bytes);
            Ok(Read { batch: Arc::new(batch), cells, decider, room })
        });
        let items: Vec<_> = match read {
            Err(failure) => vec![Err(failure)],
            Ok(read) => {
                let mut fields = Vec::with_capacity(read.cells.len() + 1);
                fields.extend(
                    read.cells
                        .iter()
                        .zip(index..)
                        .map(|(cell, index)| Ok(Item::Field(read.batch.clone(), cell.clone(), budget.turn(index)))),
                );
                index += fields.len() as u64;
                fields.insert(0, Ok(Item::Batch(read)));
                fields
            }
        };
        stream::iter(items)
    })
}

/// The offloaded fields of a batch that are needed, by row and then by column. A field with an inline value is not
/// offloaded. Of a row that does not match none is needed; of one that matches whatever is in them, those that are exported.
pub(crate) fn cells(batch: &RecordBatch, slice: &Slice, decider: Option<&Decider>) -> Result<Vec<Cell>, Failure> {
    let exported = |column: Column| slice.columns.contains(column);
    let deciding = slice.filter.as_ref().map(Filter::content).unwrap_or_default();
    let mut sources = Vec::new();
    for column in Column::ALL.iter().copied().filter(|column| column.offloadable()) {
        if exported(column) || deciding.contains(&column) {
            let pointers = named(batch, pointer_column(column))?.as_string_opt::<i32>().ok_or_else(|| unexpected(batch))?;
            sources.push((column, named(batch, column.name())?.clone(), pointers));
        }
    }
    let mut needed = Vec::new();
    for row in 0..batch.num_rows() {
        let found: Vec<_> = sources
            .iter()
            .filter(|(_, inline, pointers)| !pointers.value(row).is_empty() && !inline.is_valid(row))
            .filter_map(|(column, _, pointers)| {
                let pointer = pointer::decode(*column, pointers.value(row)).map_err(Miss::Pointer).transpose()?;
                Some(Cell { row, column: *column, pointer, repeated: None })
            })
            .collect();
        let matches = decider.map_or(Some(true), |decider| decider.at_first(row, &found.iter().collect::<Vec<_>>()));
        needed.extend(found.into_iter().filter(|cell| match matches {
            Some(matches) => matches && exported(cell.column),
            None => true,
        }));
    }
    Ok(needed)
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef, Failure> {
    batch.column_by_name(&out(name)).ok_or_else(|| unexpected(batch))
}

/// The place of a row in the order of the run.
fn place(batch: &RecordBatch, row: usize) -> Result<(Timestamp, Uuid), Failure> {
    let found = source::place(batch, row).ok_or_else(|| unexpected(batch))?;
    Ok((found.start_time, found.id))
}

pub(crate) fn unexpected(batch: &RecordBatch) -> Failure {
    let columns: Vec<_> = batch.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let detail = format!("ClickHouse answered other columns than were asked for: {}", columns.join(", "));
    Failure { step: Step::Read, class: FailureClass::Internal, detail }
}

/// Which columns a batch of this slice has in the file.
fn exported(slice: &Slice) -> (&Columns, FormatVersion) {
    (&slice.columns, slice.version)
}
