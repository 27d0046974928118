//! How many parts a task uploads at once: as many as allowed, fewer on a connection where parts are
//! slow, then gradually more. Pure.

/// The parts of one task.
#[derive(Debug)]
pub(crate) struct Width {
    /// Maximum parts in flight; at least one.
    now: usize,
    /// Parts started so far, and how many had been started when the limit was last reduced.
    /// Slowness of those older parts is no reason to reduce it again.
    begun: u64,
    begun_before: u64,
    /// Quick parts since the limit last changed.
    quick: usize,
}

impl Default for Width {
    fn default() -> Self {
        Self { now: usize::MAX, begun: 0, begun_before: 0, quick: 0 }
    }
}

impl Width {
    /// Parts that may be in flight if the setting allows `most`.
    pub(crate) fn at_once(&self, most: usize) -> usize {
        self.now.min(most).max(1)
    }

    /// Starts a part; returns its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Records that this part was slow or aborted: halves the limit.
    pub(crate) fn slow(&mut self, number: u64, most: usize) {
        if number > self.begun_before {
            self.now = (self.at_once(most) / 2).max(1);
            self.begun_before = self.begun;
            self.quick = 0;
        }
    }

    /// Records a quick part: the limit grows by one per round of them.
    pub(crate) fn quick(&mut self, most: usize) {
        self.quick += 1;
        if self.now < most && self.quick >= self.now {
            self.now += 1;
            self.quick = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_slow_round_halves_once_and_quick_rounds_bring_them_back_one_by_one() {
        let mut width = Width::default();
        let round: Vec<_> = (0..8).map(|_| width.begin()).collect();
        round.iter().for_each(|number| width.slow(*number, 8));
        assert_eq!(width.at_once(8), 4);
        let next = width.begin();
        width.slow(next, 8);
        assert_eq!(width.at_once(8), 2);
        let mut seen = Vec::new();
        for _ in 0..30 {
            width.quick(8);
            seen.push(width.at_once(8));
        }
        seen.dedup();
        assert_eq!(seen, [2, 3, 4, 5, 6, 7, 8]);
    }

    proptest! {
        #[test]
        fn there_is_always_room_for_one_and_never_for_more_than_the_setting(most in 1_usize..64, parts in prop::collection::vec(any::<bool>(), 0..300)) {
            let mut width = Width::default();
            for slow in parts {
                let before = width.at_once(most);
                let number = width.begin();
                if slow { width.slow(number, most) } else { width.quick(most) }
                let after = width.at_once(most);
                prop_assert!((1..=most).contains(&after));
                let expected = if slow { [(before / 2).max(1); 2] } else { [before, before + 1] };
                prop_assert!(expected.contains(&after));
            }
        }
    }
}
