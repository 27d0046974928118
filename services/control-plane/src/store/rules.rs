//! The rules of the store, one file per kind of record, on top of its [`tables`].
//!
//! [`tables`]: super::tables

pub(super) mod audit;
pub(super) mod claims;
pub(super) mod destinations;
pub(super) mod exports;
pub(super) mod fairness;
mod inspect;
pub(super) mod leases;
pub(super) mod recorded;
pub(super) mod schedules;
pub(super) mod tenants;
mod unseen;
