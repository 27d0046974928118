//! The arithmetic of a multipart upload: which part comes next, and whether the object may be
//! completed.
//!
//! S3 accepts gaps in the part list and completes a shorter object without a word; this is where
//! that is caught.

/// S3's own bounds: at most 10 000 parts, each but the last at least 5 MiB.
pub const MAX_PARTS: u32 = 10_000;
/// Smallest size in bytes of a part that is not the last.
pub const MIN_PART_BYTES: u64 = 5 << 20;

/// A part that the store has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPart {
    /// From 1.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// As the store answered.
    pub etag: String,
}

/// Why an upload must not be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The parts are not 1, 2, 3, …
    #[error("part {expected} is missing (found {found} in its place)")]
    Gap {
        /// The number that should stand there.
        expected: u32,
        /// The number that does.
        found: u32,
    },
    /// The sizes do not add up to what was encoded.
    #[error("parts hold {found} bytes, the file has {expected}")]
    Size {
        /// Bytes that were encoded.
        expected: u64,
        /// Bytes that were uploaded.
        found: u64,
    },
}

/// The parts in order, when they are dense and hold exactly `bytes`.
pub fn complete(mut parts: Vec<UploadedPart>, bytes: u64) -> Result<Vec<UploadedPart>, Incomplete> {
    parts.sort_by_key(|part| part.number);
    for (expected, part) in (1..).zip(&parts) {
        if part.number != expected {
            return Err(Incomplete::Gap { expected, found: part.number });
        }
    }
    let found = parts.iter().map(|part| part.size).sum();
    if found != bytes {
        return Err(Incomplete::Size { expected: bytes, found });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(number: u32, size: u64) -> UploadedPart {
        UploadedPart { number, size, etag: format!("e{number}") }
    }

    proptest! {
        #[test]
        fn parts_in_any_order_complete_when_they_are_dense(sizes in prop::collection::vec(1u64..100, 1..20), seed: u64) {
            let mut parts: Vec<_> = (1..).zip(&sizes).map(|(n, &size)| part(n, size)).collect();
            let turn = (seed as usize) % parts.len();
            parts.rotate_left(turn);
            let done = complete(parts, sizes.iter().sum());
            prop_assert_eq!(done.map(|parts| parts.len()), Ok(sizes.len()));
        }

        #[test]
        fn a_missing_part_is_never_completed(count in 2u32..20, missing in 1u32..20) {
            prop_assume!(missing < count);
            let parts = (1..=count).filter(|n| *n != missing).map(|n| part(n, 10)).collect();
            let gap = Err(Incomplete::Gap { expected: missing, found: missing + 1 });
            prop_assert_eq!(complete(parts, u64::from(count) * 10), gap);
        }
    }

    #[test]
    fn a_short_upload_is_never_completed() {
        assert_eq!(
            complete(vec![part(1, 9)], 10),
            Err(Incomplete::Size { expected: 10, found: 9 })
        );
    }
}
