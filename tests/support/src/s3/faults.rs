//! Faults to order: the n-th call of an operation on a key is refused, cut, held, or done with its
//! answer lost.

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
    /// Answered with this error, nothing done.
    Refuse(S3ErrorCode),
    /// Done, but the answer is a 500.
    LoseAnswer,
    /// Half of the content, then the connection ends.
    Cut,
    /// Waits at the gate.
    Hold(Arc<Gate>),
    /// Done, but the answer waits at the gate.
    HoldAnswer(Arc<Gate>),
}

impl Kind {
    /// Whether it comes after the deed.
    fn follows(&self) -> bool {
        matches!(self, Self::LoseAnswer | Self::HoldAnswer(_))
    }
}

struct Rule {
    operation: Operation,
    key_part: String,
    kind: Kind,
    /// Calls that it still applies to.
    left: u64,
}

/// Where held calls wait.
pub struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// Waits until a call has come to the gate.
    pub async fn reached(&self) {
        self.arrived.acquire().await.expect("open").forget();
    }

    /// Lets everything through, now and later.
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
    /// What uploads are called in answers, instead of their ids.
    upload_id: Mutex<Option<String>>,
    /// Access key ids, and the keys of objects on which they are no longer good.
    expired: Mutex<Vec<(String, String)>>,
}

impl Faults {
    /// The next `times` calls on keys that contain `key_part` are answered with an error.
    pub fn refuse(&self, operation: Operation, key_part: &str, code: S3ErrorCode, times: u64) {
        self.add(operation, key_part, Kind::Refuse(code), times);
    }

    /// The next `times` calls are done, and answered with a 500.
    pub fn lose_answer(&self, operation: Operation, key_part: &str, times: u64) {
        self.add(operation, key_part, Kind::LoseAnswer, times);
    }

    /// The next `times` objects are cut in half.
    pub fn cut(&self, key_part: &str, times: u64) {
        self.add(Operation::GetObject, key_part, Kind::Cut, times);
    }

    /// Every call from now on waits at the gate.
    pub fn hold(&self, operation: Operation, key_part: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
        self.add(operation, key_part, Kind::Hold(gate.clone()), u64::MAX);
        gate
    }

    /// The next call is done, and its answer waits at the gate.
    pub fn hold_answer(&self, operation: Operation, key_part: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
        self.add(operation, key_part, Kind::HoldAnswer(gate.clone()), 1);
        gate
    }

    /// From now on a write under a condition is answered with NotImplemented, as some stores do.
    pub fn know_no_conditions(&self) {
        self.no_conditions.store(true, SeqCst);
    }

    /// From now on a write with a checksum beside its content is refused, in the words of a store
    /// that does not know the header.
    pub fn know_no_checksums(&self) {
        self.no_checksums.store(true, SeqCst);
    }

    /// From now on completing an upload with the size of the whole is answered with NotImplemented.
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

    /// From now on a part that is not the last may be small, so that few rows make several.
    pub fn allow_small_parts(&self) {
        self.small_parts.store(true, SeqCst);
    }

    /// From now on every upload is answered with that id, which is none.
    pub fn misname_uploads(&self, id: String) {
        *self.upload_id.lock().expect("not poisoned") = Some(id);
    }

    /// From now on writes with that access key id are answered with ExpiredToken.
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

    /// Calls from now on wait at no gate; those that wait already still do.
    pub fn release(&self, operation: Operation) {
        let held = |rule: &Rule| {
            rule.operation == operation && matches!(rule.kind, Kind::Hold(_) | Kind::HoldAnswer(_))
        };
        self.rules.lock().expect("not poisoned").retain(|rule| !held(rule));
    }

    /// No more faults.
    pub fn clear(&self) {
        self.rules.lock().expect("not poisoned").clear();
    }

    /// Calls so far.
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

    /// Whether the content is to be cut.
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
