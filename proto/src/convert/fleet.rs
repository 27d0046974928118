//! fleet.proto: leases, files, failures and counts.

use std::collections::BTreeMap;

use tracelift_core::{
    Invalid,
    failure::{Failure, FailureClass, Step},
    file::{self, Cursor, File, FileIntent, HydrationMiss, LeftOut},
    id::{SessionId, TaskId},
    oversized::Oversized,
    plan::{Experiment, Partition},
    printable::printable,
    task::{Fence, Finished, Identity, Verdict},
    time::Window,
};
use uuid::Uuid;

use super::{required, time_from, time_to};
use crate::fleet::v1;

/// Parses the task id and fence of a message.
pub(super) fn under(task_id: &str, fence: u64) -> Result<(TaskId, Fence), Invalid> {
    Ok((TaskId::parse("task_id", task_id)?, Fence(fence)))
}

/// Implements the conversions of messages that consist of a task id and a fence.
macro_rules! of_a_lease {
    ($($message:ident),*) => {$(
        impl From<(TaskId, Fence)> for v1::$message {
            fn from((task, fence): (TaskId, Fence)) -> Self {
                Self { task_id: task.to_string(), fence: fence.0 }
            }
        }

        impl TryFrom<&v1::$message> for (TaskId, Fence) {
            type Error = Invalid;

            fn try_from(message: &v1::$message) -> Result<Self, Invalid> {
                under(&message.task_id, message.fence)
            }
        }
    )*};
}

of_a_lease!(Accepted, Cancel, HeldLease, Revoked);

impl TryFrom<&v1::Publish> for (TaskId, Fence) {
    type Error = Invalid;

    fn try_from(publish: &v1::Publish) -> Result<Self, Invalid> {
        under(&publish.task_id, publish.fence)
    }
}

impl TryFrom<&v1::Declined> for (TaskId, Fence) {
    type Error = Invalid;

    fn try_from(declined: &v1::Declined) -> Result<Self, Invalid> {
        under(&declined.task_id, declined.fence)
    }
}

impl TryFrom<&v1::GetDestinationAccessRequest> for (TaskId, Fence) {
    type Error = Invalid;

    fn try_from(request: &v1::GetDestinationAccessRequest) -> Result<Self, Invalid> {
        under(&request.task_id, request.fence)
    }
}

impl From<(TaskId, Fence, Verdict)> for v1::LeaseVerdict {
    fn from((task, fence, verdict): (TaskId, Fence, Verdict)) -> Self {
        let verdict = match verdict {
            Verdict::Keep => v1::Verdict::Keep,
            Verdict::HandBack => v1::Verdict::HandBack,
            Verdict::Cancel => v1::Verdict::Cancel,
            Verdict::Revoked => v1::Verdict::Revoked,
        };
        Self { task_id: task.to_string(), fence: fence.0, verdict: verdict.into() }
    }
}

/// An unknown verdict counts as revoked.
impl TryFrom<&v1::LeaseVerdict> for (TaskId, Fence, Verdict) {
    type Error = Invalid;

    fn try_from(message: &v1::LeaseVerdict) -> Result<Self, Invalid> {
        let (task, fence) = under(&message.task_id, message.fence)?;
        let verdict = match message.verdict() {
            v1::Verdict::Keep => Verdict::Keep,
            v1::Verdict::HandBack => Verdict::HandBack,
            v1::Verdict::Cancel => Verdict::Cancel,
            v1::Verdict::Revoked | v1::Verdict::Unspecified => Verdict::Revoked,
        };
        Ok((task, fence, verdict))
    }
}

impl From<Partition> for v1::Partition {
    fn from(Partition { session, window }: Partition) -> Self {
        Self {
            session_id: session.to_string(),
            start_time: Some(time_to(window.start())),
            end_time: Some(time_to(window.end())),
        }
    }
}

impl TryFrom<&v1::Partition> for Partition {
    type Error = Invalid;

    fn try_from(partition: &v1::Partition) -> Result<Self, Invalid> {
        let start = time_from("partition.start_time", partition.start_time.as_ref())?;
        let end = time_from("partition.end_time", partition.end_time.as_ref())?;
        let window = Window::new(start, end)
            .ok_or_else(|| Invalid::new("partition.end_time", "must be after start_time"))?;
        let session = SessionId::parse("partition.session_id", &partition.session_id)?;
        Ok(Self { session, window })
    }
}

pub(super) fn partition_from(partition: Option<&v1::Partition>) -> Result<Partition, Invalid> {
    required("partition", partition)?.try_into()
}

/// More than any task can count; keeps sums over many tasks within 63 bits.
const MAX_COUNT: u64 = 1 << 50;

