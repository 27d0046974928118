//! Figures from the exact list of what was measured.

use std::time::Duration;

use serde_json::{Value, json};

/// How many there were, the middle one, the one that 99 % do not exceed, and the longest, in
/// milliseconds.
pub(crate) fn spread(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    json!({ "count": times.len(), "p50_ms": percentile(&times, 50), "p99_ms": percentile(&times, 99), "max_ms": percentile(&times, 100) })
}

/// By the nearest rank, of a sorted list.
fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).map(|time| (time.as_secs_f64() * 1e5).round() / 100.0)
}

/// So many in that time.
pub(crate) fn rate(number: usize, time: Duration) -> f64 {
    (number as f64 / time.as_secs_f64().max(f64::EPSILON) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times_that_were_measured() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(
            (percentile(&times, 50), percentile(&times, 99), percentile(&times, 100)),
            (Some(100.0), Some(198.0), Some(200.0))
        );
        assert_eq!(percentile(&times[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 99), None);
    }
}
