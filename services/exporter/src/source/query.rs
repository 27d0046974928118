//! The SQL of the source, as pure text. Values are parameters (`{name:Type}`), never inlined. What
//! the tables look like comes from the [schema](super::schema).

mod conditions;
mod count;
mod moved;

use std::iter::repeat_n;

use tracelift_core::{
    column::{Column, ColumnType, Columns},
    export::FormatVersion,
};

use super::{
    filter::Pushdown,
    merging::Merging,
    schema::{MAX_POINTER_COLUMNS, SourceSchema, VersionedTable},
    versions::Versions,
};
pub(super) use conditions::{newest_first, of_project};
use conditions::{row_order, within};
pub(super) use count::{count, counts, extent};
pub(super) use moved::{moved, sizes};

/// Which rows to select, and what determines those that count.
#[derive(Debug, Clone, Copy)]
pub(super) struct RenderedQuery<'a> {
    pub(super) schema: &'a SourceSchema,
    pub(super) merging: Merging,
    /// Whether ids of the slice also occur at other start times; if so, each counts where its
    /// newest version is.
    pub(super) moved: bool,
    pub(super) filter: Option<&'a Pushdown>,
    /// Whether to start after a cursor.
    pub(super) resumes: bool,
}

/// Selects the rows of a slice in the order (start_time, id as text), starting after a cursor if
/// there is one.
///
/// Selects the exported columns with the result's types (except feedback, which
/// [`super::feedback`] looks up, and tenant and project, which are known); then `id` and
/// `start_time` if not exported (for the cursor); then what decides a filter on content; then the
/// pointers of offloaded columns that are exported or decide; then what identifies unmerged
/// versions. ClickHouse Strings hold arbitrary bytes, which `text` turns into text.
pub(super) fn rows(
    asked: &RenderedQuery<'_>,
    columns: &Columns,
    version: FormatVersion,
    versions: Versions,
) -> String {
    let table = &asked.schema.runs.versioned;
    let selected = [
        exported(asked.schema, columns, version),
        deciding(asked, columns, version),
        pointing(asked, columns),
        unmerged(asked, versions),
    ];
    let (merged, only, order) = match versions {
        Versions::Merged => (" FINAL", asked.only(), String::new()),
        Versions::AsStored => ("", String::new(), String::new()),
        // The order of versions decides which of them count; only then does it matter whether they
        // match.
        Versions::Neighbours => ("", String::new(), format!(", {}", newest_first(table, "r"))),
    };
    format!(
        "SELECT {}\nFROM {} AS r{merged}\nWHERE {}{only}\nORDER BY {}{order}",
        selected.concat().join(",\n       "),
        table.name,
        asked.keys(),
        row_order(table)
    )
}

/// The exported columns of the table, and those of the cursor.
fn exported(schema: &SourceSchema, columns: &Columns, version: FormatVersion) -> Vec<String> {
    let elsewhere = [Column::Feedbacks, Column::TenantId, Column::SessionId];
    let of_table = columns.iter().filter(|column| !elsewhere.contains(column));
    let of_cursor = [Column::Id, Column::StartTime];
    let of_cursor = of_cursor.into_iter().filter(|column| !columns.contains(*column));
    of_table
        .chain(of_cursor)
        .map(|column| aliased(&expression(schema, column, version), column.name()))
        .collect()
}

/// What decides a filter on content, with the content that is not exported.
fn deciding(asked: &RenderedQuery<'_>, columns: &Columns, version: FormatVersion) -> Vec<String> {
    let Some(filter) = asked.filter else { return Vec::new() };
    let Some(undecided) = &filter.undecided else { return Vec::new() };
    let mut selected = vec![aliased(&format!("toBool({undecided})"), UNDECIDED)];
    let questions = filter.questions.iter().enumerate();
    selected.extend(
        questions.map(|(index, question)| aliased(&format!("toBool({question})"), &answer(index))),
    );
    let hidden = filter.content.iter().filter(|column| !columns.contains(**column));
    selected.extend(hidden.map(|column| {
        let content = expression(asked.schema, *column, version);
        aliased(&format!("if({undecided}, {content}, NULL)"), column.name())
    }));
    selected
}

/// The pointers of the fields that are exported or decide.
fn pointing(asked: &RenderedQuery<'_>, columns: &Columns) -> Vec<String> {
    let deciding: &[Column] = asked.filter.map_or(&[], |filter| &filter.content);
    let needed = |field: &Column| columns.contains(*field) || deciding.contains(field);
    let pointers = asked.schema.runs.pointers.iter();
    pointers
        .filter(|pointer| pointer.fields.iter().any(needed))
        .map(|pointer| aliased(&format!("r.{}", pointer.name), &pointer.name))
        .collect()
}

