//! The columns that the fields of a filter read.

use tracelift_core::{
    column::Column,
    filter::{IdField, NumberField, Plain, TextField, TimeField},
};

pub(super) fn id(field: IdField) -> Column {
    match field {
        IdField::Id => Column::Id,
        IdField::TraceId => Column::TraceId,
        IdField::ParentRunId => Column::ParentRunId,
    }
}

pub(super) fn text(field: TextField) -> Column {
    match field {
        TextField::Name => Column::Name,
        TextField::RunType => Column::RunType,
        TextField::Status => Column::Status,
        TextField::Error => Column::Error,
        TextField::Inputs => Column::Inputs,
        TextField::Outputs => Column::Outputs,
    }
}

pub(super) fn time(field: TimeField) -> Column {
    match field {
        TimeField::StartTime => Column::StartTime,
        TimeField::EndTime => Column::EndTime,
    }
}

/// A row without an end has no latency.
pub(super) fn number(field: NumberField) -> Column {
    match field {
        NumberField::Latency => Column::EndTime,
        NumberField::PromptTokens => Column::PromptTokens,
        NumberField::CompletionTokens => Column::CompletionTokens,
        NumberField::TotalTokens => Column::TotalTokens,
        NumberField::TotalCost => Column::TotalCost,
    }
}

pub(super) fn plain(field: Plain) -> Column {
    match field {
        Plain::Id(field) => id(field),
        Plain::Time(field) => time(field),
        Plain::Number(field) => number(field),
        Plain::Root => Column::IsRoot,
    }
}
