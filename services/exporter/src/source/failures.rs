//! Classifies ClickHouse errors: who has to act, by error code if there is one, and what to do.

use clickhouse::error::Error;
use tracelift_core::{
    failure::{Failure, FailureClass, Step},
    printable::printable,
};

/// ClickHouse's error code for a missing grant.
pub(super) const NO_GRANT: u32 = 497;
/// ClickHouse's error code for an unknown setting.
pub(super) const UNKNOWN_SETTING: u32 = 115;

/// Classifies an error.
pub(super) fn failure(error: &Error) -> Failure {
    let text = error.to_string();
    let (class, advice) = code(&text).map_or((FailureClass::SourceTransient, ""), meaning);
    let sources =
        std::iter::successors(std::error::Error::source(error), |source| source.source()).last();
    let cause = sources.map(|cause| format!(" ({cause})")).unwrap_or_default();
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    Failure {
        step: Step::Read,
        class,
        detail: printable(&format!("ClickHouse: {}{cause}{advice}", first_line(&text))),
    }
}

/// What an exception with this code means, and what to do about it.
fn meaning(code: u32) -> (FailureClass, &'static str) {
    use FailureClass as C;
    match code {
        173 | 241 => (C::SourceMemory, ""),
        201 | 202 | 252 | 439 => (C::Throttled, ""),
        158 => (
            C::TooLarge,
            "export a shorter range, or have max_rows_to_read or max_rows_to_group_by of the exporter's ClickHouse user raised",
        ),
        191 => (
            C::TooLarge,
            "export a shorter range, or have max_rows_in_set and max_bytes_in_set of the exporter's ClickHouse user raised",
        ),
        307 => (
            C::TooLarge,
            "export a shorter range, or have max_bytes_to_read of the exporter's ClickHouse user raised",
        ),
        290 | 396 => (
            C::TooLarge,
            "export a shorter range, or have the limit of the exporter's ClickHouse user raised",
        ),
        // Trying again would only multiply what the limit is there to bound.
        159 => (
            C::TooLarge,
            "export a shorter range or a simpler filter, or have max_execution_time of the exporter's ClickHouse user raised",
        ),
        160 => (
            C::TooLarge,
            "export a shorter range or a simpler filter, or have min_execution_speed of the exporter's ClickHouse user lowered",
        ),
        427 => (C::TooLarge, "use a shorter pattern in the filter"),
        164 => (
            C::SourceConfig,
            "give the exporter's ClickHouse user a profile with readonly = 2 or 0",
        ),
        452 => (
            C::SourceConfig,
            "remove the constraint on this setting from the profile of the exporter's ClickHouse user",
        ),
        115 => (C::SourceConfig, "use ClickHouse 23.3 or newer"),
        291 | 497 => (
            C::SourceConfig,
            "grant the exporter's ClickHouse user SELECT on the tables of runs and of feedback",
        ),
        192 | 193 | 194 | 195 | 516 => {
            (C::SourceConfig, "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD")
        }
        60 | 81 => (
            C::SourceConfig,
            "check CLICKHOUSE_DATABASE, CLICKHOUSE_RUNS_TABLE and CLICKHOUSE_FEEDBACKS_TABLE",
        ),
        8 | 10 | 16 | 43 | 46 | 47 | 53 | 70 | 386 => (
            C::SourceConfig,
            "the table must have the columns of deploy/clickhouse/schema.sql, with their types",
        ),
        181 => (
            C::SourceConfig,
            "name a table of the engine ReplacingMergeTree(modified_at, is_deleted), or a view of it",
        ),
        // A query that the server does not understand now will not be understood on a retry.
        36 | 62 => (C::Internal, ""),
        _ => (C::SourceTransient, ""),
    }
}

/// A failure that the operator must fix.
pub(super) fn config(detail: String) -> Failure {
    Failure { step: Step::Read, class: FailureClass::SourceConfig, detail }
}

/// Whether a response was aborted, as opposed to the server being unreachable or refusing the
/// query.
pub(super) fn broke(error: &Error) -> bool {
    code(&error.to_string()).map_or(!refused_connection(error), |code| {
        matches!(meaning(code).0, FailureClass::SourceTransient | FailureClass::SourceMemory)
    })
}

/// The code of a server's exception.
pub(super) fn code(text: &str) -> Option<u32> {
    text.split("Code: ").nth(1)?.split(['.', ' ']).next()?.parse().ok()
}

fn refused_connection(error: &Error) -> bool {
    let causes =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut kinds =
        causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.any(|kind| kind == std::io::ErrorKind::ConnectionRefused)
}

/// A failure of the rows' query, possibly caused by the next row.
pub(super) fn broken_off(error: &Error) -> Failure {
    let failure = failure(error);
    let class = if failure.class == FailureClass::SourceTransient && broke(error) {
        FailureClass::SourceBroke
    } else {
        failure.class
    };
    Failure { class, ..failure }
}

/// Keeps the first sentence of a server error; later ones may quote rows.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}

pub(super) fn cut(reason: impl std::fmt::Display) -> Failure {
    Failure {
        step: Step::Read,
        class: FailureClass::SourceBroke,
        detail: printable(&format!("ClickHouse's answer was cut short: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_clickhouse_neither_turn_nor_break_the_line() {
        let error = "Code: 60. DB::Exception: no \u{202e}elbat\u{2028}here\u{1b}[2J\nrow 7";
        let told = failure(&Error::BadResponse(error.to_owned())).detail;
        assert!(told.contains("no  elbat here [2J") && !told.contains("row 7"), "{told}");
        assert!(!told.contains(char::is_control), "{told}");
    }

    #[test]
    fn what_does_not_heal_by_itself_is_said_at_once_with_what_to_do() {
        let told = |code: u32, words: &str| {
            let Failure { class, detail, .. } =
                failure(&Error::BadResponse(format!("Code: {code}. DB::Exception: {words}")));
            format!("{class:?}: {detail}")
        };
        let exceptions = [
            (
                516,
                "default: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)",
            ),
            (
                497,
                "reader: Not enough privileges. To execute this query, it's necessary to have the grant SELECT(id) ON default.runs. (ACCESS_DENIED)",
            ),
            (164, "Cannot modify 'max_block_size' setting in readonly mode. (READONLY)"),
            (452, "Setting max_result_rows should not be changed. (SETTING_CONSTRAINT_VIOLATION)"),
            (
                60,
                "Unknown table expression identifier 'runs' in scope SELECT count() FROM runs AS r. (UNKNOWN_TABLE)",
            ),
            (181, "Storage MergeTree doesn't support FINAL. (ILLEGAL_FINAL)"),
            (
                47,
                "Unknown expression identifier `r.events` in scope SELECT r.events. (UNKNOWN_IDENTIFIER)",
            ),
            (
                158,
                "Limit for rows (controlled by 'max_rows_to_read' setting) exceeded, max rows: 5.00 thousand. (TOO_MANY_ROWS)",
            ),
            (
                307,
                "Limit for bytes (controlled by 'max_bytes_to_read' setting) exceeded. (TOO_MANY_BYTES)",
            ),
            (159, "Timeout exceeded: elapsed 3000 ms, maximum: 3000 ms. (TIMEOUT_EXCEEDED)"),
            (
                201,
                "Quota for user reader for 3600s has been exceeded: queries = 101/100. (QUOTA_EXCEEDED)",
            ),
            (241, "(total) memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"),
            (210, "Connection refused. (NETWORK_ERROR)"),
        ];
        let told: Vec<_> = exceptions.iter().map(|(code, words)| told(*code, words)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
