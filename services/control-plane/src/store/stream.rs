//! The audit log as a stream: each record as one event of the log, on a target of its own, after its
//! transaction is durable. With a log in JSON each event is one JSON object.

use std::fmt::Write as _;

use tracelift_core::audit::Chained;

/// The target of the events.
const TARGET: &str = "tracelift::audit";

/// Writes a record.
pub(super) fn write(of: &Chained) {
    let Chained { record, hash } = of;
    tracing::info!(
        target: TARGET,
        number = record.number,
        time = %record.at,
        tenant = record.tenant.map(|tenant| tenant.to_string()),
        actor_kind = record.actor_kind,
        actor = record.actor,
        action = record.action,
        object = record.object,
        outcome = record.outcome(),
        refused = record.refused,
        request_id = record.request_id,
        address = record.address,
        hash = hex(hash),
        "audit"
    );
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
