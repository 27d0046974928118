//! The OpenAPI document of this API, generated from the handlers and response types:
//! `/openapi.json`, and `/docs` as a page for people.

mod page;
pub(crate) mod request_schema;

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::{Html, IntoResponse};
use http::header::CONTENT_TYPE;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder, ResponsesBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::routes::{audit, destinations, events, exports, limits, runs};

#[derive(OpenApi)]
#[openapi(
    info(title = "Tracelift bulk export", description = "LangSmith's bulk-export API, and what goes beyond it. Times are UTC, lists are bare arrays."),
    paths(
        audit::list,
        exports::list,
        exports::create,
        exports::get,
        exports::cancel,
        exports::validate_filter,
        events::follow,
        limits::get,
        destinations::list,
        destinations::create,
        destinations::get,
        destinations::update,
        destinations::delete,
        runs::list,
        runs::get,
        runs::retry,
        runs::of_schedule
    ),
    components(schemas(ApiError, ValidationError)),
    tags(
        (name = "exports", description = "Copies of a project's traces"),
        (name = "destinations", description = "Buckets that exports are written to"),
        (name = "audit", description = "What was done and what was refused, by whom"),
        (name = "runs", description = "Partitions of exports, one for each UTC day")
    ),
    security(("key" = []), ("bearer" = [])),
    modifiers(&Keys)
)]
struct Description;

/// How callers authenticate.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(
            "key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
        );
        components
            .add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// Why a request got no success: words, or every field that is wrong.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the shape of crate::error, for the description")]
struct ApiError {
    detail: Detail,
}

#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the shape of crate::error, for the description")]
enum Detail {
    Words(String),
    Fields(Vec<ValidationError>),
}

/// A field that is wrong.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the shape of crate::validation, for the description")]
struct ValidationError {
    /// Where it is: names and indices from `body`, `query`, `path` or `header` on.
    loc: Vec<Place>,
    msg: String,
    r#type: String,
}

#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the shape of crate::validation, for the description")]
enum Place {
    Name(String),
    Index(u32),
}

/// The error responses of every operation.
pub(crate) struct Refused;

const REFUSED: [(&str, &str); 12] = [
    ("400", "The bucket, or the state of what is named, does not allow it"),
    ("401", "No key, or one that is not good"),
    ("403", "The key may not do that"),
    ("404", "There is none in this workspace"),
    (
        "409",
        "The state of what is named does not allow it, or the idempotency key was used for another request",
    ),
    ("413", "The body is too large"),
    ("415", "The body is not JSON"),
    ("422", "Fields are wrong: each is named"),
    ("429", "A limit is reached: Retry-After says when to come again"),
    ("500", "A fault of the service"),
    ("503", "Busy, or the control plane is away: Retry-After says when to come again"),
    ("504", "It took too long; it may still take effect"),
];

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = |(status, text): (&str, &str)| {
            let content =
                ContentBuilder::new().schema(Some(Ref::from_schema_name("ApiError"))).build();
            let mut response =
                ResponseBuilder::new().description(text).content("application/json", content);
            if text.contains("Retry-After") {
                response = response.header(
                    "Retry-After",
                    HeaderBuilder::new().description(Some("Seconds")).build(),
                );
            }
            (status.to_owned(), response.build())
        };
        ResponsesBuilder::new().responses_from_iter(REFUSED.map(response)).build().responses
    }
}

static DOCUMENT: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::to_value(Description::openapi()).unwrap_or_default());
static PAGE: LazyLock<String> = LazyLock::new(|| page::rendered(&DOCUMENT));

/// The OpenAPI 3.1 document.
pub(crate) async fn json() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.to_string())
}

/// The same document as an HTML page.
pub(crate) async fn page() -> Html<&'static str> {
    Html(&PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_own_name_and_is_told_in_words() {
        let mut names = Vec::new();
        for (_, operations) in DOCUMENT["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                names.push(format!(
                    "{} {method}: {}",
                    operation["operationId"].as_str().unwrap(),
                    operation["summary"].as_str().unwrap()
                ));
            }
        }
        names.sort();
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = DOCUMENT.to_string();
        let named: std::collections::BTreeSet<_> = text
            .split("\"#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(named.len() > 10);
        for name in named {
            assert!(DOCUMENT["components"]["schemas"][name].is_object(), "{name}");
        }
        assert_eq!(DOCUMENT["openapi"], "3.1.0");
    }

    #[test]
    fn the_page_names_every_path() {
        for path in DOCUMENT["paths"].as_object().unwrap().keys() {
            assert!(PAGE.contains(path.as_str()), "{path}");
        }
    }
}
