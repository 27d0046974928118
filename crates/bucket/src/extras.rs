//! Optional features that not every store supports, and how a request rejected because of one is
//! retried: without the feature that the store names, or if it names none, without one of them,
//! then two, until accepted. Pure.

use tracelift_core::destination::StoreFeatures;

use crate::error::Fault;

/// The feature that an error response is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// `x-amz-checksum-…`, `x-amz-sdk-checksum-algorithm`, `x-amz-trailer`.
    Checksums,
    /// `If-None-Match`.
    Conditions,
    /// `x-amz-mp-object-size`.
    ObjectSize,
    /// Not identified.
    Any,
}

/// Error codes that may concern any header.
const CODES: [&str; 9] = [
    "NotImplemented",
    "InvalidArgument",
    "InvalidRequest",
    "MalformedXML",
    "InvalidHeader",
    "UnsupportedHeader",
    "UnsupportedOperation",
    "NotSupported",
    "BadRequest",
];

impl Extra {
    /// The feature that an error response may be about, if any.
    pub(crate) fn of(fault: Fault, status: u16, code: Option<&str>, message: &str) -> Option<Self> {
        // Without a code the server may not be a store at all, so the fault stands as it is.
        let Some(code) = code else { return (status == 501).then_some(Self::Any) };
        if !matches!(fault, Fault::NotImplemented | Fault::Refused) {
            return None;
        }
        let message = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        let known = [
            (Self::ObjectSize, &["object-size", "object size"][..]),
            (Self::Conditions, &["if-none-match", "if-match", "condition"]),
            (Self::Checksums, &["checksum", "crc32", "x-amz-trailer", "trailing", "aws-chunked"]),
        ];
        let named = known.into_iter().find(|(_, words)| says(words)).map(|(extra, _)| extra);
        named.or_else(|| CODES.contains(&code).then_some(Self::Any))
    }

    fn is_in(self, features: StoreFeatures) -> bool {
        match self {
            Self::Checksums => features.checksums,
            Self::Conditions => features.conditional_writes,
            Self::ObjectSize => features.object_size,
            Self::Any => features.count() > 0,
        }
    }
}

/// The features of a request, and the combinations not yet tried.
#[derive(Debug, Clone)]
pub struct Extras {
    now: StoreFeatures,
    untried: Vec<StoreFeatures>,
}

impl Extras {
    /// Starts with the features in `carried`.
    #[must_use]
    pub fn new(carried: StoreFeatures) -> Self {
        let yes_and_no = [true, false];
        let all = yes_and_no.into_iter().flat_map(|checksums| {
            yes_and_no.into_iter().flat_map(move |object_size| {
                yes_and_no.map(|conditional_writes| StoreFeatures {
                    checksums,
                    conditional_writes,
                    object_size,
                })
            })
        });
        let mut untried: Vec<_> =
            all.filter(|fewer| *fewer != carried && fewer.and(carried) == *fewer).collect();
        // Combinations are taken from the end: the most features first, and checksums dropped last.
        untried.sort_by_key(|fewer| {
            (fewer.count(), fewer.checksums, fewer.object_size, fewer.conditional_writes)
        });
        Self { now: carried, untried }
    }

    /// The features to use now.
    pub fn now(&self) -> StoreFeatures {
        self.now
    }

    /// Drops features after an error about `extra`; returns whether to retry.
    pub fn fewer(&mut self, extra: Extra) -> bool {
        if extra != Extra::Any {
            self.untried.retain(|fewer| !extra.is_in(*fewer));
            if !extra.is_in(self.now) {
                return false; // it did not use that feature
            }
        }
        match self.untried.pop() {
            Some(fewer) => {
                self.now = fewer;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: StoreFeatures =
        StoreFeatures { checksums: false, conditional_writes: false, object_size: false };

    fn shown(features: StoreFeatures) -> String {
        let names = [
            (features.checksums, "checksums"),
            (features.conditional_writes, "conditions"),
            (features.object_size, "size"),
        ];
        names
            .iter()
            .filter(|(known, _)| *known)
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join("+")
    }

    /// The features of each attempt if every attempt fails like this.
    fn sent(carried: StoreFeatures, extra: Extra) -> Vec<String> {
        let mut extras = Extras::new(carried);
        let mut sent = vec![shown(extras.now())];
        while extras.fewer(extra) {
            sent.push(shown(extras.now()));
        }
        sent
    }

    #[test]
    fn what_a_store_names_is_left_out_at_once_and_else_one_after_the_other() {
        let of_put = StoreFeatures { object_size: false, ..StoreFeatures::default() };
        assert_eq!(sent(of_put, Extra::Checksums), ["checksums+conditions", "conditions"]);
        assert_eq!(sent(of_put, Extra::Conditions), ["checksums+conditions", "checksums"]);
        assert_eq!(sent(of_put, Extra::ObjectSize), ["checksums+conditions"]);
        assert_eq!(
            sent(of_put, Extra::Any),
            ["checksums+conditions", "checksums", "conditions", ""]
        );
        assert_eq!(sent(NOTHING, Extra::Any), [""]);
        let mut seen = sent(StoreFeatures::default(), Extra::Any);
        assert_eq!((seen.len(), seen[1].as_str(), seen[7].as_str()), (8, "checksums+size", ""));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn a_refusal_says_what_it_is_about() {
        let of = |fault, code, message| Extra::of(fault, 400, Some(code), message);
        let unsupported = "Unsupported header 'x-amz-checksum-crc32' received for this API call.";
        assert_eq!(of(Fault::Refused, "InvalidArgument", unsupported), Some(Extra::Checksums));
        assert_eq!(
            of(
                Fault::NotImplemented,
                "NotImplemented",
                "A header you provided implies functionality"
            ),
            Some(Extra::Any)
        );
        assert_eq!(
            of(Fault::NotImplemented, "NotImplemented", "Header 'If-None-Match' not implemented"),
            Some(Extra::Conditions)
        );
        assert_eq!(
            of(Fault::Refused, "InvalidRequest", "x-amz-mp-object-size is not supported"),
            Some(Extra::ObjectSize)
        );
        assert_eq!(of(Fault::Refused, "MalformedXML", ""), Some(Extra::Any));
        assert_eq!(
            of(
                Fault::Refused,
                "InvalidStorageClass",
                "The storage class you specified is not valid"
            ),
            None
        );
        assert_eq!(of(Fault::AccessDenied, "AccessDenied", "checksum"), None);
        assert_eq!(Extra::of(Fault::Unavailable, 501, None, ""), Some(Extra::Any));
        assert_eq!(Extra::of(Fault::AccessDenied, 403, None, ""), None);
    }
}
