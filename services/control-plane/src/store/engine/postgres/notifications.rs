//! Notifications between control planes: sent by NOTIFY after the transaction they belong to,
//! received by LISTEN, both on a dedicated connection.
//!
//! They are sent outside the transaction, except when a session begins: PostgreSQL serializes the
//! commits of transactions that notify, each until it is on disk. A notification that is lost
//! between a commit and its NOTIFY, because the process ends or the connection breaks, only causes
//! delay: receivers poll for the same changes anyway, and after a gap everyone is told to reread
//! the store.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt as _,
    future::{Either, OptionFuture},
    stream,
};
use tokio::sync::{broadcast, mpsc::UnboundedReceiver};
use tokio_postgres::{AsyncMessage, Client};
use tracelift_core::{id::ExporterId, task::Fence};

use super::{PostgresSettings, waiting};
use crate::store::{Change, StoreError};

/// The channel for notifications. Channels are local to a database.
pub(super) const CHANNEL: &str = "tracelift";
/// Sends a notification within a transaction.
pub(super) const STATEMENT: &str = "SELECT pg_notify($1, $2)";
/// Longest wait before the next attempt to reconnect; the first is at most a fiftieth of it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A change as a payload: a version, a word, and ids, separated by spaces. None of them contains a
/// space.
pub(super) fn written(change: &Change) -> String {
    match change {
        Change::Missed => "1 missed".to_owned(),
        Change::TasksQueued => "1 work".to_owned(),
        Change::Export(id) => format!("1 export {id}"),
        Change::KeyRevoked(id) => format!("1 key-revoked {id}"),
        Change::Tenant(id) => format!("1 tenant {id}"),
        Change::Stopped { task, fence, exporter } => {
            format!("1 stopped {task} {} {exporter}", fence.0)
        }
        Change::Connected { exporter, session } => format!("1 connected {exporter} {session}"),
    }
}

/// The change in a payload; an unknown payload from a newer version means: reread the store.
pub(super) fn read(payload: &str) -> Change {
    let exporter = |text: &str| ExporterId::parse("", text).ok();
    let words: Vec<_> = payload.split(' ').collect();
    let change = match words[..] {
        ["1", "work"] => Some(Change::TasksQueued),
        ["1", "export", id] => id.parse().ok().map(Change::Export),
        ["1", "key-revoked", id] => id.parse().ok().map(Change::KeyRevoked),
        ["1", "tenant", id] => id.parse().ok().map(Change::Tenant),
        ["1", "stopped", task, fence, name] => (|| {
            Some(Change::Stopped {
                task: task.parse().ok()?,
                fence: Fence(fence.parse().ok()?),
                exporter: exporter(name)?,
            })
        })(),
        ["1", "connected", name, session] => (|| {
            Some(Change::Connected { exporter: exporter(name)?, session: session.parse().ok()? })
        })(),
        _ => None,
    };
    change.unwrap_or(Change::Missed)
}

type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Send>>;
type Telling = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// Most changes sent in one statement.
const MOST: usize = 256;

/// A connection that sends and receives notifications.
pub(super) struct Line {
    client: Arc<Client>,
    messages: Messages,
}

