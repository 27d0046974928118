//! Multipart upload arithmetic: whether the object may be completed.
//!
//! S3 accepts gaps in the part list and silently completes a shorter object. This module catches
//! that.

/// S3's limit on the number of parts.
pub const MAX_PARTS: u32 = 10_000;
/// S3's minimum part size in bytes, except for the last part.
pub const MIN_PART_BYTES: u64 = 5 << 20;

/// A part that the store has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPart {
    /// Part number, from 1.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// ETag as the store returned it.
    pub etag: String,
}

/// Why an upload must not be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The part numbers are not 1, 2, 3, …
    #[error("part {expected} is missing (found {found} in its place)")]
    Gap {
        /// The missing part number.
        expected: u32,
        /// The part number found in its place.
        found: u32,
    },
    /// The part sizes do not add up to the encoded size.
    #[error("parts hold {found} bytes, the file has {expected}")]
    Size {
        /// Encoded bytes.
        expected: u64,
        /// Uploaded bytes.
        found: u64,
    },
}

/// Returns the parts in order if they have no gaps and total exactly `bytes`.
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
