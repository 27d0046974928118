//! Injected faults: calls of an operation on a key are rejected, truncated or held, or succeed but
//! lose their response.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use s3s::{S3Error, S3ErrorCode, S3Result, auth::Credentials};
use tokio::sync::Semaphore;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    GetObject,
    PutObject,
    HeadObject,
    DeleteObject,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
}

#[derive(Clone)]
enum Kind {
    /// Fails with this error without any effect.
    Refuse(S3ErrorCode),
    /// Takes effect, but the response is a 500.
    LoseAnswer,
    /// Sends half of the content, then closes the connection.
    Cut,
    /// Waits at the gate.
    Hold(Arc<Gate>),
    /// Takes effect, but the response waits at the gate.
    HoldAnswer(Arc<Gate>),
}

impl Kind {
    /// Whether the fault applies after the operation.
    fn follows(&self) -> bool {
        matches!(self, Self::LoseAnswer | Self::HoldAnswer(_))
    }
}

struct Rule {
    operation: Operation,
    key_part: String,
    kind: Kind,
    /// How many more calls it applies to.
    left: u64,
}

/// Where calls are held.
pub struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// Waits until a call has reached the gate.
    pub async fn reached(&self) {
        self.arrived.acquire().await.expect("open").forget();
    }

    /// Lets all calls through, now and later.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

/// The faults of one server.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    calls: AtomicU64,
    no_conditions: AtomicBool,
    no_checksums: AtomicBool,
    no_object_size: AtomicBool,
    small_parts: AtomicBool,
    /// The upload id in responses, instead of the real one.
    upload_id: Mutex<Option<String>>,
    /// Expired access key ids, each with the part of a key for which it is expired.
    expired: Mutex<Vec<(String, String)>>,
}

impl Faults {
    /// The next `times` calls on keys that contain `key_part` fail with this error.
    pub fn refuse(&self, operation: Operation, key_part: &str, code: S3ErrorCode, times: u64) {
        self.add(operation, key_part, Kind::Refuse(code), times);
    }

    /// The next `times` calls take effect but return a 500.
    pub fn lose_answer(&self, operation: Operation, key_part: &str, times: u64) {
        self.add(operation, key_part, Kind::LoseAnswer, times);
    }

    /// The next `times` objects read are cut in half.
    pub fn cut(&self, key_part: &str, times: u64) {
        self.add(Operation::GetObject, key_part, Kind::Cut, times);
    }

    /// From now on, every call waits at the gate.
    pub fn hold(&self, operation: Operation, key_part: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
        self.add(operation, key_part, Kind::Hold(gate.clone()), u64::MAX);
        gate
    }

    /// The next call takes effect, but its response waits at the gate.
    pub fn hold_answer(&self, operation: Operation, key_part: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
        self.add(operation, key_part, Kind::HoldAnswer(gate.clone()), 1);
        gate
    }

    /// From now on, conditional writes fail with NotImplemented, as in some stores.
    pub fn know_no_conditions(&self) {
        self.no_conditions.store(true, SeqCst);
    }

    /// From now on, writes with a checksum header are rejected, with the error of a store that does
    /// not support the header.
    pub fn know_no_checksums(&self) {
        self.no_checksums.store(true, SeqCst);
    }

    /// From now on, completing an upload with the object size fails with NotImplemented.
    pub fn know_no_object_size(&self) {
        self.no_object_size.store(true, SeqCst);
    }

