//! The reference schema: the tables of `deploy/clickhouse/schema.sql`.

use tracelift_core::column::{Column, ColumnType};

use super::{
    ColumnSql, FeedbackFieldSql, FeedbacksTable, PointerColumn, PointerEntry, RunsTable,
    SourceSchema, VersionedTable,
};
use crate::source::feedback::{FIELDS, Kind};

impl SourceSchema {
    /// The reference schema, with these names of the tables.
    #[must_use]
    pub fn reference(runs: &str, feedbacks: &str) -> Self {
        Self { runs: runs_table(runs), feedbacks: feedbacks_table(feedbacks) }
    }
}

fn runs_table(name: &str) -> RunsTable {
    let of_others = [Column::Extra, Column::Error, Column::Events];
    RunsTable {
        versioned: versioned(name),
        inserted_at: "inserted_at".to_owned(),
        reference_dataset: "reference_dataset_id".to_owned(),
        columns: Column::ALL.iter().copied().filter_map(column).collect(),
        pointers: vec![
            pointers("inputs_s3_urls", PointerEntry::Root, &[Column::Inputs]),
            pointers("outputs_s3_urls", PointerEntry::Root, &[Column::Outputs]),
            pointers("s3_urls", PointerEntry::ColumnName, &of_others),
        ],
        measured: vec![
            Column::Inputs,
            Column::Outputs,
            Column::Error,
            Column::Extra,
            Column::Events,
        ],
    }
}

fn feedbacks_table(name: &str) -> FeedbacksTable {
    FeedbacksTable {
        versioned: versioned(name),
        run_id: "run_id".to_owned(),
        created_at: "created_at".to_owned(),
        key: "f.key".to_owned(),
        score: "f.score".to_owned(),
        value: "f.value".to_owned(),
        fields: FIELDS.map(|(name, kind)| feedback_field(name, kind)).to_vec(),
    }
}

/// Both tables have the same key and versions.
fn versioned(name: &str) -> VersionedTable {
    VersionedTable {
        name: name.to_owned(),
        tenant: "tenant_id".to_owned(),
        project: "session_id".to_owned(),
        start_time: "start_time".to_owned(),
        id: "id".to_owned(),
        modified_at: "modified_at".to_owned(),
        is_deleted: "is_deleted".to_owned(),
    }
}

fn pointers(name: &str, entry: PointerEntry, fields: &[Column]) -> PointerColumn {
    PointerColumn { name: name.to_owned(), fields: fields.to_vec(), entry }
}

/// `None` for feedback, which is in the other table, and for tenant and project, which are known.
/// Every other column has its own name in the table, except the path of parents, which is part of
/// `dotted_order`.
fn column(column: Column) -> Option<ColumnSql> {
    let stored = format!("r.{}", column.name());
    let (value, selected) = match column {
        Column::Feedbacks | Column::TenantId | Column::SessionId => return None,
        Column::ParentRunIds => {
            let path = "arrayPopBack(splitByChar('.', toValidUTF8(r.dotted_order)))";
            let ids = format!("arrayMap(part -> substring(part, position(part, 'Z') + 1), {path})");
            (ids.clone(), format!("toJSONString({ids})"))
        }
        Column::Tags => {
            (stored, "toJSONString(arrayMap(tag -> toValidUTF8(tag), r.tags))".to_owned())
        }
        // Its 16 bytes, which `text` formats. Older servers lack an Arrow type for UUIDs.
        Column::Id | Column::TraceId | Column::ParentRunId | Column::ReferenceExampleId => {
            let selected = format!("reinterpret({stored}, 'FixedString(16)')");
            (stored, selected)
        }
        Column::RunType | Column::Status | Column::TraceTier => {
            let text = format!("toString({stored})");
            (text.clone(), text)
        }
        Column::Name | Column::DottedOrder => {
            let selected = format!("toString({stored})");
            (stored, selected)
        }
        _ => (stored.clone(), stored),
    };
    Some(ColumnSql { column, value, nullable: is_nullable(column), selected })
}

