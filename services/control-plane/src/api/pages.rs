//! Pages of lists: as many messages as fit within a size that every client accepts, and a token for
//! the rest.
//!
//! A token names the last item returned, so items that appear or disappear between two pages make
//! no other item appear twice or go missing. The request determines whose items a list holds, never
//! its token.

use std::future::Future;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use tonic::Status;
use tracelift_core::{Invalid, time::Timestamp};
use tracelift_proto::status::invalid;
use uuid::Uuid;

use crate::store::{ExportView, Page, Place, RunView};

/// Bytes of one page. By default, gRPC clients accept messages of up to 4 MiB.
pub(crate) const PAGE_BYTES: usize = 3 << 20;
/// Most bytes that a message adds to a list besides its own.
const FRAME_BYTES: usize = 8;
/// Rows read at once.
const BATCH: u32 = 100;

/// A position in a list that a token can encode.
pub(crate) trait Token: Sized + Copy {
    fn write(self) -> String;
    fn read(text: &str) -> Option<Self>;
}

impl Token for Place {
    fn write(self) -> String {
        format!("{}.{}", self.0.micros(), self.1)
    }

    fn read(text: &str) -> Option<Self> {
        let (micros, id) = text.split_once('.')?;
        Some(Self(Timestamp::from_micros(micros.parse().ok()?)?, Uuid::parse_str(id).ok()?))
    }
}

