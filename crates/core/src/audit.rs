//! The audit log: records of what was done and what was refused, chained by their hashes.
//!
//! Each tenant has a chain of its own, the operator's acts about no tenant have one too. A record's
//! hash is the SHA-256 of the hash before it and of the record's fields, so that nobody can change,
//! remove or insert a record without breaking the chain. A chain begins at its *anchor*: the last
//! record that was removed for its age, or [`Link::START`].

use sha2::{Digest as _, Sha256};

use crate::{id::TenantId, time::Timestamp};

/// A SHA-256.
pub type Hash = [u8; 32];

/// One act, done or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the chain, from 1 on.
    pub number: u64,
    /// When; never before the record before it.
    pub at: Timestamp,
    /// The tenant that it is about, if it is about one.
    pub tenant: Option<TenantId>,
    /// What kind of actor: `api_key`, `admin_token`, `exporter`, `schedule` or `anonymous`.
    pub actor_kind: String,
    /// Which of them; empty for nobody in particular.
    pub actor: String,
    /// The name of the operation.
    pub action: String,
    /// What it is about, mostly an id; may be empty.
    pub object: String,
    /// Why it was refused; `None` if it was done.
    pub refused: Option<String>,
    /// The request's id; empty if there was no request.
    pub request_id: String,
    /// The peer's IP address; empty if there is none.
    pub address: String,
}

impl Record {
    /// `success` or `refused`.
    pub fn outcome(&self) -> &'static str {
        if self.refused.is_none() { "success" } else { "refused" }
    }

    /// Its hash in a chain, behind the record with the hash `previous`.
    pub fn hash(&self, previous: &Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(previous);
        hasher.update(self.encoded());
        hasher.finalize().into()
    }

    /// Every field as a netstring, `<length in bytes>:<text>,`, so that no two records have the same
    /// encoding.
    fn encoded(&self) -> String {
        let tenant = self.tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
        let fields = [
            &self.number.to_string(),
            &self.at.micros().to_string(),
            &tenant,
            &self.actor_kind,
            &self.actor,
            &self.action,
            &self.object,
            self.outcome(),
            self.refused.as_deref().unwrap_or_default(),
            &self.request_id,
            &self.address,
        ];
        fields.iter().map(|field| format!("{}:{field},", field.len())).collect()
    }
}

/// A record with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// The record.
    pub record: Record,
    /// Its hash.
    pub hash: Hash,
}

/// A place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The number of a record.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Link {
    /// Before the first record.
    pub const START: Self = Self { number: 0, hash: [0; 32] };
}

/// Where a chain begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The last record that was removed.
    pub anchor: Link,
    /// The newest record.
    pub head: Link,
}

impl Chain {
    /// Without a record.
    pub const EMPTY: Self = Self { anchor: Link::START, head: Link::START };
}

/// Where a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A record is missing, or stands in another's place.
    #[error("record {0} is missing")]
    Missing(u64),
    /// A record, or the one before it, is not what its hash was made of.
    #[error("record {0} does not fit its hash and the record before it")]
    Changed(u64),
    /// The newest record is not the one that the chain ends with.
    #[error("record {0} is not the one that the chain ends with")]
    Head(u64),
}

/// Recomputes a chain, from its newest record to its oldest.
#[derive(Debug)]
pub struct Verifier {
    next: Link,
    /// Its hash is checked once the record before it is known.
    last: Option<Chained>,
    count: u64,
}

impl Verifier {
    /// Begins at the end of the chain.
    pub fn new(head: Link) -> Self {
        Self { next: head, last: None, count: 0 }
    }

    /// Checks the next older record.
    pub fn check(&mut self, older: Chained) -> Result<(), Broken> {
        let number = older.record.number;
        if number != self.next.number || number == 0 {
            return Err(Broken::Missing(self.next.number));
        }
        match self.last.take() {
            None if older.hash != self.next.hash => return Err(Broken::Head(number)),
            None => {}
            Some(last) => fits(&last, &older.hash)?,
        }
        self.next = Link { number: number - 1, hash: older.hash };
        self.last = Some(older);
        self.count += 1;
        Ok(())
    }

