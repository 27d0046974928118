//! An export's window becomes runs: one per UTC day it touches. They tile the window, no gap and no overlap.

use crate::time::Window;

/// The partitions of `window`, oldest first; each lies within one UTC day.
pub fn partitions(window: Window) -> Vec<Window> {
    let mut start = window.start();
    let mut parts = Vec::new();
    while start < window.end() {
        let end = start.day().next().start().min(window.end());
        let Some(part) = Window::new(start, end) else { break };
        parts.push(part);
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    fn window() -> impl Strategy<Value = Window> {
        let micros = -2_000_000_000_000_000i64..4_000_000_000_000_000;
        (micros, 1i64..40_000_000_000_000).prop_filter_map("in range", |(start, length)| {
            Window::new(Timestamp::from_micros(start)?, Timestamp::from_micros(start + length)?)
        })
    }

    proptest! {
        #[test]
        fn partitions_tile_the_window(window in window()) {
            let parts = partitions(window);
            prop_assert_eq!(parts.len() as u64, window.days());
            prop_assert_eq!(parts[0].start(), window.start());
            prop_assert_eq!(parts[parts.len() - 1].end(), window.end());
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[0].end(), pair[1].start());
            }
        }

        #[test]
        fn a_partition_lies_within_one_day(window in window()) {
            for part in partitions(window) {
                prop_assert_eq!(part.days(), 1);
            }
        }
    }
}
