//! The database's clock, asked once for all who want to know the time at the same moment.

use deadpool_postgres::Object;
use tokio::{sync::Mutex, time::Instant};
use tracelift_core::time::Timestamp;

use super::{StoreError, answered};

const STATEMENT: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// What the clock said last, and when it was asked.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Mutex<Option<(Instant, Timestamp)>>,
}

impl Clock {
    /// A time between this call and its answer. One question is under way at a time; those who came before it began share its answer.
    pub(super) async fn time(&self, connection: impl AsyncFnOnce() -> Result<Object, StoreError>) -> Result<Timestamp, StoreError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((asked, time)) = *last
            && asked >= came
        {
            return Ok(time);
        }
        let connection = connection().await?;
        let asked = Instant::now();
        let question = async { connection.query_one(&connection.prepare_cached(STATEMENT).await?, &[]).await };
        let micros: i64 = match answered(question).await {
            Ok(row) => row.get(0),
            Err(error) => {
                drop(Object::take(connection)); // not one to use again
                return Err(error);
            }
        };
        let time = Timestamp::from_micros(micros).ok_or_else(|| StoreError::Corrupt(format!("{micros} is no time")))?;
        *last = Some((asked, time));
        Ok(time)
    }
}
