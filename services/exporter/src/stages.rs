//! The pure stages of the data path, one at a time on a single thread, for micro-benchmarks only.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tracelift_core::{
    column::{Column, Columns},
    export::{Compression, ExportSpec, FileFormat, FormatVersion, Projects},
    failure::Failure,
    file::LeftOut,
    id::{DestinationId, ExportId, SessionId, TaskId, TenantId},
    time::{Timestamp, Window},
};
use uuid::Uuid;

use crate::{
    Limits,
    encode::{self, Encoded},
    file_schema::FileProvenance,
    hydrate::{Assembly, HydratedRows, cells},
    meter::Meter,
    pointer,
    source::{Slice, schema::SourceSchema},
};

/// The stages for rows with these columns.
#[derive(Debug)]
pub struct Stages {
    slice: Arc<Slice>,
    schema: SourceSchema,
}

impl Stages {
    /// For format version 1.
    #[must_use]
    pub fn of(columns: &Columns) -> Option<Self> {
        let window = Window::new(Timestamp::from_micros(0)?, Timestamp::from_micros(1)?)?;
        let (tenant, session) = (TenantId(Uuid::nil()), SessionId(Uuid::nil()));
        let (columns, version) = (columns.clone(), FormatVersion::V1);
        Some(Self {
            slice: Arc::new(Slice {
                tenant,
                session,
                window,
                of_export: window,
                columns,
                version,
                filter: None,
                cursor: None,
                batch_shrink: 0,
            }),
            schema: SourceSchema::reference("runs", "feedbacks"),
        })
    }

    /// Whether `text` holds a pointer of `column`.
    #[must_use]
    pub fn pointer(&self, column: Column, text: &str) -> bool {
        pointer::decode(&self.schema, column, text).is_ok_and(|found| found.is_some())
    }

    /// Builds the file's rows from a ClickHouse batch, with `text` in each offloaded field.
    pub fn hydrate(&self, batch: &Arc<RecordBatch>, text: &str) -> Result<RecordBatch, String> {
        self.hydrated(batch, text).map(|rows| rows.batch).map_err(told)
    }

    /// Encodes ClickHouse batches into a file; returns its size in bytes.
    pub fn encode(
        &self,
        batches: &[Arc<RecordBatch>],
        compression: Compression,
    ) -> Result<usize, String> {
        let rows = batches
            .iter()
            .map(|batch| self.hydrated(batch, ""))
            .collect::<Result<Vec<_>, _>>()
            .map_err(told)?;
        self.encoded(rows, compression).map_err(told)
    }

    fn hydrated(&self, batch: &Arc<RecordBatch>, text: &str) -> Result<HydratedRows, Failure> {
        let (cells, meter) = (cells(batch, &self.slice, &self.schema, None)?, Meter::default());
        let mut assembly =
            Assembly::alone(self.slice.clone(), batch.clone(), cells.clone(), None, u64::MAX);
        cells.iter().try_for_each(|cell| assembly.fill(cell, Ok(text.to_owned()), &meter))?;
        let hydrated = assembly.next()?.and_then(|hydrated| hydrated.rows);
        hydrated.ok_or_else(|| crate::hydrate::unexpected(batch))
    }

    fn encoded(&self, rows: Vec<HydratedRows>, compression: Compression) -> Result<usize, Failure> {
        let spec = ExportSpec {
            destination: DestinationId(Uuid::nil()),
            projects: Projects::One(self.slice.session),
            window: self.slice.window,
            every: None,
            compression,
            format: FileFormat::Parquet,
            format_version: self.slice.version,
            columns: self.slice.columns.clone(),
            filter: None,
        };
        let provenance =
            FileProvenance { export: ExportId(Uuid::nil()), task: TaskId(Uuid::nil()) };
        let limits: Limits = crate::Settings::defaults().limits;
        let encoder = encode::encoder(&spec, provenance, limits, Arc::default());
        let (mut open, mut bytes) = (None, 0);
        for rows in rows {
            let advanced = encode::step(encoder.clone(), open.take(), rows, LeftOut::default())?;
            (open, bytes) = (advanced.open, bytes + size(&advanced.encoded));
        }
        Ok(bytes + open.map(|file| file.close()).transpose()?.map_or(0, |rest| size(&rest)))
    }
}

fn size(encoded: &[Encoded]) -> usize {
    encoded.iter().map(|part| if let Encoded::Part(bytes) = part { bytes.len() } else { 0 }).sum()
}

fn told(failure: Failure) -> String {
    failure.detail
}
