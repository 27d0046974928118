//! Bounds the size of responses: an endpoint named by one customer must not send endless data to a
//! process that all customers share.

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient,
            SharedHttpConnector, http_client_fn,
        },
        orchestrator::HttpRequest,
    },
    shared::IntoShared as _,
};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// Maximum size of a response body, in bytes. The largest responses to our requests list a thousand
/// uploads with keys of a kilobyte.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Wraps a client so that responses beyond the bound fail.
pub(crate) fn with_bounded_answers(client: SharedHttpClient) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        Bounded(client.http_connector(settings, components)).into_shared()
    })
}

/// Wraps a body so that it fails beyond the bound.
pub(crate) fn bounded(body: SdkBody) -> SdkBody {
    SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER_BYTES))
}

#[derive(Debug)]
struct Bounded(SharedHttpConnector);

impl HttpConnector for Bounded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move { Ok(answer.await?.map(bounded)) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracelift_core::{
        destination::{Bucket, BucketInput},
        time::Timestamp,
    };

    use super::*;
    use crate::{BucketError, Connector, EndpointPolicy, Grant, Keys, answers::answers};

    /// A store that answers every request with `element`, padded to the given size.
    fn talkative(
        status: u16,
        name: &'static str,
        content: &'static str,
        bytes: usize,
    ) -> Connector {
        let http = answers(move |_| {
            let (begin, end) = (format!("<{name}>{content}"), format!("</{name}>"));
            let body = format!("{begin}{}{end}", " ".repeat(bytes - begin.len() - end.len()));
            http::Response::builder().status(status).body(SdkBody::from(body)).unwrap()
        });
        Connector::over(http, EndpointPolicy::unrestricted())
    }

    fn bucket() -> Bucket {
        BucketInput {
            bucket_name: "traces".into(),
            region: "us-east-1".into(),
            ..BucketInput::default()
        }
        .check()
        .unwrap()
    }

    fn keys() -> Keys {
        Keys {
            access_key_id: "AKIA".into(),
            secret_access_key: "secret".to_owned().into(),
            session_token: None,
        }
    }

    async fn list(bytes: usize) -> Result<(), BucketError> {
        let connector = talkative(200, "ListMultipartUploadsResult", "", bytes);
        let store =
            connector.store(&bucket(), &Grant::Keys(keys()), Duration::from_secs(60), 1).await?;
        store.uploads("k").await.map(drop)
    }

    #[tokio::test]
    async fn an_answer_that_goes_on_behind_the_bound_is_a_fault_of_the_endpoint() {
        assert_eq!(list(MAX_ANSWER_BYTES).await, Ok(()));
        assert_eq!(
            list(MAX_ANSWER_BYTES + 1).await.unwrap_err().to_string(),
            "Invalid endpoint: ListMultipartUploads answered 200 with a body that S3 does not send; give the address of an S3-compatible \
             store, or omit endpoint_url for AWS"
        );
    }

    async fn refused(bytes: usize) -> BucketError {
        let connector = talkative(403, "Error", "<Code>InvalidAccessKeyId</Code>", bytes);
        let reader = connector
            .reader(&bucket(), &keys(), Duration::from_secs(60), 1, || Timestamp::EPOCH)
            .await
            .unwrap();
        reader.get("k").await.unwrap_err()
    }

    #[tokio::test]
    async fn a_refusal_that_goes_on_behind_the_bound_is_judged_by_its_status() {
        assert_eq!(refused(MAX_ANSWER_BYTES).await.words, "403 InvalidAccessKeyId");
        assert_eq!(refused(MAX_ANSWER_BYTES + 1).await.words, "403 without an S3 error code");
    }
}