/// Rejects counts that are too large to be real, so that sums over many tasks cannot overflow.
pub(super) fn plausible<const N: usize>(field: &str, counts: [u64; N]) -> Result<(), Invalid> {
    if counts.into_iter().all(|count| count <= MAX_COUNT) {
        Ok(())
    } else {
        Err(Invalid::new(field, "must not count more than 2^50"))
    }
}

impl From<&Cursor> for v1::Cursor {
    fn from(cursor: &Cursor) -> Self {
        Self { start_time: Some(time_to(cursor.start_time)), id: cursor.id.to_string() }
    }
}

impl TryFrom<&v1::Cursor> for Cursor {
    type Error = Invalid;

    fn try_from(cursor: &v1::Cursor) -> Result<Self, Invalid> {
        let id = Uuid::parse_str(&cursor.id).map_err(|_| Invalid::no_uuid("id"))?;
        Ok(Self { start_time: time_from("start_time", cursor.start_time.as_ref())?, id })
    }
}

impl From<&File> for v1::File {
    fn from(file: &File) -> Self {
        Self {
            number: file.number,
            key: file.key.clone(),
            rows: file.rows,
            bytes: file.bytes,
            etag: file.etag.clone(),
            sha256: file.sha256.clone(),
            min_start_time: Some(time_to(file.min_start_time)),
            max_start_time: Some(time_to(file.max_start_time)),
            cursor: Some((&file.cursor).into()),
            hydrated_objects: file.hydrated_objects,
            hydration_misses: file.hydration_misses,
            misses: file.misses.iter().map(Into::into).collect(),
            oversized: oversized_to(file.oversized),
            left_out: Some((&file.left_out).into()),
        }
    }
}

/// Longest object key that S3 takes, and longest upload id, ETag or token that is kept; in bytes.
const MAX_KEY: usize = 1024;
const MAX_UPLOAD_ID: usize = 4096;
const MAX_ETAG: usize = 1024;
const MAX_TOKEN: usize = 128;
/// Longest name of a column and longest reason of a miss, in bytes.
const MAX_COLUMN: usize = 128;
const MAX_REASON: usize = 1024;

/// A text that is stored, and sent to exporters with all others of its task.
fn bounded(field: &str, text: &str, most: usize) -> Result<String, Invalid> {
    if text.len() > most {
        return Err(Invalid::new(field, format!("must have at most {most} bytes")));
    }
    Ok(text.to_owned())
}

impl TryFrom<&v1::File> for File {
    type Error = Invalid;

    fn try_from(file: &v1::File) -> Result<Self, Invalid> {
        if file.rows == 0 || file.bytes == 0 || file.key.is_empty() {
            return Err(Invalid::new("file", "must have a key, rows and bytes"));
        }
        plausible("file", [file.rows, file.bytes, file.hydrated_objects, file.hydration_misses])?;
        file.oversized.values().try_for_each(|count| plausible("file.oversized", [*count]))?;
        if file.misses.len() > file::MAX_NAMED_MISSES {
            return Err(Invalid::new(
                "file.misses",
                format!("must name at most {} misses", file::MAX_NAMED_MISSES),
            ));
        }
        Ok(Self {
            number: file.number,
            key: bounded("file.key", &file.key, MAX_KEY)?,
            rows: file.rows,
            bytes: file.bytes,
            etag: bounded("file.etag", &file.etag, MAX_ETAG)?,
            sha256: file::check_sha256("file.sha256", &file.sha256)?,
            min_start_time: time_from("file.min_start_time", file.min_start_time.as_ref())?,
            max_start_time: time_from("file.max_start_time", file.max_start_time.as_ref())?,
            cursor: required("file.cursor", file.cursor.as_ref())?
                .try_into()
                .map_err(|fault: Invalid| fault.within("file.cursor"))?,
            hydrated_objects: file.hydrated_objects,
            hydration_misses: file.hydration_misses,
            misses: file.misses.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            oversized: oversized_from(&file.oversized),
            left_out: left_out_from("file.left_out", file.left_out.as_ref())?,
        })
    }
}

impl From<&LeftOut> for v1::LeftOut {
    fn from(left_out: &LeftOut) -> Self {
        let named = left_out.named.iter().map(Into::into).collect();
        Self { undecided: left_out.undecided, decided_against: left_out.decided_against, named }
    }
}

/// Unset means that nothing was left out.
pub(super) fn left_out_from(
    field: &str,
    left_out: Option<&v1::LeftOut>,
) -> Result<LeftOut, Invalid> {
    let Some(left_out) = left_out else { return Ok(LeftOut::default()) };
    plausible(field, [left_out.undecided, left_out.decided_against])?;
    if left_out.named.len() > file::MAX_NAMED_MISSES {
        return Err(Invalid::new(
            format!("{field}.named"),
            format!("must name at most {} fields", file::MAX_NAMED_MISSES),
        ));
    }
    let named = left_out.named.iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    Ok(LeftOut { undecided: left_out.undecided, decided_against: left_out.decided_against, named })
}