macro_rules! numbers {
    ($($number:ident),*) => {$(
        impl Token for $number {
            fn write(self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

numbers!(u32, u64);

/// The token for the next page of a list.
fn token<T: Token>(list: &str, after: Option<T>) -> String {
    after
        .map(|after| URL_SAFE_NO_PAD.encode(format!("{list}.{}", after.write())))
        .unwrap_or_default()
}

/// The position that a token of this list encodes; `None` for the first page.
pub(crate) fn place<T: Token>(list: &str, token: &str) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        T::read(text.strip_prefix(list)?.strip_prefix('.')?)
    };
    let nonsense = || {
        invalid([Invalid::new(
            "page_token",
            "must be the next_page_token of the same list, or empty",
        )])
    };
    read().map(Some).ok_or_else(nonsense)
}

/// The requested part of a list. `default` is the most items to return if the caller sets no limit.
pub(crate) fn page(
    list: &str,
    limit: u32,
    offset: u32,
    token: &str,
    default: Option<u32>,
) -> Result<Page, Status> {
    let after = place(list, token)?;
    let offset = if after.is_some() { 0 } else { offset };
    Ok(Page { limit: limited(limit)?.or(default), offset, after })
}

/// The requested number of items; 0 means as many as fit.
pub(crate) fn limited(limit: u32) -> Result<Option<u32>, Status> {
    if limit > 1000 {
        return Err(invalid([Invalid::new("limit", "must be between 1 and 1000")]));
    }
    Ok(Some(limit).filter(|limit| *limit > 0))
}

/// A page under construction.
struct Filling<M> {
    messages: Vec<M>,
    bytes: usize,
    limit: u32,
}

impl<M: Message> Filling<M> {
    fn new(limit: Option<u32>) -> Self {
        Self { messages: Vec::new(), bytes: 0, limit: limit.unwrap_or(u32::MAX) }
    }

    /// How many more items it may hold.
    fn left(&self) -> u32 {
        self.limit.saturating_sub(u32::try_from(self.messages.len()).unwrap_or(u32::MAX))
    }

    /// Adds the message if it fits, and returns whether it did. The first one always fits.
    fn add(&mut self, message: M) -> bool {
        let bytes = self.bytes + message.encoded_len() + FRAME_BYTES;
        let fits = self.left() > 0 && (self.messages.is_empty() || bytes <= PAGE_BYTES);
        if fits {
            self.bytes = bytes;
            self.messages.push(message);
        }
        fits
    }
}

/// A page of the items that `read` returns, each converted by `show`, and the token for the next
/// page.
pub(crate) async fn fill<R, M, T, F>(
    list: &str,
    limit: Option<u32>,
    mut after: Option<T>,
    mut read: impl FnMut(Option<T>, u32) -> F,
    mut show: impl FnMut(R) -> (T, M),
) -> Result<(Vec<M>, String), Status>
where
    M: Message,
    T: Token,
    F: Future<Output = Result<Vec<R>, Status>>,
{
    let mut filling = Filling::new(limit);
    loop {
        let batch = filling.left().min(BATCH);
        // One more row shows whether there is another page.
        let mut rows = read(after, batch.saturating_add(1)).await?;
        let more = rows.len() > batch as usize;
        rows.truncate(batch as usize);
        for row in rows {
            let (at, message) = show(row);
            if !filling.add(message) {
                return Ok((filling.messages, token(list, after)));
            }
            after = Some(at);
        }
        if !more || filling.left() == 0 {
            let next = if more { token(list, after) } else { String::new() };
            return Ok((filling.messages, next));
        }
    }
}

/// The same for a short list that is read in full: keeps the items that are `behind` the position.
pub(crate) async fn cut<R: Clone, M: Message>(
    list: &str,
    rows: Vec<R>,
    (limit, given): (u32, &str),
    behind: impl Fn(&R, Place) -> bool,
    show: impl Fn(&R) -> (Place, M),
) -> Result<(Vec<M>, String), Status> {
    let read = |after: Option<Place>, most: u32| {
        let rest = rows.iter().filter(|row| after.is_none_or(|after| behind(row, after)));
        let rest: Vec<_> = rest.take(most as usize).cloned().collect();
        async { Ok(rest) }
    };
    fill(list, limited(limit)?, place(list, given)?, read, |row| show(&row)).await
}

/// The position of an export in a list.
pub(crate) fn of_export(view: &ExportView) -> Place {
    Place(view.export.created_at, view.export.id.0)
}

/// The position of a run in a list.
pub(crate) fn of_run(view: &RunView) -> Place {
    let window = view.task.kind.window().unwrap_or(view.export.spec.window);
    Place(window.start(), view.task.id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of so many texts, one longer than the other, whose place is their number.
    async fn listed(lengths: &[usize], limit: Option<u32>, token: &str) -> (Vec<usize>, String) {
        let rows: Vec<_> = (0u32..).zip(lengths.iter().copied()).collect();
        let read = |after: Option<u32>, most: u32| {
            let rest = rows
                .iter()
                .filter(|(n, _)| after.is_none_or(|after| *n > after))
                .take(most as usize);
            let rest: Vec<_> = rest.copied().collect();
            async { Ok(rest) }
        };
        let show = |(n, length): (u32, usize)| (n, "x".repeat(length));
        let (page, next) =
            fill("texts", limit, place("texts", token).unwrap(), read, show).await.unwrap();
        assert!(
            page.iter().map(|text| text.encoded_len() + FRAME_BYTES).sum::<usize>() <= PAGE_BYTES
                || page.len() == 1
        );
        (page.iter().map(String::len).collect(), next)
    }

    #[tokio::test]
    async fn pages_are_bounded_in_bytes_and_hold_everything_once() {
        let lengths: Vec<_> = (0..700).map(|n| n * 40).collect();
        let (mut all, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (page, next) = listed(&lengths, None, &token).await;
            (all, token, pages) = ([all, page].concat(), next, pages + 1);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(all, lengths);
        assert_eq!(pages, 700 * 350 * 40 / PAGE_BYTES + 1);
    }

    #[tokio::test]
    async fn what_fits_no_page_has_one_of_its_own() {
        let lengths = [1, PAGE_BYTES + 1, 2];
        let (first, token) = listed(&lengths, None, "").await;
        let (second, last) = listed(&lengths, None, &token).await;
        assert_eq!((first, second), (vec![1], vec![PAGE_BYTES + 1]));
        assert_eq!(listed(&lengths, None, &last).await, (vec![2], String::new()));
    }

    #[tokio::test]
    async fn a_limit_is_kept_and_says_whether_there_is_more() {
        let lengths = [1; 250];
        for (limit, pages) in [(250, 1), (249, 2), (100, 3), (101, 3), (1000, 1)] {
            let (mut token, mut count) = (String::new(), 0);
            loop {
                let (page, next) = listed(&lengths, Some(limit), &token).await;
                assert!(page.len() <= limit as usize);
                (token, count) = (next, count + 1);
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(count, pages, "{limit}");
        }
        assert_eq!(listed(&[], None, "").await, (Vec::new(), String::new()));
    }

    #[test]
    fn a_token_is_read_by_its_own_list_only() {
        let at = Place(Timestamp::EPOCH.plus_seconds(-5), Uuid::from_u128(7));
        let given = token("runs", Some(at));
        assert_eq!(place("runs", &given).unwrap(), Some(at));
        assert_eq!(place::<Place>("runs", "").unwrap(), None);
        for nonsense in [
            "x",
            "!!",
            &given[1..],
            &token("exports", Some(at)),
            &token("runs", Some(7u32)),
            &"A".repeat(100_000),
        ] {
            let refused = place::<Place>("runs", nonsense).unwrap_err();
            assert_eq!(
                refused.message(),
                "page_token: must be the next_page_token of the same list, or empty"
            );
        }
    }
}
