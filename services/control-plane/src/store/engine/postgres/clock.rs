//! The database's clock, queried once for all callers that ask at the same moment.

use deadpool_postgres::Object;
use tokio::{sync::Mutex, time::Instant};
use tracelift_core::time::Timestamp;

use super::{StoreError, answered};

const STATEMENT: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The last answer, and the latest arrival of a caller that may share it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Mutex<Option<(Instant, Result<Timestamp, StoreError>)>>,
}

impl Clock {
    /// Returns a time between this call and its answer. Only one query is in flight at a time.
    /// Callers that arrived before it began share its answer; callers that arrived before it failed
    /// share its failure, so nobody waits twice for a database that does not answer.
    pub(super) async fn time(
        &self,
        connection: impl AsyncFnOnce() -> Result<Object, StoreError>,
    ) -> Result<Timestamp, StoreError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((until, answer)) = &*last
            && *until >= came
        {
            return answer.clone();
        }
        let began = Instant::now();
        let answer = match connection().await {
            Ok(connection) => ask(connection).await,
            Err(error) => Err(error),
        };
        *last = Some((if answer.is_ok() { began } else { Instant::now() }, answer.clone()));
        answer
    }
}

async fn ask(connection: Object) -> Result<Timestamp, StoreError> {
    let question =
        async { connection.query_one(&connection.prepare_cached(STATEMENT).await?, &[]).await };
    let micros: i64 = match answered(question).await {
        Ok(row) => row.get(0),
        Err(error) => {
            drop(Object::take(connection)); // do not reuse the connection
            return Err(error);
        }
    };
    Timestamp::from_micros(micros)
        .ok_or_else(|| StoreError::Corrupt(format!("{micros} is no time")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn those_who_come_while_the_database_is_away_do_not_wait_for_each_others_failures() {
        let (clock, questions) = (Clock::default(), AtomicUsize::new(0));
        let away = async || {
            questions.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            Err(StoreError::Unavailable("nobody answers".to_owned()))
        };
        let answers = join_all((0..50).map(|_| clock.time(away))).await;
        assert!(
            answers.into_iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_))))
        );
        assert_eq!(questions.into_inner(), 1);
    }
}
