//! What the micro-benchmarks and the count of instructions share: rows as ClickHouse answers them,
//! and what is done with them.

pub mod rows;
pub mod work;
