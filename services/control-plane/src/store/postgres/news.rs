//! News between control planes: told by NOTIFY in the transaction it belongs to, heard by LISTEN on a connection of its own.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, future::Either, stream};
use tokio::sync::broadcast;
use tokio_postgres::{AsyncMessage, Client};
use tracelift_core::{id::ExporterId, run::Fence};

use super::{PostgresSettings, waiting};
use crate::store::{Change, StoreError};

/// Where news is told. Channels are a database's own.
pub(super) const CHANNEL: &str = "tracelift";
/// Longest wait before the next try to listen again; the first is a fiftieth of it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A change as it is told: a version, a word, and ids between blanks. None of them holds a blank.
pub(super) fn written(change: &Change) -> String {
    match change {
        Change::Missed => "1 missed".to_owned(),
        Change::Work => "1 work".to_owned(),
        Change::Export(id) => format!("1 export {id}"),
        Change::Stopped { run, fence, exporter } => format!("1 stopped {run} {} {exporter}", fence.0),
        Change::Connected { exporter, session } => format!("1 connected {exporter} {session}"),
    }
}

/// The change that was told; something that a newer version tells is a reason to look at the store.
pub(super) fn read(payload: &str) -> Change {
    let exporter = |text: &str| ExporterId::parse("", text).ok();
    let words: Vec<_> = payload.split(' ').collect();
    let change = match words[..] {
        ["1", "work"] => Some(Change::Work),
        ["1", "export", id] => id.parse().ok().map(Change::Export),
        ["1", "stopped", run, fence, name] => {
            (|| Some(Change::Stopped { run: run.parse().ok()?, fence: Fence(fence.parse().ok()?), exporter: exporter(name)? }))()
        }
        ["1", "connected", name, session] => (|| Some(Change::Connected { exporter: exporter(name)?, session: session.parse().ok()? }))(),
        _ => None,
    };
    change.unwrap_or(Change::Missed)
}

type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Send>>;

/// A connection that listens.
pub(super) struct Listener {
    /// Ends the connection when it is dropped.
    _client: Client,
    messages: Messages,
}

impl Listener {
    /// From here on nothing that is told is missed until the connection is lost.
    pub(super) async fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let (client, mut connection) = settings.dedicated("news").connect(settings.tls()).await?;
        let mut messages: Messages = Box::pin(stream::poll_fn(move |cx| connection.poll_message(cx)));
        {
            let mut asked = Box::pin(client.batch_execute("LISTEN tracelift"));
            // The connection moves only while it is read. What it says before it listens is no news.
            while let Either::Right((said, unanswered)) = futures::future::select(asked, messages.next()).await {
                match said {
                    Some(said) => drop(said?),
                    None => return Err(StoreError::Unavailable("the connection was closed".to_owned())),
                }
                asked = unanswered;
            }
        }
        Ok(Self { _client: client, messages })
    }

    /// Passes news on until the connection is lost; why it was.
    async fn pass_on(&mut self, changes: &broadcast::Sender<Change>) -> String {
        loop {
            match self.messages.next().await {
                Some(Ok(AsyncMessage::Notification(told))) if told.channel() == CHANNEL => {
                    let _ = changes.send(read(told.payload())); // nobody listens: nobody is waiting
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return StoreError::from(error).to_string(),
                None => return "the connection was closed".to_owned(),
            }
        }
    }
}

/// Passes news on for ever. After a gap everybody is told to look at the store.
pub(super) async fn listen(settings: PostgresSettings, mut listener: Listener, changes: broadcast::Sender<Change>) {
    loop {
        let reason = listener.pass_on(&changes).await;
        tracing::warn!(reason, "news of other control planes is not heard; connecting again");
        listener = again(&settings).await;
        tracing::info!("news is heard again");
        let _ = changes.send(Change::Missed);
    }
}

async fn again(settings: &PostgresSettings) -> Listener {
    let mut most = LONGEST_WAIT / 50;
    loop {
        tokio::time::sleep(waiting(most)).await;
        match Listener::connect(settings).await {
            Ok(listener) => return listener,
            Err(error) => tracing::debug!(%error, "still not"),
        }
        most = LONGEST_WAIT.min(most * 2);
    }
}

#[cfg(test)]
mod tests {
    use tracelift_core::id::{ExportId, RunId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_told_is_heard_as_it_was_said() {
        let exporter = ExporterId::parse("", "exporter-1").unwrap();
        let session = Uuid::from_u128(7);
        for change in [
            Change::Work,
            Change::Export(ExportId(Uuid::from_u128(1))),
            Change::Stopped { run: RunId(Uuid::from_u128(2)), fence: Fence(3), exporter: exporter.clone() },
            Change::Connected { exporter, session },
        ] {
            assert_eq!(read(&written(&change)), change);
        }
    }

    #[test]
    fn what_is_not_understood_is_a_reason_to_look() {
        for payload in ["", "1", "2 work", "1 export x", "1 stopped a b", "1 connected a b", "1 work twice"] {
            assert_eq!(read(payload), Change::Missed, "{payload}");
        }
    }
}
