//! Values that are larger than a warehouse takes, counted per file: whoever loads an export knows
//! before the warehouse refuses.
//!
//! The limits are those that the warehouses document; `docs/loading.md` tells loaders the same.
//! Nothing is cut because of them.

/// What a warehouse says it does not take more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Redshift: a VARCHAR, and a string within a SUPER.
    RedshiftVarchar,
    /// Snowflake: a VARCHAR without a length, as accounts had it until 2025.
    SnowflakeVarchar16Mib,
    /// Snowflake: a VARCHAR of the greatest length.
    SnowflakeVarchar,
    /// Athena: a row.
    AthenaRow,
    /// BigQuery: a row.
    BigqueryRow,
}

impl Limit {
    /// Limits of one text value, least first.
    pub const OF_A_VALUE: [Self; 3] =
        [Self::RedshiftVarchar, Self::SnowflakeVarchar16Mib, Self::SnowflakeVarchar];
    /// Limits of a row, least first.
    pub const OF_A_ROW: [Self; 2] = [Self::AthenaRow, Self::BigqueryRow];

    /// Its name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedshiftVarchar => "redshift_varchar",
            Self::SnowflakeVarchar16Mib => "snowflake_varchar_16_mib",
            Self::SnowflakeVarchar => "snowflake_varchar",
            Self::AthenaRow => "athena_row",
            Self::BigqueryRow => "bigquery_row",
        }
    }

    /// The most bytes that fit. Where the documents say "MB" it is the smaller megabyte: rather one
    /// counted too many.
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

/// How many values, or rows, are over each limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Oversized {
    values: [u64; Limit::OF_A_VALUE.len()],
    rows: [u64; Limit::OF_A_ROW.len()],
}

impl Oversized {
    /// No value smaller than this is over a limit.
    pub const LEAST_VALUE: u64 = Limit::OF_A_VALUE[0].bytes();
    /// No row smaller than this is over a limit.
    pub const LEAST_ROW: u64 = Limit::OF_A_ROW[0].bytes();

    /// Counts one text value of that many bytes.
    pub fn count_value(&mut self, bytes: u64) {
        count(&mut self.values, Limit::OF_A_VALUE, bytes);
    }

    /// Counts one row whose texts have that many bytes together.
    pub fn count_row(&mut self, bytes: u64) {
        count(&mut self.rows, Limit::OF_A_ROW, bytes);
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        let mine = self.values.iter_mut().chain(&mut self.rows);
        mine.zip(other.values.iter().chain(&other.rows))
            .for_each(|(mine, other)| *mine = mine.saturating_add(*other));
        self
    }

    /// Every limit's name and how many are over it.
    pub fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
        let limits = Limit::OF_A_VALUE.into_iter().chain(Limit::OF_A_ROW);
        limits.map(Limit::name).zip(self.values.into_iter().chain(self.rows))
    }

    /// The inverse of [`Self::named`]; a limit without a count has none, a name that is no limit is
    /// left out.
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