fn is_nullable(column: Column) -> bool {
    matches!(
        column,
        Column::ParentRunId | Column::ReferenceExampleId | Column::EndTime | Column::FirstTokenTime
    ) || column.kind() == ColumnType::Cost
}

fn feedback_field(field: &'static str, kind: Kind) -> FeedbackFieldSql {
    let selected = match kind {
        Kind::Uuid => format!("toString(f.{field})"),
        Kind::Bool => format!("toBool(f.{field})"),
        Kind::Time | Kind::Score | Kind::Name | Kind::Text | Kind::Json => format!("f.{field}"),
    };
    FeedbackFieldSql { field, selected }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types of a table's columns, by name, as its definition has them.
    fn defined(table: &str) -> Vec<(&'static str, &'static str)> {
        let definitions = include_str!("../../../../../deploy/clickhouse/schema.sql");
        let (_, rest) = definitions.split_once(&format!("EXISTS {table}\n(")).unwrap();
        let (columns, _) = rest.split_once("\n)\n").unwrap();
        columns
            .lines()
            .filter_map(|line| line.split("--").next()?.trim().split_once(' '))
            .map(|(name, kind)| (name, kind.trim().trim_end_matches(',')))
            .collect()
    }

    fn kind(columns: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
        columns.iter().find(|column| column.0 == name).map(|column| column.1)
    }

    /// The columns that an expression names behind an alias.
    fn named<'a>(sql: &'a str, alias: &str) -> Vec<&'a str> {
        let ends = |letter: char| !letter.is_alphanumeric() && letter != '_';
        sql.split(alias).skip(1).filter_map(|rest| rest.split(ends).next()).collect()
    }

    /// The keys of a table, and of these names, that its definition lacks.
    fn undefined<'a>(
        table: &'a VersionedTable,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<&'a str> {
        let columns = defined(&table.name);
        let VersionedTable { tenant, project, start_time, id, modified_at, is_deleted, .. } = table;
        let keys = [tenant, project, start_time, id, modified_at, is_deleted].map(String::as_str);
        let all = keys.into_iter().chain(names);
        all.filter(|name| kind(&columns, name).is_none()).collect()
    }

    #[test]
    fn every_column_of_the_reference_schema_is_defined() {
        let SourceSchema { runs, feedbacks } = SourceSchema::reference("runs", "feedbacks");
        let sql = runs.columns.iter().flat_map(|sql| [&sql.value, &sql.selected]);
        let names = sql.flat_map(|sql| named(sql, "r."));
        let others = [&runs.inserted_at, &runs.reference_dataset].map(String::as_str);
        assert_eq!(undefined(&runs.versioned, names.chain(others)), [""; 0]);
        let names = feedbacks.fields.iter().flat_map(|sql| named(&sql.selected, "f."));
        let others = [&feedbacks.run_id, &feedbacks.created_at].map(String::as_str);
        assert_eq!(undefined(&feedbacks.versioned, names.chain(others)), [""; 0]);
        let columns = defined("runs");
        assert!(runs.pointers.iter().all(|held| kind(&columns, &held.name) == Some("String")));
    }

    #[test]
    fn a_column_is_nullable_where_its_definition_says_so() {
        let (runs, columns) = (SourceSchema::reference("runs", "feedbacks").runs, defined("runs"));
        for sql in runs.columns.iter().filter(|sql| sql.column != Column::ParentRunIds) {
            let kind = kind(&columns, sql.column.name()).unwrap();
            assert_eq!(sql.nullable, kind.starts_with("Nullable("), "{kind} {:?}", sql.column);
        }
    }

    #[test]
    fn every_offloadable_field_has_one_pointer_column() {
        let runs = SourceSchema::reference("runs", "feedbacks").runs;
        assert!(runs.pointers.len() <= super::super::MAX_POINTER_COLUMNS);
        for column in Column::ALL {
            let held = runs.pointers.iter().filter(|held| held.fields.contains(column)).count();
            assert_eq!(held, usize::from(column.offloadable()), "{column:?}");
        }
    }
}
