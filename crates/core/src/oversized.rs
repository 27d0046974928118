//! Counts values that exceed the limits of common warehouses, per file, so that whoever loads an
//! export knows before the warehouse rejects it.
//!
//! The limits are the documented ones; `docs/loading.md` lists them too. Nothing is truncated
//! because of them.

/// A documented size limit of a warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Redshift: a VARCHAR, or a string within a SUPER.
    RedshiftVarchar,
    /// Snowflake: a VARCHAR without a length, in accounts until 2025.
    SnowflakeVarchar16Mib,
    /// Snowflake: the longest VARCHAR.
    SnowflakeVarchar,
    /// Athena: a row.
    AthenaRow,
    /// BigQuery: a row.
    BigqueryRow,
}

impl Limit {
    /// Limits of one text value, smallest first.
    pub const OF_A_VALUE: [Self; 3] =
        [Self::RedshiftVarchar, Self::SnowflakeVarchar16Mib, Self::SnowflakeVarchar];
    /// Limits of a row, smallest first.
    pub const OF_A_ROW: [Self; 2] = [Self::AthenaRow, Self::BigqueryRow];

    /// The limit's name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedshiftVarchar => "redshift_varchar",
            Self::SnowflakeVarchar16Mib => "snowflake_varchar_16_mib",
            Self::SnowflakeVarchar => "snowflake_varchar",
            Self::AthenaRow => "athena_row",
            Self::BigqueryRow => "bigquery_row",
        }
    }

    /// Largest size that fits, in bytes. Where the documentation says "MB", this is the decimal
    /// megabyte: overcounting is safer than undercounting.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::RedshiftVarchar => 65_535,
            Self::SnowflakeVarchar16Mib => 16 << 20,
            Self::SnowflakeVarchar => 128 << 20,
            Self::AthenaRow => 32_000_000,
            Self::BigqueryRow => 100_000_000,
        }
    }
}

/// How many values and rows exceed each limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Oversized {
    values: [u64; Limit::OF_A_VALUE.len()],
    rows: [u64; Limit::OF_A_ROW.len()],
}

impl Oversized {
    /// Smaller values need not be counted: they exceed no limit.
    pub const LEAST_VALUE: u64 = Limit::OF_A_VALUE[0].bytes();
    /// Smaller rows need not be counted: they exceed no limit.
    pub const LEAST_ROW: u64 = Limit::OF_A_ROW[0].bytes();

    /// Counts a text value of `bytes` bytes.
    pub fn count_value(&mut self, bytes: u64) {
        count(&mut self.values, Limit::OF_A_VALUE, bytes);
    }

    /// Counts a row whose text values total `bytes` bytes.
    pub fn count_row(&mut self, bytes: u64) {
        count(&mut self.rows, Limit::OF_A_ROW, bytes);
    }

    /// The sum of both, saturating.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        let mine = self.values.iter_mut().chain(&mut self.rows);
        mine.zip(other.values.iter().chain(&other.rows))
            .for_each(|(mine, other)| *mine = mine.saturating_add(*other));
        self
    }

    /// Each limit's name with its count.
    pub fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
        let limits = Limit::OF_A_VALUE.into_iter().chain(Limit::OF_A_ROW);
        limits.map(Limit::name).zip(self.values.into_iter().chain(self.rows))
    }

    /// The inverse of [`Self::named`]. Missing limits count zero; unknown names are ignored.
    pub fn from_named<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut oversized = Self::default();
        for (name, found) in counts {
            let values = Limit::OF_A_VALUE.into_iter().zip(&mut oversized.values);
            let rows = Limit::OF_A_ROW.into_iter().zip(&mut oversized.rows);
            values
                .chain(rows)
                .filter(|(limit, _)| limit.name() == name)
                .for_each(|(_, count)| *count = found);
        }
        oversized
    }
}

fn count<const N: usize>(counts: &mut [u64; N], limits: [Limit; N], bytes: u64) {
    limits
        .into_iter()
        .zip(counts)
        .filter(|(limit, _)| bytes > limit.bytes())
        .for_each(|(_, count)| *count += 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_just_fits_is_not_counted_and_one_byte_more_is() {
        for limit in Limit::OF_A_VALUE.into_iter().chain(Limit::OF_A_ROW) {
            let of = |bytes| {
                let mut oversized = Oversized::default();
                if Limit::OF_A_VALUE.contains(&limit) {
                    oversized.count_value(bytes)
                } else {
                    oversized.count_row(bytes)
                }
                oversized.named().find(|(name, _)| *name == limit.name()).unwrap().1
            };
            assert_eq!((of(limit.bytes()), of(limit.bytes() + 1)), (0, 1), "{limit:?}");
        }
    }

    #[test]
    fn the_least_limits_come_first() {
        assert!(Limit::OF_A_VALUE.is_sorted_by_key(|limit| limit.bytes()));
        assert!(Limit::OF_A_ROW.is_sorted_by_key(|limit| limit.bytes()));
    }

    #[test]
    fn counts_add_up_and_survive_their_names() {
        let mut one = Oversized::default();
        one.count_value(200_000_000);
        one.count_row(200_000_000);
        let two = one.plus(one);
        assert!(two.named().all(|(_, count)| count == 2), "{two:?}");
        assert_eq!(Oversized::from_named(two.named()), two);
        assert_eq!(Oversized::from_named([("of a later version", 3)]), Oversized::default());
    }
}