/// What tells unmerged versions apart.
fn unmerged(asked: &RenderedQuery<'_>, versions: Versions) -> Vec<String> {
    let is_deleted = &asked.schema.runs.versioned.is_deleted;
    let withdrawn =
        (versions != Versions::Merged).then(|| aliased(&format!("r.{is_deleted}"), WITHDRAWN));
    let filter = asked.filter.filter(|_| versions == Versions::Neighbours);
    let matches = filter.map(|filter| aliased(&format!("toBool({})", filter.condition), MATCHES));
    withdrawn.into_iter().chain(matches).collect()
}

/// The projects with a reference dataset that have rows in a window: id, and start times of the
/// first and last row in microseconds. The dataset may be that of any row, in the window or not.
pub(super) fn experiments(schema: &SourceSchema, merging: Merging) -> String {
    // Withdrawn rows merely add an empty partition.
    let merged = if merging == Merging::Final { " FINAL" } else { "" };
    let (table, dataset) = (&schema.runs.versioned, &schema.runs.reference_dataset);
    let VersionedTable { name, tenant, project, start_time: time, .. } = table;
    format!(
        "SELECT toString(r.{project}) AS session, toUnixTimestamp64Micro(min(r.{time})), toUnixTimestamp64Micro(max(r.{time}))
FROM {name} AS r{merged}
WHERE r.{tenant} = {{tenant:UUID}}
  AND {}
  AND r.{project} IN (
    SELECT e.{project} FROM {name} AS e{merged} WHERE e.{tenant} = {{tenant:UUID}} AND e.{dataset} IS NOT NULL
  )
GROUP BY r.{project} ORDER BY session LIMIT {{most:UInt64}}",
        within(table)
    )
}

/// Start time in microseconds and id of the first row, after a cursor if there is one.
pub(super) fn next(asked: &RenderedQuery<'_>) -> String {
    let merged = if asked.merging == Merging::Final { " FINAL" } else { "" };
    let table = &asked.schema.runs.versioned;
    let VersionedTable { name, start_time, id, .. } = table;
    format!(
        "SELECT toUnixTimestamp64Micro(r.{start_time}), toString(r.{id}) FROM {name} AS r{merged} WHERE {}{}
ORDER BY {} LIMIT 1",
        asked.keys(),
        asked.only(),
        row_order(table)
    )
}

/// The current pointers of one row: [`MAX_POINTER_COLUMNS`] of them, of which those that the table
/// lacks are empty.
pub(super) fn pointers(schema: &SourceSchema) -> String {
    let table = &schema.runs.versioned;
    let VersionedTable { name, start_time, id, modified_at, .. } = table;
    let selected = schema.runs.pointers.iter().map(|pointer| format!("r.{}", pointer.name));
    let lacking = repeat_n("''".to_owned(), MAX_POINTER_COLUMNS);
    let selected: Vec<_> = selected.chain(lacking).take(MAX_POINTER_COLUMNS).collect();
    format!(
        "SELECT {} FROM {name} AS r
WHERE {} AND r.{start_time} = fromUnixTimestamp64Micro({{time:Int64}}, 'UTC') AND r.{id} = {{id:UUID}}
ORDER BY r.{modified_at} DESC LIMIT 1",
        selected.join(", "),
        of_project(table, "r")
    )
}

/// Describes a table.
pub(crate) const TABLE: &str = "SELECT engine, engine_full, sorting_key FROM system.tables
WHERE database = currentDatabase() AND name = {table:String}";

/// Whether a version of a row withdraws it.
pub(crate) const WITHDRAWN: &str = "withdrawn";

/// Whether a version of a row matches the filter, or may.
pub(crate) const MATCHES: &str = "matches";

/// Whether a row still has to be decided.
pub(crate) const UNDECIDED: &str = "undecided";

/// The column with the answer to a filter's question.
pub(crate) fn answer(index: usize) -> String {
    format!("answer_{index}")
}

/// Kills a query by id, and the queries made on its behalf.
pub(crate) const KILL: &str = "KILL QUERY WHERE query_id = {id:String} OR startsWith(query_id, concat({id:String}, '-')) ASYNC";

/// The name of a result column. It differs from every table column, so that no expression refers to
/// an alias by mistake.
pub(crate) fn out(name: &str) -> String {
    format!("x_{name}")
}

fn aliased(expression: &str, name: &str) -> String {
    format!("{expression} AS {}", out(name))
}

/// The value of a column, with the type of the file if it is a number.
fn expression(schema: &SourceSchema, column: Column, version: FormatVersion) -> String {
    let selected = schema.runs.selected(column);
    match (column.kind(), version) {
        (ColumnType::Int, _) => format!("toInt64({selected})"),
        (ColumnType::Cost, FormatVersion::V1) => format!("toFloat64({selected})"),
        (ColumnType::Cost, FormatVersion::V2Beta)
        | (ColumnType::Text | ColumnType::Timestamp | ColumnType::Bool, _) => selected.to_owned(),
    }
}

#[cfg(test)]
mod tests;
