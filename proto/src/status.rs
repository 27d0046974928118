//! Errors on the wire. Invalid fields travel as `google.rpc.BadRequest`, so that the caller sees
//! all of them.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use tracelift_core::{Invalid, InvalidKind};

/// Maximum characters of one message, and of all messages in a response. They travel in HTTP/2
/// headers, which must stay small.
const MAX_TEXT: usize = 600;
const MAX_TEXTS: usize = 4000;

fn short(text: String) -> String {
    if text.chars().nth(MAX_TEXT).is_none() {
        text
    } else {
        text.chars().take(MAX_TEXT).chain(['…']).collect()
    }
}

/// INVALID_ARGUMENT naming every invalid field. If there are very many, only the first are kept.
pub fn invalid(faults: impl IntoIterator<Item = Invalid>) -> Status {
    let mut room = MAX_TEXTS;
    let violations = faults.into_iter().map(|fault| FieldViolation {
        reason: fault.kind.as_str().to_owned(),
        ..FieldViolation::new(short(fault.field), short(fault.message))
    });
    let violations: Vec<_> = violations
        .take_while(|violation| {
            let fits = room > 0;
            room = room.saturating_sub(violation.field.len() + violation.description.len());
            fits
        })
        .collect();
    let text: Vec<_> = violations
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    let details = ErrorDetails::with_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, text.join("; "), details)
}

/// The invalid fields that a status names; empty for any other status.
pub fn violations(status: &Status) -> Vec<Invalid> {
    let bad_request = status.get_details_bad_request();
    let violations = bad_request.into_iter().flat_map(|details| details.field_violations);
    violations
        .map(|violation| {
            let kind = InvalidKind::parse("reason", &violation.reason).unwrap_or_default();
            Invalid::new(violation.field, violation.description).of_kind(kind)
        })
        .collect()
}

/// UNAVAILABLE with a retry delay in seconds.
pub fn retry_later(message: impl Into<String>, seconds: u64) -> Status {
    with_retry(Code::Unavailable, message, seconds)
}

/// RESOURCE_EXHAUSTED with a retry delay in seconds.
pub fn overloaded(message: impl Into<String>, seconds: u64) -> Status {
    with_retry(Code::ResourceExhausted, message, seconds)
}

fn with_retry(code: Code, message: impl Into<String>, seconds: u64) -> Status {
    let details = ErrorDetails::with_retry_info(Some(std::time::Duration::from_secs(seconds)));
    Status::with_error_details(code, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_survive_the_wire() {
        let faults = vec![
            Invalid::new("spec.end_time", "must be after start_time"),
            Invalid::no_uuid("spec.session_id"),
        ];
        let status = invalid(faults.clone());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(violations(&status), faults);
    }

    #[test]
    fn a_flood_of_wrong_fields_makes_a_small_answer() {
        let status =
            invalid((0..10_000).map(|n| Invalid::new(format!("f.{n}"), "x".repeat(10_000))));
        assert!((1..10).contains(&violations(&status).len()));
        assert!(status.message().len() + status.details().len() < 24_000);
    }
}
