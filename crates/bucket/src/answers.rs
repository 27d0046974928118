//! A fake network for tests that computes each response with a function.

use std::{fmt, sync::Arc};

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
    },
    shared::IntoShared as _,
};

type Answer = dyn Fn(&http::Request<SdkBody>) -> http::Response<SdkBody> + Send + Sync;

#[derive(Clone)]
struct Answers(Arc<Answer>);

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

impl HttpConnector for Answers {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = (self.0)(&request.try_into_http1x().unwrap());
        HttpConnectorFuture::ready(Ok(HttpResponse::try_from(answer).unwrap()))
    }
}

/// Passes every request to `answer`.
pub(crate) fn answers(
    answer: impl Fn(&http::Request<SdkBody>) -> http::Response<SdkBody> + Send + Sync + 'static,
) -> SharedHttpConnector {
    Answers(Arc::new(answer)).into_shared()
}
