//! Tables and their rows: how values map to columns, in statements that both databases understand.

pub(crate) mod audit;
pub(crate) mod destinations;
pub(crate) mod exports;
pub(crate) mod files;
mod intent;
mod oversized;
pub(crate) mod queues;
pub(crate) mod quota;
pub(crate) mod replicas;
pub(crate) mod reported;
pub(crate) mod requests;
pub(crate) mod schedules;
pub(crate) mod tasks;
pub(crate) mod tenants;

use super::{Page, sql::Value};

/// A page's LIMIT; `i64::MAX` stands for all.
fn limit(page: Page) -> Value {
    Value::Number(page.limit.map_or(i64::MAX, i64::from))
}

fn offset(page: Page) -> Value {
    page.offset.into()
}
