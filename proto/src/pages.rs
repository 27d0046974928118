//! Follows the pages of a list to its end.

use std::future::Future;

use crate::v1;

/// A response that holds one page of a list.
pub trait Page {
    /// Type of the list's items.
    type Item;

    /// The items, and the token of the next page; the token is empty on the last page.
    fn into_parts(self) -> (Vec<Self::Item>, String);
}

macro_rules! pages {
    ($($answer:ident of $items:ident: $item:ty;)*) => {
        $(impl Page for v1::$answer {
            type Item = $item;

            fn into_parts(self) -> (Vec<$item>, String) {
                (self.$items, self.next_page_token)
            }
        })*
    };
}

pages! {
    ListExportsResponse of exports: v1::Export;
    ListRunsResponse of runs: v1::ExportRun;
    ListRunFilesResponse of files: String;
    ListScheduleRunsResponse of runs: v1::ExportRun;
    ListDestinationsResponse of destinations: v1::Destination;
    ListTenantsResponse of tenants: v1::Tenant;
    ListApiKeysResponse of api_keys: v1::ApiKey;
    ListAuditRecordsResponse of records: v1::AuditRecord;
}

/// Fetches the first `limit` items of a list, or all if `limit` is 0. `ask` fetches a page, given
/// the number of items still wanted (0 for all) and the page token.
pub async fn follow<P, E, F>(
    limit: u32,
    mut ask: impl FnMut(u32, String) -> F,
) -> Result<Vec<P::Item>, E>
where
    P: Page,
    F: Future<Output = Result<P, E>>,
{
    let (mut all, mut left, mut token) = (Vec::new(), limit, String::new());
    loop {
        let (items, next) = ask(left, token).await?.into_parts();
        left = left.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        all.extend(items);
        if next.is_empty() || (limit > 0 && left == 0) {
            return Ok(all);
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, pin::pin, task};

    use super::*;

    /// A list of seven files, at most three to a page.
    fn page(limit: u32, token: &str) -> v1::ListRunFilesResponse {
        let (first, most) = (token.parse().unwrap_or(0), if limit == 0 { 3 } else { limit.min(3) });
        let last = (first + most).min(7);
        let next_page_token = if last < 7 { last.to_string() } else { String::new() };
        v1::ListRunFilesResponse {
            files: (first..last).map(|n| n.to_string()).collect(),
            next_page_token,
        }
    }

    fn followed(limit: u32) -> (String, usize) {
        let mut asked = 0;
        let all = follow(limit, |limit, token| {
            asked += 1;
            ready(Ok::<_, ()>(page(limit, &token)))
        });
        let task::Poll::Ready(Ok(files)) =
            pin!(all).poll(&mut task::Context::from_waker(task::Waker::noop()))
        else {
            panic!("it waits")
        };
        (files.concat(), asked)
    }

    #[test]
    fn pages_are_followed_to_the_end_or_as_far_as_wanted() {
        assert_eq!(followed(0), ("0123456".to_owned(), 3));
        assert_eq!(followed(2), ("01".to_owned(), 1));
        assert_eq!(followed(3), ("012".to_owned(), 1));
        assert_eq!(followed(5), ("01234".to_owned(), 2));
        assert_eq!(followed(100), ("0123456".to_owned(), 3));
    }
}