    pub(super) fn checksum(&self, crc32: Option<&String>) -> S3Result<()> {
        if crc32.is_some() && self.no_checksums.load(SeqCst) {
            let words = "Unsupported header 'x-amz-checksum-crc32' received for this API call.";
            return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, words));
        }
        Ok(())
    }

    pub(super) fn object_size(&self, size: Option<i64>) -> S3Result<()> {
        if size.is_some() && self.no_object_size.load(SeqCst) {
            let words = "A header you provided implies functionality that is not implemented";
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, words));
        }
        Ok(())
    }

    /// From now on, a part other than the last may be small, so that a few rows make several parts.
    pub fn allow_small_parts(&self) {
        self.small_parts.store(true, SeqCst);
    }

    /// From now on, every new upload is returned with this id, which does not exist.
    pub fn misname_uploads(&self, id: String) {
        *self.upload_id.lock().expect("not poisoned") = Some(id);
    }

    /// From now on, writes with this access key id to keys that contain `key_part` fail with
    /// ExpiredToken.
    pub fn expire(&self, access_key_id: &str, key_part: &str) {
        self.expired
            .lock()
            .expect("not poisoned")
            .push((access_key_id.to_owned(), key_part.to_owned()));
    }

    pub(super) fn good(&self, credentials: Option<&Credentials>, key: &str) -> S3Result<()> {
        let expired = self.expired.lock().expect("not poisoned");
        let used = credentials.map(|credentials| credentials.access_key.as_str());
        if expired.iter().any(|(id, part)| used == Some(id) && key.contains(part)) {
            return Err(S3Error::with_message(
                S3ErrorCode::ExpiredToken,
                "The provided token has expired.",
            ));
        }
        Ok(())
    }

    pub(super) fn answered(&self, upload_id: String) -> String {
        self.upload_id.lock().expect("not poisoned").clone().unwrap_or(upload_id)
    }

    pub(super) fn small_parts_allowed(&self) -> bool {
        self.small_parts.load(SeqCst)
    }

    pub(super) fn knows_conditions(&self) -> bool {
        !self.no_conditions.load(SeqCst)
    }

    /// Stops holding calls; those already at a gate stay there.
    pub fn release(&self, operation: Operation) {
        let held = |rule: &Rule| {
            rule.operation == operation && matches!(rule.kind, Kind::Hold(_) | Kind::HoldAnswer(_))
        };
        self.rules.lock().expect("not poisoned").retain(|rule| !held(rule));
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.rules.lock().expect("not poisoned").clear();
    }

    /// The number of calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    fn add(&self, operation: Operation, key_part: &str, kind: Kind, left: u64) {
        self.rules.lock().expect("not poisoned").push(Rule {
            operation,
            key_part: key_part.to_owned(),
            kind,
            left,
        });
    }

    fn take(
        &self,
        operation: Operation,
        key: &str,
        wanted: impl Fn(&Kind) -> bool,
    ) -> Option<Kind> {
        let mut rules = self.rules.lock().expect("not poisoned");
        let applies = |rule: &&mut Rule| {
            rule.left > 0
                && rule.operation == operation
                && key.contains(&rule.key_part)
                && wanted(&rule.kind)
        };
        let rule = rules.iter_mut().find(applies)?;
        rule.left -= 1;
        Some(rule.kind.clone())
    }

    /// Applies faults before the operation. Returns whether to truncate the content.
    pub(super) async fn before(&self, operation: Operation, key: &str) -> S3Result<bool> {
        self.calls.fetch_add(1, SeqCst);
        match self.take(operation, key, |kind| !kind.follows()) {
            None | Some(Kind::LoseAnswer | Kind::HoldAnswer(_)) => Ok(false),
            Some(Kind::Refuse(code)) => Err(S3Error::with_message(code, "as ordered by the test")),
            Some(Kind::Cut) => Ok(true),
            Some(Kind::Hold(gate)) => {
                gate.arrived.add_permits(1);
                drop(gate.open.acquire().await);
                Ok(false)
            }
        }
    }

    pub(super) async fn after(&self, operation: Operation, key: &str) -> S3Result<()> {
        match self.take(operation, key, Kind::follows) {
            Some(Kind::HoldAnswer(gate)) => {
                gate.arrived.add_permits(1);
                drop(gate.open.acquire().await);
                Ok(())
            }
            Some(_) => Err(S3Error::with_message(
                S3ErrorCode::InternalError,
                "the answer was lost, as ordered by the test",
            )),
            None => Ok(()),
        }
    }
}
