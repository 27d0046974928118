//! What callers share: places that are taken and given back, and calls over time. Each caller may
//! have a part of them only, so that none can take all (docs/fairness.md).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A bounded number of places, of which each caller may hold a part at once.
#[derive(Debug)]
pub struct Places<K: Hash + Eq>(Arc<Inner<K>>);

impl<K: Hash + Eq> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Inner<K: Hash + Eq> {
    total: usize,
    each: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_caller: HashMap<K, usize>,
}

/// Why a place is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The caller holds its share.
    Share,
    /// All places are taken.
    All,
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// So many places, of which a caller may hold `each`; at least one.
    pub fn new(total: usize, each: usize) -> Self {
        let taken = Mutex::new(Taken { all: 0, by_caller: HashMap::new() });
        Self(Arc::new(Inner { total, each: each.max(1), taken }))
    }

    /// So many places, of which a caller may hold a quarter.
    pub fn in_quarters(total: usize) -> Self {
        Self::new(total, total.div_ceil(4))
    }

    /// Takes a place, until the value is dropped.
    pub fn take(&self, caller: K) -> Result<Place<K>, Full> {
        let mut taken = self.0.lock();
        let own = taken.by_caller.get(&caller).copied().unwrap_or_default();
        if own >= self.0.each {
            return Err(Full::Share);
        }
        if taken.all >= self.0.total {
            return Err(Full::All);
        }
        taken.all += 1;
        taken.by_caller.insert(caller.clone(), own + 1);
        Ok(Place { places: self.0.clone(), caller })
    }
}

impl<K: Hash + Eq> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that was taken. Dropping it gives it back.
#[derive(Debug)]
pub struct Place<K: Hash + Eq> {
    places: Arc<Inner<K>>,
    caller: K,
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        let left = taken.by_caller.get_mut(&self.caller).map(|own| {
            *own = own.saturating_sub(1);
            *own
        });
        if left == Some(0) {
            taken.by_caller.remove(&self.caller);
        }
    }
}

/// A token bucket for each caller: so many calls a second, and so many at once after a rest.
#[derive(Debug)]
pub struct Rate<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Buckets kept before those that are full again are dropped.
const KEPT: usize = 1024;

impl<K: Hash + Eq> Rate<K> {
    /// `per_second` calls a second for each caller, `burst` at once; 0 a second is no limit.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: burst.max(1).into(),
            buckets: Mutex::default(),
        }
    }

    /// Counts a call; if it is one too many, returns after how long it may be made.
    pub fn count(&self, caller: K) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let now = Instant::now();
        let refilled = |bucket: &Bucket| {
            let since = now.duration_since(bucket.at).as_secs_f64();
            (bucket.tokens + since * self.per_second).min(self.burst)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEPT && !buckets.contains_key(&caller) {
            buckets.retain(|_, bucket| refilled(bucket) < self.burst);
        }
        let bucket = buckets.entry(caller).or_insert(Bucket { tokens: self.burst, at: now });
        *bucket = Bucket { tokens: refilled(bucket), at: now };
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_holds_its_share_and_leaves_the_rest_to_others() {
        let places = Places::new(3, 2);
        let mut held: Vec<_> = (0..2).map(|_| places.take("a").unwrap()).collect();
        assert_eq!(places.take("a").unwrap_err(), Full::Share);
        let other = places.take("b").unwrap();
        assert_eq!(places.take("c").unwrap_err(), Full::All);
        held.pop();
        assert!(places.take("c").is_ok());
        drop((held, other));
        assert!(places.0.lock().by_caller.is_empty());
    }

    #[test]
    fn a_quarter_of_few_places_is_one() {
        let places = Places::in_quarters(2);
        let _held = places.take(1).unwrap();
        assert_eq!(places.take(1).unwrap_err(), Full::Share);
        assert!(places.take(2).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_makes_its_calls_a_second_and_a_burst_after_a_rest() {
        let rate = Rate::new(10, 3);
        let burst = |caller| (0..5).filter(|_| rate.count(caller).is_ok()).count();
        assert_eq!((burst("a"), burst("b")), (3, 3));
        assert_eq!(rate.count("a"), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(burst("a"), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(burst("a"), 3);
        assert!((0..100).all(|_| Rate::new(0, 1).count("a").is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_rest_are_forgotten() {
        let rate = Rate::new(1, 1);
        for caller in 0..KEPT {
            rate.count(caller).unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        rate.count(KEPT).unwrap();
        assert_eq!(rate.buckets.lock().unwrap().len(), 1);
    }
}
