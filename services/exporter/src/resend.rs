//! Whether and when to retry a refused call: a few times if content arrived damaged, and for some
//! minutes if a task whose writes were accepted is suddenly denied. Pure. Throttling and expired
//! credentials are handled in `destination`.

use std::time::Duration;

use tokio::time::Instant;
use tracelift_bucket::Fault;

/// How often to send content that arrives damaged.
const SENDINGS: u32 = 4;
/// How long to retry a write that is denied after others were accepted. Stores deny everybody while
/// they reload permissions, which takes minutes at worst. Kept below the 600 s after which a task
/// without progress loses its lease.
const DENIED_FOR: Duration = Duration::from_secs(300);
/// Wait after the first refusal, before jitter, and the longest wait.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// The refusals of one call so far.
#[derive(Debug, Default)]
pub(crate) struct Resend {
    damaged: u32,
    denied: Option<Denied>,
}

#[derive(Debug, Clone, Copy)]
struct Denied {
    since: Instant,
    times: u32,
}

impl Resend {
    /// How long to wait before the next attempt; `None` to give up. `taken`: whether the call is a
    /// write and earlier writes of this task were accepted. `share`, from 0 to 1, picks the random
    /// part of the wait.
    pub(crate) fn after(
        &mut self,
        fault: Fault,
        taken: bool,
        now: Instant,
        share: f64,
    ) -> Option<Duration> {
        let times = match fault {
            Fault::Damaged => {
                self.damaged += 1;
                Some(self.damaged).filter(|sent| *sent < SENDINGS)
            }
            Fault::AccessDenied | Fault::UnknownKeyId if taken => self.denied(now),
            _ => None,
        };
        times.map(|times| wait(times, share))
    }

    fn denied(&mut self, now: Instant) -> Option<u32> {
        let denied = self.denied.get_or_insert(Denied { since: now, times: 0 });
        denied.times = denied.times.saturating_add(1);
        Some(denied.times).filter(|_| now.saturating_duration_since(denied.since) < DENIED_FOR)
    }
}

/// Doubles with each attempt.
fn wait(times: u32, share: f64) -> Duration {
    let whole = FIRST.saturating_mul(1 << (times - 1).min(16)).min(LONGEST);
    whole.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits in milliseconds until giving up, if every attempt fails immediately.
    fn waits(fault: Fault, taken: bool) -> Vec<u128> {
        let (mut resend, mut now) = (Resend::default(), Instant::now());
        let next = || {
            let wait = resend.after(fault, taken, now, 1.0)?;
            now += wait;
            Some(wait.as_millis())
        };
        std::iter::from_fn(next).take(100).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn content_that_arrives_damaged_is_sent_four_times() {
        assert_eq!(waits(Fault::Damaged, false), [500, 1000, 2000]);
        assert_eq!(waits(Fault::Damaged, true), [500, 1000, 2000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_asked_for_again_for_five_minutes_once_others_were_taken() {
        for fault in [Fault::AccessDenied, Fault::UnknownKeyId] {
            assert_eq!(
                waits(fault, false),
                [0; 0],
                "the first write of all says what the key may do"
            );
            let waits = waits(fault, true);
            assert_eq!(waits[..7], [500, 1000, 2000, 4000, 8000, 16_000, 30_000]);
            let sum: u128 = waits.iter().sum();
            assert!((300_000..330_000).contains(&sum), "{sum}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_else_a_store_refuses_is_not_asked_again() {
        for fault in [
            Fault::Refused,
            Fault::BucketNotValid,
            Fault::WrongRegion,
            Fault::Exists,
            Fault::NoSuchUpload,
        ] {
            assert_eq!(waits(fault, true), [0; 0], "{fault:?}");
        }
    }
}
