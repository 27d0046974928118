//! What the store allows: each file holds the rules of one kind of record, over its [`tables`].
//!
//! [`tables`]: super::tables

pub(super) mod claims;
pub(super) mod destinations;
pub(super) mod exports;
mod inspect;
pub(super) mod leases;
pub(super) mod schedules;