impl Line {
    /// From here on no notification is missed until the connection is lost.
    pub(super) async fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let (client, mut connection) = settings.dedicated("news").connect(settings.tls()).await?;
        let mut messages: Messages =
            Box::pin(stream::poll_fn(move |cx| connection.poll_message(cx)));
        {
            let mut asked = Box::pin(client.batch_execute("LISTEN tracelift"));
            // The connection only makes progress while it is polled. Messages that arrive before
            // LISTEN completes are not notifications.
            while let Either::Right((said, unanswered)) =
                futures::future::select(asked, messages.next()).await
            {
                match said {
                    Some(said) => drop(said?),
                    None => {
                        return Err(StoreError::Unavailable(
                            "the connection was closed".to_owned(),
                        ));
                    }
                }
                asked = unanswered;
            }
        }
        Ok(Self { client: Arc::new(client), messages })
    }

    /// Relays notifications in both directions until the connection is lost; returns the reason.
    /// Notifications that queue up while others are being sent go out together; `first` precedes
    /// all others.
    async fn pass_on(
        &mut self,
        first: Option<Change>,
        to_tell: &mut UnboundedReceiver<Change>,
        changes: &broadcast::Sender<Change>,
    ) -> String {
        let mut telling = first.map(|change| tell(self.client.clone(), vec![change]));
        let mut next = Vec::new();
        loop {
            tokio::select! {
                message = self.messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(told))) if told.channel() == CHANNEL => {
                        let _ = changes.send(read(told.payload())); // no receivers: fine
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return StoreError::from(error).to_string(),
                    None => return "the connection was closed".to_owned(),
                },
                told = OptionFuture::from(telling.as_mut()), if telling.is_some() => match told {
                    Some(Err(error)) => return StoreError::from(error).to_string(),
                    _ => telling = None,
                },
                received = to_tell.recv_many(&mut next, MOST), if telling.is_none() => match received {
                    0 => std::future::pending().await, // the store is closing
                    _ => telling = Some(tell(self.client.clone(), std::mem::take(&mut next))),
                },
            }
        }
    }
}

/// Sends each change once. PostgreSQL delivers duplicates within a statement only once.
fn tell(client: Arc<Client>, changes: Vec<Change>) -> Telling {
    Box::pin(async move {
        let payloads: Vec<_> = changes.iter().map(written).collect();
        client
            .execute(
                "SELECT pg_notify($1, told) FROM unnest($2::text[]) AS told",
                &[&CHANNEL, &payloads],
            )
            .await
            .map(drop)
    })
}

/// Relays notifications forever. After a gap, tells everyone to reread the store.
pub(super) async fn pass_on(
    settings: PostgresSettings,
    mut line: Line,
    mut to_tell: UnboundedReceiver<Change>,
    changes: broadcast::Sender<Change>,
) {
    let mut first = None;
    loop {
        let reason = line.pass_on(first, &mut to_tell, &changes).await;
        tracing::warn!(reason, "news between control planes is interrupted; connecting again");
        line = again(&settings).await;
        tracing::info!("news is heard again");
        first = Some(Change::Missed); // what was lost is unknown: everyone rereads the store
    }
}

async fn again(settings: &PostgresSettings) -> Line {
    let mut most = LONGEST_WAIT / 50;
    loop {
        tokio::time::sleep(waiting(most)).await;
        match Line::connect(settings).await {
            Ok(line) => return line,
            Err(error) => tracing::debug!(%error, "still not"),
        }
        most = LONGEST_WAIT.min(most * 2);
    }
}

#[cfg(test)]
mod tests {
    use tracelift_core::id::{ExportId, KeyId, TaskId, TenantId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_told_is_heard_as_it_was_said() {
        let exporter = ExporterId::parse("", "exporter-1").unwrap();
        let session = Uuid::from_u128(7);
        for change in [
            Change::TasksQueued,
            Change::Export(ExportId(Uuid::from_u128(1))),
            Change::KeyRevoked(KeyId(Uuid::from_u128(4))),
            Change::Tenant(TenantId(Uuid::from_u128(5))),
            Change::Stopped {
                task: TaskId(Uuid::from_u128(2)),
                fence: Fence(3),
                exporter: exporter.clone(),
            },
            Change::Connected { exporter, session },
        ] {
            assert_eq!(read(&written(&change)), change);
        }
    }

    #[test]
    fn what_is_not_understood_is_a_reason_to_look() {
        for payload in
            ["", "1", "2 work", "1 export x", "1 stopped a b", "1 connected a b", "1 work twice"]
        {
            assert_eq!(read(payload), Change::Missed, "{payload}");
        }
    }
}
