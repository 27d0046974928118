//! Query parameters, such as the page of a list. Unknown parameters are ignored; if one is
//! repeated, the last value wins.

use std::ops::RangeInclusive;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::Value;
use tracelift_core::{Invalid, time::Timestamp};
use url::form_urlencoded;
use uuid::Uuid;

use crate::{
    error::ApiError,
    json_reader::{self, parse_uuid, within},
    validation::{FieldError, Loc, ValidationErrors},
};

/// A decoded query string.
#[derive(Debug)]
pub(crate) struct Query {
    parameters: Vec<(String, String)>,
    wrong: ValidationErrors,
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// `None`: the default of the operation.
    pub(crate) limit: Option<u32>,
    pub(crate) offset: u32,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::of(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn of(text: &str) -> Self {
        Self {
            parameters: form_urlencoded::parse(text.as_bytes()).into_owned().collect(),
            wrong: ValidationErrors::default(),
        }
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, text)| text.as_str())
    }

    /// A required id.
    pub(crate) fn id(&mut self, name: &str) -> Option<Uuid> {
        let id = self.last(name).ok_or_else(FieldError::missing).and_then(parse_uuid);
        id.map_err(|fault| self.wrong.add(Loc::root("query").then(name), fault)).ok()
    }

    /// An optional id.
    pub(crate) fn id_if_given(&mut self, name: &str) -> Option<String> {
        let id = parse_uuid(self.last(name)?);
        id.map_err(|fault| self.wrong.add(Loc::root("query").then(name), fault))
            .ok()
            .map(|id| id.to_string())
    }

    /// An optional time.
    pub(crate) fn time_if_given(&mut self, name: &str) -> Option<Timestamp> {
        let time = json_reader::time(&Value::from(self.last(name)?));
        time.map_err(|fault| self.wrong.add(Loc::root("query").then(name), fault)).ok()
    }

    /// The values of a repeatable parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let named = self.parameters.iter().filter(|(key, _)| key == name);
        named.map(|(_, text)| text.clone()).collect()
    }

    /// The values of a repeatable enum parameter.
    pub(crate) fn enums<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str, &str) -> Result<T, Invalid>,
    ) -> Vec<T> {
        let parameters = self
            .parameters
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, text)| parse(name, text));
        let (mut enums, loc) = (Vec::new(), Loc::root("query").then(name));
        for (index, word) in parameters.enumerate() {
            match word {
                Ok(word) => enums.push(word),
                Err(fault) => self.wrong.add(loc.index(index), FieldError::rule(fault)),
            }
        }
        enums
    }

    /// Reads `limit` and `offset`; fails with every error found so far.
    pub(crate) fn page(mut self) -> Result<Page, ValidationErrors> {
        let limit = self.number("limit", 1..=1000);
        let offset = self.number("offset", 0..=u32::MAX).unwrap_or(0);
        self.wrong.finish(Some(Page { limit, offset }))
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = number(self.last(name)?, range);
        number.map_err(|fault| self.wrong.add(Loc::root("query").then(name), fault)).ok()
    }
}

fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, FieldError> {
    let unreadable = "Input should be a valid integer, unable to parse string as an integer";
    let number: i64 =
        text.trim().parse().map_err(|_| FieldError::new("int_parsing", unreadable))?;
    within(number, &range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_what_is_not_known_is_ignored() {
        assert_eq!(
            Query::of("limit=5&x=1&offset=%32").page(),
            Ok(Page { limit: Some(5), offset: 2 })
        );
        assert_eq!(Query::of("").page(), Ok(Page { limit: None, offset: 0 }));
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let mut query = Query::of("limit=1001&offset=-1");
        assert_eq!(query.id("source_bulk_export_id"), None);
        let text = serde_json::to_string_pretty(&query.page().unwrap_err()).unwrap();
        insta::assert_snapshot!(text);
    }
}
