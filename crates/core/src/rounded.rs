//! Values rounded down to a whole unit, together with whether rounding changed them. A value
//! between two units is therefore never mistaken for a whole one, however it is compared later.

/// A number with more digits than this is beyond the range of every field.
const BEYOND: usize = 36;

/// A value rounded down to a whole unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounded<T> {
    /// The largest unit that is not larger than the value.
    pub floor: T,
    /// Whether the value equals `floor`.
    pub exact: bool,
}

impl<T: Copy> Rounded<T> {
    /// The value, if it is a whole unit.
    pub fn exactly(self) -> Option<T> {
        self.exact.then_some(self.floor)
    }

    /// Converts the unit, keeping `exact`.
    pub(crate) fn try_map<U, E>(
        self,
        name: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Rounded<U>, E> {
        Ok(Rounded { floor: name(self.floor)?, exact: self.exact })
    }
}

impl Rounded<i128> {
    /// Parses a decimal number in units of 10^-`scale`. Values out of range saturate and stay out
    /// of range.
    pub(crate) fn read(number: &str, scale: usize) -> Self {
        let (negative, number) =
            number.strip_prefix('-').map_or((false, number), |number| (true, number));
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        // An exponent that does not fit into an i64 is out of range in any case.
        let far = if exponent.starts_with('-') { -1_000_000 } else { 1_000_000 };
        let exponent: i64 = exponent.parse::<i64>().unwrap_or(far).clamp(-1_000_000, 1_000_000);
        let power = exponent + i64::try_from(scale).unwrap_or(0)
            - i64::try_from(fraction.len()).unwrap_or(i64::MAX / 2);
        let length = i64::try_from(digits.len()).unwrap_or(i64::MAX / 2) + power;
        if digits.is_empty() {
            return Self { floor: 0, exact: true };
        }
        let kept = usize::try_from(length).unwrap_or(0);
        let (size, exact) = if kept > BEYOND {
            (10i128.pow(36), false)
        } else {
            let (kept_digits, cut) = digits.split_at(kept.min(digits.len()));
            let size = format!("{kept_digits:0<kept$}").parse().unwrap_or(0);
            (size, cut.bytes().all(|digit| digit == b'0'))
        };
        let floor = if negative { -size - i128::from(!exact) } else { size };
        Self { floor, exact }
    }

    /// Multiplies by `factor` and converts to units a million times as large.
    pub(crate) fn times_of_million(self, factor: i128) -> Self {
        let product = self.floor.saturating_mul(factor);
        Self { floor: product.div_euclid(1_000_000), exact: self.exact && product % 1_000_000 == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_or_known_not_to_be() {
        for (number, scale, floor, exact) in [
            ("0", 6, 0, true),
            ("-0.0", 6, 0, true),
            ("1.5", 6, 1_500_000, true),
            ("0.0000005", 6, 0, false),
            ("-0.0000005", 6, -1, false),
            ("1e3", 0, 1000, true),
            ("1500e-3", 0, 1, false),
            ("2000E-3", 0, 2, true),
            ("0.1", 12, 100_000_000_000, true),
            ("007", 0, 7, true),
            ("1e40", 0, 10i128.pow(36), false),
            ("-1e99999999999999999999", 0, -(10i128.pow(36)) - 1, false),
            ("1e-99999999999999999999", 0, 0, false),
        ] {
            assert_eq!(Rounded::read(number, scale), Rounded { floor, exact }, "{number}");
        }
        assert_eq!(
            Rounded::read("1.5", 12).times_of_million(60),
            Rounded { floor: 90_000_000, exact: true }
        );
    }
}
