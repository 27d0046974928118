//! How many parts a run sends at once: as many as it may, fewer on a line on which each takes long,
//! and slowly more again. Pure.

/// The parts of one run.
#[derive(Debug)]
pub(crate) struct Width {
    /// How many may be on their way, whatever the setting; there is always room for one.
    now: usize,
    /// Parts begun so far, and how many of them had begun when there were last made fewer: that
    /// they were slow says nothing new.
    begun: u64,
    begun_before: u64,
    /// Parts that were quick since there were last made fewer or more.
    quick: usize,
}

impl Default for Width {
    fn default() -> Self {
        Self { now: usize::MAX, begun: 0, begun_before: 0, quick: 0 }
    }
}

impl Width {
    /// How many parts may be on their way where the setting allows `most`.
    pub(crate) fn at_once(&self, most: usize) -> usize {
        self.now.min(most).max(1)
    }

    /// One more is on its way: its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// The part of that number was slow, or was given up: half as many.
    pub(crate) fn slow(&mut self, number: u64, most: usize) {
        if number > self.begun_before {
            self.now = (self.at_once(most) / 2).max(1);
            self.begun_before = self.begun;
            self.quick = 0;
        }
    }

    /// A part was quick: one more with each round of them.
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
