//! fleet.proto

use std::collections::BTreeMap;

use tracelift_core::{
    Invalid,
    failure::{Failure, FailureClass, Step},
    file::{self, Cursor, File, FileIntent, HydrationMiss, LeftOut},
    id::{RunId, SessionId},
    oversized::Oversized,
    plan::Experiment,
    run::{Fence, Finished, Identity},
};
use uuid::Uuid;

use super::{required, time_from, time_to};
use crate::fleet::v1;

/// The run and fence that a report is about.
pub fn under(run_id: &str, fence: u64) -> Result<(RunId, Fence), Invalid> {
    Ok((RunId::parse("run_id", run_id)?, Fence(fence)))
}

impl From<&Cursor> for v1::Cursor {
    fn from(cursor: &Cursor) -> Self {
        Self { start_time: Some(time_to(cursor.start_time)), id: cursor.id.to_string() }
    }
}

impl TryFrom<&v1::Cursor> for Cursor {
    type Error = Invalid;

    fn try_from(cursor: &v1::Cursor) -> Result<Self, Invalid> {
        let id = Uuid::parse_str(&cursor.id).map_err(|_| Invalid::new("id", "must be a UUID"))?;
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

impl TryFrom<&v1::File> for File {
    type Error = Invalid;

    fn try_from(file: &v1::File) -> Result<Self, Invalid> {
        if file.rows == 0 || file.bytes == 0 || file.key.is_empty() {
            return Err(Invalid::new("file", "must have a key, rows and bytes"));
        }
        if file.misses.len() > file::MAX_NAMED_MISSES {
            return Err(Invalid::new(
                "file.misses",
                format!("must name at most {} misses", file::MAX_NAMED_MISSES),
            ));
        }
        Ok(Self {
            number: file.number,
            key: file.key.clone(),
            rows: file.rows,
            bytes: file.bytes,
            etag: file.etag.clone(),
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

/// Nothing was left out where an exporter does not say.
pub fn left_out_from(field: &str, left_out: Option<&v1::LeftOut>) -> Result<LeftOut, Invalid> {
    let Some(left_out) = left_out else { return Ok(LeftOut::default()) };
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

/// An exporter that does not say knows nothing of ids at several start times.
pub fn identity_from(identity: i32) -> Identity {
    match v1::Identity::try_from(identity) {
        Ok(v1::Identity::Id) => Identity::Id,
        _ => Identity::IdAndStartTime,
    }
}

impl TryFrom<&v1::RunFinished> for Finished {
    type Error = Invalid;

    fn try_from(finished: &v1::RunFinished) -> Result<Self, Invalid> {
        let rest = left_out_from("rest", finished.rest.as_ref())?;
        Ok(Self {
            files: finished.files,
            rows: finished.rows,
            rest,
            identity: identity_from(finished.identity),
        })
    }
}

/// Counts by the names of their limits.
pub fn oversized_to(oversized: Oversized) -> BTreeMap<String, u64> {
    oversized
        .named()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// The inverse; names that this version does not know are left out.
pub fn oversized_from(counts: &BTreeMap<String, u64>) -> Oversized {
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
        let row_id = Uuid::parse_str(&miss.row_id)
            .map_err(|_| Invalid::new("file.misses.row_id", "must be a UUID"))?;
        Ok(Self { row_id, column: miss.column.clone(), reason: miss.reason.clone() })
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
            key: intent.key.clone(),
            upload_id: intent.upload_id.clone(),
            token: intent.token.clone(),
            whole: whole.map(Box::new),
        })
    }
}

/// An intent on the wire; run, fence and number are the sender's to fill in.
impl From<&FileIntent> for v1::FileIntent {
    fn from(intent: &FileIntent) -> Self {
        Self {
            run_id: String::new(),
            fence: 0,
            seq: 0,
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
            detail: failure.detail.chars().take(MAX_DETAIL).collect(),
        })
    }
}

/// Characters of a failure's text that are kept.
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
