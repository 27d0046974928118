//! No text makes the reader of filters fall over, and what it has read it prints so that it reads the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelift_core::filter::{Filter, syntax};

fuzz_target!(|text: &str| {
    if let Ok(tree) = syntax::parse(text) {
        let printed = tree.to_string();
        // Escapes make a text longer.
        if printed.len() <= syntax::MAX_LENGTH {
            assert_eq!(syntax::parse(&printed), Ok(tree));
        }
    }
    match Filter::read(text) {
        Ok(filter) => assert_eq!(filter.text(), text),
        Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| error.position > 0)),
    }
});
