//! Whether one call is sent again after a refusal, and when: what arrived damaged a few times, and
//! for some minutes what is suddenly denied to a run whose writes were taken before. Pure;
//! throttling and expired keys are the destination's own matter.

use std::time::Duration;

use tokio::time::Instant;
use tracelift_bucket::Fault;

/// How often content is sent that arrives damaged.
const SENDINGS: u32 = 4;
/// How long a write is asked for again that is denied after others were taken. Stores deny
/// everybody while they load their rights anew, which takes minutes at worst; longer, and the run
/// would be taken away for not getting on (600 s).
const DENIED_FOR: Duration = Duration::from_secs(300);
/// The wait after a first refusal, before jitter, and the longest one.
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
    /// How long to wait before the call is sent once more; `None` when it is not. `taken`: whether
    /// the call is a write, and writes of this run were taken. `share` of the wait, from 0 to
    /// 1, is left to chance.
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

/// Doubles with each time.
fn wait(times: u32, share: f64) -> Duration {
    let whole = FIRST.saturating_mul(1 << (times - 1).min(16)).min(LONGEST);
    whole.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits in milliseconds until the call is given up, each refusal coming at once.
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