impl From<Identity> for v1::Identity {
    fn from(identity: Identity) -> Self {
        match identity {
            Identity::Id => Self::Id,
            Identity::IdAndStartTime => Self::IdAndStartTime,
        }
    }
}

/// Anything but `Identity::Id` counts as the weaker identity by id and start time.
pub(super) fn identity_from(identity: i32) -> Identity {
    match v1::Identity::try_from(identity) {
        Ok(v1::Identity::Id) => Identity::Id,
        _ => Identity::IdAndStartTime,
    }
}

impl TryFrom<&v1::Finished> for Finished {
    type Error = Invalid;

    fn try_from(finished: &v1::Finished) -> Result<Self, Invalid> {
        let rest = left_out_from("rest", finished.rest.as_ref())?;
        Ok(Self {
            files: finished.files,
            rows: finished.rows,
            rest,
            identity: identity_from(finished.identity),
        })
    }
}

impl From<&Finished> for v1::Finished {
    fn from(finished: &Finished) -> Self {
        Self {
            files: finished.files,
            rows: finished.rows,
            rest: Some((&finished.rest).into()),
            identity: v1::Identity::from(finished.identity).into(),
        }
    }
}

/// Non-zero counts, by the names of their limits.
pub(super) fn oversized_to(oversized: Oversized) -> BTreeMap<String, u64> {
    oversized
        .named()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// The inverse of [`oversized_to`]; unknown names are ignored.
pub(super) fn oversized_from(counts: &BTreeMap<String, u64>) -> Oversized {
    Oversized::from_named(counts.iter().map(|(name, count)| (name.as_str(), *count)))
}

impl From<&Experiment> for v1::Experiment {
    fn from(experiment: &Experiment) -> Self {
        Self {
            session_id: experiment.session.to_string(),
            first_start_time: Some(time_to(experiment.first)),
            last_start_time: Some(time_to(experiment.last)),
        }
    }
}

impl TryFrom<&v1::Experiment> for Experiment {
    type Error = Invalid;

    fn try_from(experiment: &v1::Experiment) -> Result<Self, Invalid> {
        Ok(Self {
            session: SessionId::parse("experiment.session_id", &experiment.session_id)?,
            first: time_from("experiment.first_start_time", experiment.first_start_time.as_ref())?,
            last: time_from("experiment.last_start_time", experiment.last_start_time.as_ref())?,
        })
    }
}

impl From<&HydrationMiss> for v1::HydrationMiss {
    fn from(miss: &HydrationMiss) -> Self {
        Self {
            row_id: miss.row_id.to_string(),
            column: miss.column.clone(),
            reason: miss.reason.clone(),
        }
    }
}

impl TryFrom<&v1::HydrationMiss> for HydrationMiss {
    type Error = Invalid;

    fn try_from(miss: &v1::HydrationMiss) -> Result<Self, Invalid> {
        let row_id =
            Uuid::parse_str(&miss.row_id).map_err(|_| Invalid::no_uuid("file.misses.row_id"))?;
        Ok(Self {
            row_id,
            column: bounded("file.misses.column", &miss.column, MAX_COLUMN)?,
            reason: bounded("file.misses.reason", &miss.reason, MAX_REASON)?,
        })
    }
}

impl TryFrom<&v1::FileIntent> for FileIntent {
    type Error = Invalid;

    fn try_from(intent: &v1::FileIntent) -> Result<Self, Invalid> {
        if intent.key.is_empty() || intent.token.is_empty() {
            return Err(Invalid::new("file_intent", "must have a key and a token"));
        }
        let whole = intent
            .whole
            .as_ref()
            .map(File::try_from)
            .transpose()
            .map_err(|fault| fault.within("whole"))?;
        if whole
            .as_ref()
            .is_some_and(|file| (file.number, &file.key) != (intent.number, &intent.key))
        {
            return Err(Invalid::new("whole", "must be the file of the intent"));
        }
        Ok(Self {
            number: intent.number,
            key: bounded("file_intent.key", &intent.key, MAX_KEY)?,
            upload_id: bounded("file_intent.upload_id", &intent.upload_id, MAX_UPLOAD_ID)?,
            token: bounded("file_intent.token", &intent.token, MAX_TOKEN)?,
            whole: whole.map(Box::new),
        })
    }
}

impl From<&FileIntent> for v1::FileIntent {
    fn from(intent: &FileIntent) -> Self {
        Self {
            number: intent.number,
            key: intent.key.clone(),
            upload_id: intent.upload_id.clone(),
            token: intent.token.clone(),
            whole: intent.whole.as_deref().map(Into::into),
        }
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            step: v1::Step::from(failure.step).into(),
            class: v1::FailureClass::from(failure.class).into(),
            detail: failure.detail.clone(),
        }
    }
}