    /// Ends at the chain's anchor; returns how many records were checked.
    pub fn finish(self, anchor: Link) -> Result<u64, Broken> {
        if self.next.number != anchor.number {
            return Err(Broken::Missing(self.next.number.max(anchor.number)));
        }
        match self.last {
            Some(oldest) => fits(&oldest, &anchor.hash)?,
            None if self.next.hash != anchor.hash => return Err(Broken::Head(anchor.number)),
            None => {}
        }
        Ok(self.count)
    }
}

fn fits(of: &Chained, previous: &Hash) -> Result<(), Broken> {
    let fits = of.record.hash(previous) == of.hash;
    if fits { Ok(()) } else { Err(Broken::Changed(of.record.number)) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn record(number: u64) -> Record {
        Record {
            number,
            at: Timestamp::EPOCH.plus_seconds(5),
            tenant: Some(TenantId(Uuid::from_u128(7))),
            actor_kind: "api_key".into(),
            actor: "k".into(),
            action: "create_bulk_export".into(),
            object: format!("object {number}"),
            refused: None,
            request_id: "r".into(),
            address: "192.0.2.1".into(),
        }
    }

    /// Five records, newest first, of which the first two were removed.
    fn chain() -> (Chain, Vec<Chained>) {
        let (mut previous, mut chained) = (Link::START.hash, Vec::new());
        for number in 1..=5 {
            let record = record(number);
            let hash = record.hash(&previous);
            previous = hash;
            chained.push(Chained { record, hash });
        }
        let link = |of: &Chained| Link { number: of.record.number, hash: of.hash };
        let chain = Chain { anchor: link(&chained[1]), head: link(&chained[4]) };
        (chain, chained.into_iter().skip(2).rev().collect())
    }

    fn verified(chain: Chain, records: Vec<Chained>) -> Result<u64, Broken> {
        let mut verifier = Verifier::new(chain.head);
        records.into_iter().try_for_each(|record| verifier.check(record))?;
        verifier.finish(chain.anchor)
    }

    #[test]
    fn a_whole_chain_is_verified_from_its_anchor_on() {
        let (chain, records) = chain();
        assert_eq!(verified(chain, records), Ok(3));
        assert_eq!(verified(Chain::EMPTY, Vec::new()), Ok(0));
        let all_removed = Chain { anchor: chain.head, head: chain.head };
        assert_eq!(verified(all_removed, Vec::new()), Ok(0));
    }

    #[test]
    fn whatever_is_changed_in_a_chain_is_found_and_named() {
        let change = |change: &dyn Fn(&mut Vec<Chained>)| {
            let (chain, mut records) = chain();
            change(&mut records);
            verified(chain, records).unwrap_err()
        };
        assert_eq!(change(&|all| all[1].record.object.push('x')), Broken::Changed(4));
        assert_eq!(change(&|all| all[2].record.refused = Some("no".into())), Broken::Changed(3));
        assert_eq!(change(&|all| drop(all.remove(1))), Broken::Missing(4));
        assert_eq!(change(&|all| drop(all.remove(0))), Broken::Missing(5));
        assert_eq!(change(&|all| drop(all.pop())), Broken::Missing(3));
        assert_eq!(change(&|all| all.clear()), Broken::Missing(5));
        assert_eq!(change(&|all| all[0].hash = [7; 32]), Broken::Head(5));
        let replaced = |all: &mut Vec<Chained>| {
            all[1].record.actor = "another".into();
            all[1].hash = all[1].record.hash(&all[2].hash);
        };
        assert_eq!(change(&replaced), Broken::Changed(5));
    }

    #[test]
    fn no_two_records_have_the_same_encoding() {
        let shifted =
            Record { actor: "kc".into(), action: "reate_bulk_export".into(), ..record(1) };
        assert_ne!(shifted.encoded(), record(1).encoded());
        assert_eq!(
            record(1).encoded(),
            "1:1,7:5000000,36:00000000-0000-0000-0000-000000000007,7:api_key,1:k,\
             18:create_bulk_export,8:object 1,7:success,0:,1:r,9:192.0.2.1,"
        );
    }
}
