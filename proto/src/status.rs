//! Errors on the wire: wrong fields as `google.rpc.BadRequest`, so that every one of them reaches the caller.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use tracelift_core::Invalid;

/// INVALID_ARGUMENT that names every wrong field.
pub fn invalid(faults: impl IntoIterator<Item = Invalid>) -> Status {
    let violations: Vec<_> = faults.into_iter().map(|fault| FieldViolation::new(fault.field, fault.message)).collect();
    let text: Vec<_> = violations.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect();
    let details = ErrorDetails::with_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, text.join("; "), details)
}

/// The wrong fields that a status names; empty when it is about something else.
pub fn violations(status: &Status) -> Vec<Invalid> {
    let bad_request = status.get_details_bad_request();
    let violations = bad_request.into_iter().flat_map(|details| details.field_violations);
    violations.map(|violation| Invalid::new(violation.field, violation.description)).collect()
}

/// UNAVAILABLE with the number of seconds after which to try again.
pub fn retry_later(message: impl Into<String>, seconds: u64) -> Status {
    let details = ErrorDetails::with_retry_info(Some(std::time::Duration::from_secs(seconds)));
    Status::with_error_details(Code::Unavailable, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_survive_the_wire() {
        let faults = vec![Invalid::new("spec.end_time", "must be after start_time"), Invalid::new("spec.session_id", "must be a UUID")];
        let status = invalid(faults.clone());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(violations(&status), faults);
    }
}