impl TryFrom<&v1::Failure> for Failure {
    type Error = Invalid;

    fn try_from(failure: &v1::Failure) -> Result<Self, Invalid> {
        let step = STEPS.into_iter().find(|step| i32::from(v1::Step::from(*step)) == failure.step);
        let class = FailureClass::ALL
            .into_iter()
            .find(|class| i32::from(v1::FailureClass::from(*class)) == failure.class);
        Ok(Self {
            step: step.ok_or_else(|| Invalid::new("failure.step", "is not a known step"))?,
            class: class.ok_or_else(|| Invalid::new("failure.class", "is not a known class"))?,
            detail: printable(&failure.detail.chars().take(MAX_DETAIL).collect::<String>()),
        })
    }
}

/// Maximum characters of a failure's detail; the rest is cut off.
const MAX_DETAIL: usize = 2000;

const STEPS: [Step; 7] = [
    Step::Access,
    Step::Read,
    Step::Hydrate,
    Step::Encode,
    Step::Upload,
    Step::Publish,
    Step::Lease,
];

impl From<Step> for v1::Step {
    fn from(step: Step) -> Self {
        match step {
            Step::Access => Self::Access,
            Step::Read => Self::Read,
            Step::Hydrate => Self::Hydrate,
            Step::Encode => Self::Encode,
            Step::Upload => Self::Upload,
            Step::Publish => Self::Publish,
            Step::Lease => Self::Lease,
        }
    }
}

impl From<FailureClass> for v1::FailureClass {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::CustomerConfig => Self::CustomerConfig,
            FailureClass::CustomerTransient => Self::CustomerTransient,
            FailureClass::Throttled => Self::Throttled,
            FailureClass::DestinationTransient => Self::DestinationTransient,
            FailureClass::SourceTransient => Self::SourceTransient,
            FailureClass::SourceMemory => Self::SourceMemory,
            FailureClass::SourceBroke => Self::SourceBroke,
            FailureClass::SourceRow => Self::SourceRow,
            FailureClass::SourceConfig => Self::SourceConfig,
            FailureClass::SourceShort => Self::SourceShort,
            FailureClass::TooLarge => Self::TooLarge,
            FailureClass::Lost => Self::Lost,
            FailureClass::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use tracelift_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_file_survives_the_wire() {
        let time = |micros| Timestamp::from_micros(micros).unwrap();
        let file = File {
            number: 3,
            key: "k".into(),
            rows: 5,
            bytes: 7,
            etag: "e".into(),
            sha256: "ab".repeat(32),
            min_start_time: time(1),
            max_start_time: time(2),
            cursor: Cursor { start_time: time(2), id: Uuid::from_u128(1) },
            hydrated_objects: 1,
            hydration_misses: 1,
            misses: vec![HydrationMiss {
                row_id: Uuid::from_u128(2),
                column: "inputs".into(),
                reason: "gone".into(),
            }],
            oversized: Oversized::from_named([("redshift_varchar", 4), ("bigquery_row", 1)]),
            left_out: LeftOut {
                undecided: 2,
                decided_against: 3,
                named: vec![HydrationMiss {
                    row_id: Uuid::from_u128(3),
                    column: "extra".into(),
                    reason: "gone".into(),
                }],
            },
        };
        assert_eq!(File::try_from(&v1::File::from(&file)), Ok(file.clone()));
        let (key, upload_id, token) = ("k".into(), "u".into(), "t".into());
        let intent = FileIntent { number: 3, key, upload_id, token, whole: Some(Box::new(file)) };
        assert_eq!(FileIntent::try_from(&v1::FileIntent::from(&intent)), Ok(intent.clone()));
        let other = FileIntent { number: 4, ..intent };
        assert_eq!(FileIntent::try_from(&v1::FileIntent::from(&other)).unwrap_err().field, "whole");
    }

    #[test]
    fn an_experiment_survives_the_wire() {
        let time = |micros| Timestamp::from_micros(micros).unwrap();
        let experiment =
            Experiment { session: SessionId(Uuid::from_u128(1)), first: time(2), last: time(3) };
        assert_eq!(Experiment::try_from(&v1::Experiment::from(&experiment)), Ok(experiment));
    }

    #[test]
    fn every_class_and_step_survives_the_wire() {
        for class in FailureClass::ALL {
            for step in STEPS {
                let failure = Failure { step, class, detail: "d".into() };
                assert_eq!(Failure::try_from(&v1::Failure::from(&failure)), Ok(failure));
            }
        }
    }
}
