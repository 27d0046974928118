//! The schema of the trace store as data: tables, keys, versions, the SQL of each exported column,
//! and where the pointers to offloaded fields are. Queries, filters, merging and the decoding of
//! pointers read all of this from here.
//!
//! Each source has a file of its own below this one; `schema/reference.rs` is the only one.

mod reference;

use tracelift_core::column::Column;

use crate::settings::ClickHouse;

/// The tables of a source. SQL expressions refer to a trace row as `r` and to feedback as `f`.
#[derive(Debug, Clone)]
pub struct SourceSchema {
    pub(crate) runs: RunsTable,
    pub(crate) feedbacks: FeedbacksTable,
}

/// The columns of a table that tell rows and their versions apart.
#[derive(Debug, Clone)]
pub(crate) struct VersionedTable {
    pub(crate) name: String,
    pub(crate) tenant: String,
    pub(crate) project: String,
    pub(crate) start_time: String,
    pub(crate) id: String,
    /// The version of a row: the one with the greatest value is the newest.
    pub(crate) modified_at: String,
    /// Whether a version withdraws the row; of two that are equally new, the one that does counts.
    pub(crate) is_deleted: String,
}

/// The table of the trace rows.
#[derive(Debug, Clone)]
pub(crate) struct RunsTable {
    pub(crate) versioned: VersionedTable,
    /// When a version arrived: decides between versions of an id at different start times.
    pub(crate) inserted_at: String,
    /// The reference dataset of the row's project; null if the project is no experiment.
    pub(crate) reference_dataset: String,
    pub(crate) columns: Vec<ColumnSql>,
    /// At most [`MAX_POINTER_COLUMNS`].
    pub(crate) pointers: Vec<PointerColumn>,
    /// The columns whose inline text makes rows wide; their lengths are added up.
    pub(crate) measured: Vec<Column>,
}

/// The most columns with pointers that a table can have.
pub(crate) const MAX_POINTER_COLUMNS: usize = 3;

/// How an exported column is read.
#[derive(Debug, Clone)]
pub(crate) struct ColumnSql {
    pub(crate) column: Column,
    /// The value that filters compare and whose length is measured.
    pub(crate) value: String,
    /// Whether that can be null.
    pub(crate) nullable: bool,
    /// The value that is selected: a UUID as its 16 bytes, a list as JSON, a number in any type.
    pub(crate) selected: String,
}

/// A column with pointers to offloaded fields.
#[derive(Debug, Clone)]
pub(crate) struct PointerColumn {
    pub(crate) name: String,
    /// The fields whose pointers it holds.
    pub(crate) fields: Vec<Column>,
    pub(crate) entry: PointerEntry,
}

/// The name of a pointer within a pointer column's JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointerEntry {
    /// `ROOT`: the column holds one pointer.
    Root,
    /// The name of the exported column: it holds the pointers of several.
    ColumnName,
}

/// The table of the feedback.
#[derive(Debug, Clone)]
pub(crate) struct FeedbacksTable {
    pub(crate) versioned: VersionedTable,
    /// The id of the trace row.
    pub(crate) run_id: String,
    /// The order of the feedback on one row.
    pub(crate) created_at: String,
    /// The key, score and value that filters compare.
    pub(crate) key: String,
    pub(crate) score: String,
    pub(crate) value: String,
    pub(crate) fields: Vec<FeedbackFieldSql>,
}

/// How a field of exported feedback is read.
#[derive(Debug, Clone)]
pub(crate) struct FeedbackFieldSql {
    pub(crate) field: &'static str,
    pub(crate) selected: String,
}

impl SourceSchema {
    /// The schema of the configured source.
    pub(super) fn of(settings: &ClickHouse) -> Self {
        Self::reference(&settings.runs_table, &settings.feedbacks_table)
    }
}

impl VersionedTable {
    /// The sorting key with which the engine merges exactly the versions of a row, as
    /// `system.tables` reports it.
    pub(super) fn sorting_key(&self) -> String {
        [&self.tenant, &self.project, &self.start_time, &self.id].map(String::as_str).join(", ")
    }

    /// The arguments with which ReplacingMergeTree keeps the newest version.
    pub(super) fn replacing_arguments(&self) -> [&str; 2] {
        [&self.modified_at, &self.is_deleted]
    }
}

/// What stands for a value that the source lacks.
const MISSING: &str = "NULL";

impl RunsTable {
    fn column(&self, column: Column) -> Option<&ColumnSql> {
        self.columns.iter().find(|sql| sql.column == column)
    }

    /// The value of a column that filters compare.
    pub(crate) fn value(&self, column: Column) -> &str {
        self.column(column).map_or(MISSING, |sql| &sql.value)
    }

    /// Whether that can be null.
    pub(crate) fn is_nullable(&self, column: Column) -> bool {
        self.column(column).is_none_or(|sql| sql.nullable)
    }

    /// The value of a column that is selected.
    pub(crate) fn selected(&self, column: Column) -> &str {
        self.column(column).map_or(MISSING, |sql| &sql.selected)
    }

    /// The column that holds a field's pointer; `None` if the field is never offloaded.
    pub(crate) fn pointer_column(&self, field: Column) -> Option<&PointerColumn> {
        self.pointers.iter().find(|pointer| pointer.fields.contains(&field))
    }
}

impl FeedbacksTable {
    /// The value of a field that is selected.
    pub(super) fn selected(&self, field: &str) -> &str {
        self.fields.iter().find(|sql| sql.field == field).map_or(MISSING, |sql| &sql.selected)
    }
}
