//! Batches with the offloaded fields filled in: many objects in flight, used in order, bounded in bytes. Rows that turn
//! out not to match the filter once their fields are there go no further.

mod assemble;
mod decide;
mod repeated;

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
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

/// A source batch, or one field of the batch before it, in the order in which they are used.
enum Item {
    Batch(Arc<RecordBatch>, Vec<Cell>, Option<Decider>),
    Field(Arc<RecordBatch>, Cell, Turn),
}

/// An item once its object is there.
enum Ready {
    Batch(Arc<RecordBatch>, Vec<Cell>, Option<Decider>),
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
        let budget = Budget::new(self.limits.batch_bytes);
        let items = items(rows, slice, &budget, self.limits.batch_bytes / REPEATED_SHARE, meter);
        let ready = items.map(|item| async {
            Ok::<_, Failure>(match item? {
                Item::Batch(batch, cells, decider) => Ready::Batch(batch, cells, decider),
                Item::Field(batch, cell, mut turn) => {
                    let found = self.fetch(slice, &batch, &cell, &mut turn).await;
                    Ready::Field(cell, found, turn)
                }
            })
        });
        let mut ready = std::pin::pin!(ready.buffered(self.concurrency));
        let mut assembly: Option<Assembly<'_>> = None;
        loop {
            let waiting = meter.time(Stage::Hydrate);
            let next = ready.next().await;
            drop(waiting);
            let Some(next) = next else { return Ok(()) };
            match next? {
                Ready::Batch(batch, cells, decider) => {
                    assembly = Some(Assembly::new(slice, batch, cells, decider, self.limits.batch_bytes));
                }
                Ready::Field(cell, found, _turn) => {
                    if let Some(assembly) = &mut assembly {
                        assembly.fill(&cell, found, meter)?;
                    }
                }
            }
            while let Some(hydrated) = assembly.as_mut().map(Assembly::next).transpose()?.flatten() {
                if sink.send(hydrated).await.is_err() {
                    return Ok(());
                }
            }
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
    repeated_bytes: u64,
    meter: &'a Meter,
) -> impl Stream<Item = Result<Item, Failure>> + 'a {
    let batches = stream::unfold(rows, move |rows| async move {
        let reading = meter.time(Stage::Read);
        let next = rows.next().await;
        drop(reading);
        next.transpose().map(|next| (next, rows))
    });
    let mut index = 0;
    batches.flat_map(move |batch| {
        let read = batch.and_then(|batch| {
            let decider = Decider::of(slice, &batch)?;
            let mut cells = cells(&batch, slice, decider.as_ref())?;
            Repeated::mark(&mut cells, repeated_bytes);
            Ok((cells, decider, Arc::new(batch)))
        });
        let items: Vec<_> = match read {
            Err(failure) => vec![Err(failure)],
            Ok((cells, decider, batch)) => {
                let mut items = Vec::with_capacity(cells.len() + 1);
                items.push(Ok(Item::Batch(batch.clone(), cells.clone(), decider)));
                for cell in cells {
                    items.push(Ok(Item::Field(batch.clone(), cell, budget.turn(index))));
                    index += 1;
                }
                items
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
