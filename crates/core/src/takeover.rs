//! What to do when a file is about to be written and its key may already be taken.
//!
//! | The key holds | Decision |
//! |---|---|
//! | nothing | write |
//! | an object with the intent's token and size | this is the file: adopt it as done |
//! | another object of this task | an unrecorded earlier attempt: overwrite it |
//! | an object of another writer | refuse: it is not ours to replace |
//! | unknown, because the bucket denies reads | write, overwriting whatever is there |

use crate::{file::FileIntent, id::TaskId};

/// What a HEAD of the key returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No object.
    Nothing,
    /// The bucket allows writes but denies reads. Some buckets answer this for a missing key too.
    Denied,
    /// An object.
    Object {
        /// Task id from the object's metadata.
        task: Option<String>,
        /// Token from the object's metadata.
        token: Option<String>,
        /// Size in bytes.
        bytes: u64,
        /// ETag as the store returned it.
        etag: String,
    },
}

/// What to do with the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The object is the intent's own and complete: record it.
    Adopt {
        /// ETag without quotes.
        etag: String,
    },
    /// Write the object, overwriting whatever is there.
    Write,
    /// The key belongs to another writer; fail.
    Conflict,
}

/// Decides what to do with the key of `task`'s next file, given the recorded intent.
pub fn decide(task: TaskId, intent: Option<&FileIntent>, found: &Found) -> Decision {
    let Found::Object { task: of_run, token, bytes, etag } = found else { return Decision::Write };
    let whole = intent
        .filter(|intent| token.as_ref() == Some(&intent.token))
        .and_then(|intent| intent.whole.as_ref());
    if whole.is_some_and(|file| file.bytes == *bytes) {
        return Decision::Adopt { etag: etag.trim_matches('"').to_owned() };
    }
    if of_run.as_deref() == Some(&task.to_string()) { Decision::Write } else { Decision::Conflict }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        file::{Cursor, File},
        time::Timestamp,
    };

    const RUN: TaskId = TaskId(Uuid::from_u128(1));

    fn intent(sealed: bool) -> FileIntent {
        let whole = File {
            number: 0,
            key: "k".into(),
            rows: 1,
            bytes: 10,
            etag: String::new(),
            sha256: String::new(),
            min_start_time: Timestamp::EPOCH,
            max_start_time: Timestamp::EPOCH,
            cursor: Cursor { start_time: Timestamp::EPOCH, id: Uuid::from_u128(2) },
            hydrated_objects: 0,
            hydration_misses: 0,
            misses: Vec::new(),
            oversized: crate::oversized::Oversized::default(),
            left_out: crate::file::LeftOut::default(),
        };
        let whole = sealed.then(|| Box::new(whole));
        FileIntent {
            number: 0,
            key: "k".into(),
            upload_id: "u".into(),
            token: "mine".into(),
            whole,
        }
    }

    fn object(task: Option<TaskId>, token: Option<&str>, bytes: u64) -> Found {
        Found::Object {
            task: task.map(|task| task.to_string()),
            token: token.map(str::to_owned),
            bytes,
            etag: "\"e\"".into(),
        }
    }

    #[test]
    fn only_the_intents_own_whole_object_is_adopted() {
        let adopt = Decision::Adopt { etag: "e".into() };
        for (sealed, found, decision) in [
            (true, Found::Nothing, Decision::Write),
            (true, Found::Denied, Decision::Write),
            (true, object(Some(RUN), Some("mine"), 10), adopt),
            (true, object(Some(RUN), Some("mine"), 9), Decision::Write),
            (false, object(Some(RUN), Some("mine"), 10), Decision::Write),
            (true, object(Some(RUN), Some("older"), 10), Decision::Write),
            (true, object(Some(TaskId(Uuid::from_u128(9))), Some("older"), 10), Decision::Conflict),
            (true, object(None, None, 10), Decision::Conflict),
        ] {
            assert_eq!(decide(RUN, Some(&intent(sealed)), &found), decision, "{found:?}");
        }
        assert_eq!(decide(RUN, None, &object(Some(RUN), Some("mine"), 10)), Decision::Write);
        assert_eq!(decide(RUN, None, &object(None, None, 10)), Decision::Conflict);
    }
}
