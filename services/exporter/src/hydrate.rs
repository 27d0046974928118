//! Batches with the offloaded fields filled in: many objects in flight, used in order, bounded in bytes.

mod assemble;

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tracelift_core::{
    column::{Column, Columns},
    export::FormatVersion,
    failure::{Failure, FailureClass, Step},
    file::HydrationMiss,
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
use assemble::Assembly;

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

/// A source batch, or one field of the batch before it, in the order in which they are used.
enum Item {
    Batch(Arc<RecordBatch>, Vec<Cell>),
    Field(Arc<RecordBatch>, Cell, Turn),
}

/// An item once its object is there.
enum Ready {
    Batch(Arc<RecordBatch>, Vec<Cell>),
    Field(Cell, Result<String, NoBlob>, Turn),
}

/// One offloaded field.
#[derive(Debug, Clone)]
struct Cell {
    row: usize,
    column: Column,
    pointer: Result<Pointer, Miss>,
}

impl Hydrator {
    /// Fills in `rows`, and hands each finished batch to `sink`, until the rows end or the sink has gone.
    pub(crate) async fn run(&self, slice: &Slice, rows: &mut Rows, meter: &Meter, sink: &mpsc::Sender<Hydrated>) -> Result<(), Failure> {
        let offloaded: Vec<_> = slice.columns.iter().filter(|column| column.offloadable()).collect();
        let budget = Budget::new(self.limits.batch_bytes);
        let items = items(rows, &offloaded, &budget, meter);
        let ready = items.map(|item| async {
            Ok::<_, Failure>(match item? {
                Item::Batch(batch, cells) => Ready::Batch(batch, cells),
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
                Ready::Batch(batch, cells) => assembly = Some(Assembly::new(slice, batch, cells, self.limits.batch_bytes)?),
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
        let gone = match self.blobs.fetch(cell.column, &pointer, turn).await {
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
    offloaded: &'a [Column],
    budget: &'a Arc<Budget>,
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
        let items: Vec<_> = match batch.and_then(|batch| Ok((cells(&batch, offloaded)?, Arc::new(batch)))) {
            Err(failure) => vec![Err(failure)],
            Ok((cells, batch)) => {
                let mut items = Vec::with_capacity(cells.len() + 1);
                items.push(Ok(Item::Batch(batch.clone(), cells.clone())));
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

/// The offloaded fields of a batch, by row and then by column. A field with an inline value is not offloaded.
fn cells(batch: &RecordBatch, offloaded: &[Column]) -> Result<Vec<Cell>, Failure> {
    let mut found = Vec::new();
    let mut sources = Vec::with_capacity(offloaded.len());
    for column in offloaded {
        let pointers = named(batch, pointer_column(*column))?.as_string_opt::<i32>().ok_or_else(|| unexpected(batch))?;
        sources.push((*column, named(batch, column.name())?.clone(), pointers));
    }
    for row in 0..batch.num_rows() {
        for (column, inline, pointers) in &sources {
            let text = pointers.value(row);
            if text.is_empty() || inline.is_valid(row) {
                continue;
            }
            match pointer::decode(*column, text) {
                Ok(None) => {}
                Ok(Some(pointer)) => found.push(Cell { row, column: *column, pointer: Ok(pointer) }),
                Err(reason) => found.push(Cell { row, column: *column, pointer: Err(Miss::Pointer(reason)) }),
            }
        }
    }
    Ok(found)
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef, Failure> {
    batch.column_by_name(&out(name)).ok_or_else(|| unexpected(batch))
}

/// The place of a row in the order of the run.
fn place(batch: &RecordBatch, row: usize) -> Result<(Timestamp, Uuid), Failure> {
    let found = source::place(batch, row).ok_or_else(|| unexpected(batch))?;
    Ok((found.start_time, found.id))
}

fn unexpected(batch: &RecordBatch) -> Failure {
    let columns: Vec<_> = batch.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let detail = format!("ClickHouse answered other columns than were asked for: {}", columns.join(", "));
    Failure { step: Step::Read, class: FailureClass::Internal, detail }
}

/// Which columns a batch of this slice has in the file.
fn exported(slice: &Slice) -> (&Columns, FormatVersion) {
    (&slice.columns, slice.version)
}
