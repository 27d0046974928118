//! The exported columns: names, order and types. The schema is fixed, whatever the rows contain.

use std::fmt::Write as _;

use crate::{Invalid, export::FormatVersion, invalid::Faults};

/// The type of a column in Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// Microseconds since the epoch, UTC.
    Timestamp,
    /// Boolean.
    Bool,
    /// 64-bit signed integer.
    Int,
    /// US dollars: double in v1, decimal(18,12) in v2_beta.
    Cost,
}

macro_rules! columns {
    ($($column:ident $name:literal $kind:ident $nullable:literal)*) => {
        /// A column of the export.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is named as the column it stands for; data.md describes them")]
        pub enum Column { $($column),* }

        impl Column {
            /// Every column; the default columns appear in file order.
            pub const ALL: &[Self] = &[$(Self::$column),*];

            /// Column name in the file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$column => $name),* }
            }

            /// Column type.
            pub fn kind(self) -> ColumnType {
                match self { $(Self::$column => ColumnType::$kind),* }
            }

            /// Whether the column can be null.
            pub fn nullable(self) -> bool {
                match self { $(Self::$column => $nullable),* }
            }
        }
    };
}

columns! {
    Id "id" Text false
    TenantId "tenant_id" Text false
    SessionId "session_id" Text false
    TraceId "trace_id" Text false
    ParentRunId "parent_run_id" Text true
    ReferenceExampleId "reference_example_id" Text true
    ParentRunIds "parent_run_ids" Text true
    Tags "tags" Text true
    Name "name" Text true
    RunType "run_type" Text true
    Status "status" Text true
    DottedOrder "dotted_order" Text true
    StartTime "start_time" Timestamp false
    EndTime "end_time" Timestamp true
    FirstTokenTime "first_token_time" Timestamp true
    IsRoot "is_root" Bool true
    TraceTier "trace_tier" Text true
    Inputs "inputs" Text true
    Outputs "outputs" Text true
    Extra "extra" Text true
    FeedbackStats "feedback_stats" Text true
    Error "error" Text true
    Events "events" Text true
    PromptTokens "prompt_tokens" Int true
    CompletionTokens "completion_tokens" Int true
    TotalTokens "total_tokens" Int true
    PromptCost "prompt_cost" Cost true
    CompletionCost "completion_cost" Cost true
    TotalCost "total_cost" Cost true
    Feedbacks "feedbacks" Text true
}

impl Column {
    /// Looks up a column by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }

    /// Whether the column is exported when an export lists no columns.
    pub fn is_default(self) -> bool {
        self != Self::Feedbacks
    }

    /// Whether the value may be offloaded to an object.
    pub fn offloadable(self) -> bool {
        matches!(self, Self::Inputs | Self::Outputs | Self::Extra | Self::Error | Self::Events)
    }

    /// Whether the column holds large JSON text, which is written without dictionary and
    /// statistics.
    pub fn wide(self) -> bool {
        self.offloadable() || matches!(self, Self::FeedbackStats | Self::Feedbacks)
    }
}

/// The columns of an export, in order; never empty, no duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

impl Default for Columns {
    fn default() -> Self {
        Self(Column::ALL.iter().copied().filter(|column| column.is_default()).collect())
    }
}

impl Columns {
    /// Parses column names, keeping their order; an empty list selects the default columns. Unknown
    /// and repeated names are errors on `field.<index>`.
    pub fn parse(field: &str, names: &[impl AsRef<str>]) -> Result<Self, Vec<Invalid>> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut faults = Faults::default();
        let mut columns = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let name = name.as_ref();
            let at = format!("{field}.{index}");
            match Column::named(name) {
                Some(column) if columns.contains(&column) => {
                    faults.push(Invalid::new(at, format!("\"{name}\" is listed twice")))
                }
                Some(column) => columns.push(column),
                None => {
                    let name: String = name.chars().take(64).collect();
                    faults.push(Invalid::new(
                        at,
                        format!("\"{name}\" is not a column; the columns are {}", all_names()),
                    ));
                }
            }
        }
        faults.finish(Some(Self(columns)))
    }

    /// The columns, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Column> + '_ {
        self.0.iter().copied()
    }

    /// Whether `column` is included.
    pub fn contains(&self, column: Column) -> bool {
        self.0.contains(&column)
    }

    /// Column names, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.iter().map(Column::name).collect()
    }

    /// Whether these are the default columns in their default order.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// One line per column with its name, type and nullability: the input of the schema hash.
    pub fn describe(&self, version: FormatVersion) -> String {
        let mut text = String::new();
        for column in self.iter() {
            let kind = match (column.kind(), version) {
                (ColumnType::Text, _) => "string",
                (ColumnType::Timestamp, _) => "timestamp(us,UTC)",
                (ColumnType::Bool, _) => "bool",
                (ColumnType::Int, _) => "int64",
                (ColumnType::Cost, FormatVersion::V1) => "double",
                (ColumnType::Cost, FormatVersion::V2Beta) => "decimal(18,12)",
            };
            let null = if column.nullable() { "" } else { " not null" };
            let _ = writeln!(text, "{} {kind}{null}", column.name());
        }
        text
    }
}

fn all_names() -> String {
    Column::ALL.iter().map(|column| column.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_the_one_that_readers_were_promised() {
        insta::assert_snapshot!(Columns::default().describe(FormatVersion::V1));
    }

    #[test]
    fn feedback_is_exported_where_it_is_listed_and_only_then() {
        assert!(!Columns::default().contains(Column::Feedbacks));
        let columns = Columns::parse("export_fields", &["name", "feedbacks", "id"]).unwrap();
        assert_eq!(columns.names(), ["name", "feedbacks", "id"]);
        assert_eq!(
            columns.describe(FormatVersion::V2Beta),
            "name string\nfeedbacks string\nid string not null\n"
        );
        let mut all = Columns::default().names();
        all.push("feedbacks");
        assert!(!Columns::parse("export_fields", &all).unwrap().is_default());
        let faults =
            Columns::parse("export_fields", &["feedbacks", "id", "feedbacks"]).unwrap_err();
        assert_eq!(faults[0].field, "export_fields.2");
    }

    #[test]
    fn unknown_and_doubled_columns_are_named_together() {
        let faults = Columns::parse("export_fields", &["id", "colour", "id"]).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["export_fields.1", "export_fields.2"]);
    }
}
