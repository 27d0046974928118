//! Objects that several fields of a batch point to: each is fetched once, provided there is room to
//! keep it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Mutex;
use tracelift_core::column::Column;

use super::Cell;
use crate::{blob::FetchError, budget::Turn, pointer::Pointer};

/// An object that several fields need.
#[derive(Debug)]
pub(super) struct Repeated {
    text: Mutex<Option<String>>,
    /// Bytes that the batch may still keep.
    room: Arc<AtomicU64>,
}

impl Repeated {
    /// Marks the cells that share an object with others. Together these objects may keep `room`
    /// bytes.
    pub(super) fn mark(cells: &mut [Cell], room: u64) {
        let mut first: HashMap<(Pointer, bool), Vec<usize>> = HashMap::with_capacity(cells.len());
        for (index, cell) in cells.iter().enumerate() {
            let Ok(pointer) = &cell.pointer else { continue };
            // An error is plain text, all others are JSON: the same object can mean something
            // different as each.
            first.entry((pointer.clone(), cell.column == Column::Error)).or_default().push(index);
        }
        let room = Arc::new(AtomicU64::new(room));
        for same in first.into_values().filter(|same| same.len() > 1) {
            let repeated = Arc::new(Self { text: Mutex::default(), room: room.clone() });
            same.into_iter().for_each(|index| cells[index].repeated = Some(repeated.clone()));
        }
    }

    /// Returns the text, fetching it on the first call. Concurrent callers wait; they call in the
    /// order in which their fields are used, so none waits for one whose turn comes later.
    pub(super) async fn or_fetch(
        &self,
        turn: &mut Turn,
        fetch: impl AsyncFnOnce(&mut Turn) -> Result<String, FetchError>,
    ) -> Result<String, FetchError> {
        let mut known = self.text.lock().await;
        if let Some(text) = &*known {
            turn.wait_for(text.len() as u64).await;
            return Ok(text.clone());
        }
        let text = fetch(turn).await?;
        let bytes = text.len() as u64;
        if self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(bytes)).is_ok() {
            *known = Some(text.clone());
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::{blob::Miss, budget::Budget};

    fn cell(row: usize, column: Column, key: &str) -> Cell {
        Cell {
            row,
            column,
            pointer: Ok(Pointer { bucket: None, key: key.to_owned() }),
            repeated: None,
        }
    }

    /// The objects fetched for these cells, and the result for each cell.
    async fn fetched(cells: &[Cell]) -> (Vec<String>, Vec<Result<String, FetchError>>) {
        let (asked, budget) = (std::sync::Mutex::new(Vec::new()), Budget::new(1000));
        let texts = cells.iter().zip(0..).map(|(cell, index)| {
            let (asked, mut turn) = (&asked, budget.turn(index));
            async move {
                let key = cell.pointer.clone()?.key;
                let fetch = async |_: &mut Turn| {
                    asked.lock().unwrap().push(key.clone());
                    tokio::task::yield_now().await;
                    if key == "gone" {
                        Err(Miss::NotFound.into())
                    } else {
                        Ok(format!("text of {key}"))
                    }
                };
                match &cell.repeated {
                    Some(repeated) => repeated.or_fetch(&mut turn, fetch).await,
                    None => fetch(&mut turn).await,
                }
            }
        });
        let texts = join_all(texts).await;
        (asked.into_inner().unwrap(), texts)
    }

    #[tokio::test]
    async fn an_object_is_fetched_once_however_many_fields_point_at_it() {
        let mut cells = [
            cell(0, Column::Inputs, "a"),
            cell(0, Column::Outputs, "b"),
            cell(1, Column::Inputs, "a"),
            cell(2, Column::Extra, "a"),
        ];
        Repeated::mark(&mut cells, 1000);
        let (asked, texts) = fetched(&cells).await;
        assert_eq!(asked, ["a", "b"]);
        assert_eq!(texts, ["a", "b", "a", "a"].map(|key| Ok(format!("text of {key}"))));
    }

    #[tokio::test]
    async fn one_that_is_not_kept_for_want_of_room_is_fetched_again_and_so_is_one_that_failed() {
        let mut cells =
            ["a", "b", "a", "b", "gone", "gone"].map(|key| cell(0, Column::Inputs, key));
        Repeated::mark(&mut cells, 9);
        let (mut asked, texts) = fetched(&cells).await;
        asked.sort();
        assert_eq!(asked, ["a", "b", "b", "gone", "gone"]);
        assert_eq!(
            texts[2..5],
            [Ok("text of a".into()), Ok("text of b".into()), Err(Miss::NotFound.into())]
        );
    }

    #[test]
    fn an_error_shares_nothing_with_json() {
        let mut cells = [cell(0, Column::Inputs, "a"), cell(0, Column::Error, "a")];
        Repeated::mark(&mut cells, 1000);
        assert!(cells.iter().all(|cell| cell.repeated.is_none()));
    }
}
