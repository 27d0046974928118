//! Client-side authentication: a key or token on every call.

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Adds a key or token to every call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Adds `authorization: Bearer <token>` to calls.
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().expect("ASCII"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel whose calls carry credentials.
pub type Authorised = InterceptedService<Channel, Bearer>;
