//! The connection to the control plane: a channel, and the headers of every call.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Request, Status,
    metadata::{MetadataMap, MetadataValue},
    transport::Channel,
};
use tracelift_proto::{
    MAX_FLEET_BYTES,
    v1::{
        admin_service_client::AdminServiceClient,
        destination_service_client::DestinationServiceClient,
        export_service_client::ExportServiceClient,
    },
};

use crate::{args::Global, error::CliError, secrets};

/// Creating a destination waits for the bucket; all other calls are fast.
const DEADLINE: Duration = Duration::from_secs(120);

/// A client of the control plane; connects on the first call.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    server: String,
    headers: MetadataMap,
}

impl Connection {
    /// Authenticates as a tenant, with an API key.
    pub(crate) fn tenant(global: &Global) -> Result<Self, CliError> {
        let mut headers = MetadataMap::new();
        headers.insert("x-api-key", header("the API key", "", &secrets::api_key(global)?)?);
        if let Some(tenant) = global.tenant.and_then(|id| id.to_string().parse().ok()) {
            headers.insert("x-tenant-id", tenant);
        }
        Self::new(global, headers)
    }

    /// Authenticates as the operator, with the admin token.
    pub(crate) fn admin(global: &Global) -> Result<Self, CliError> {
        let mut headers = MetadataMap::new();
        headers.insert(
            "authorization",
            header("the admin token", "Bearer ", &secrets::admin_token(global)?)?,
        );
        Self::new(global, headers)
    }

    /// As the operator if an admin token is given, otherwise with the API key if one is.
    pub(crate) fn operator_or_admin(global: &Global) -> Result<Self, CliError> {
        if !secrets::has_admin_token(global) && secrets::has_api_key(global) {
            Self::tenant(global)
        } else {
            Self::admin(global)
        }
    }

    /// Whether it authenticates with an API key.
    pub(crate) fn has_key(&self) -> bool {
        self.headers.contains_key("x-api-key")
    }

    fn new(global: &Global, headers: MetadataMap) -> Result<Self, CliError> {
        Ok(Self {
            channel: global.tls.channel(&global.server)?,
            server: global.server.clone(),
            headers,
        })
    }

    pub(crate) fn exports(&self) -> ExportServiceClient<Channel> {
        ExportServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_FLEET_BYTES)
    }

    pub(crate) fn destinations(&self) -> DestinationServiceClient<Channel> {
        DestinationServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_FLEET_BYTES)
    }

    pub(crate) fn administration(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_FLEET_BYTES)
    }

    /// A unary call.
    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream(message);
        request.set_timeout(DEADLINE);
        request
    }

    /// A call with a streamed response and no deadline.
    pub(crate) fn stream<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.headers.clone(), tonic::Extensions::default(), message)
    }

    /// Converts a gRPC error, for use with `map_err`.
    pub(crate) fn refused(&self, status: Status) -> CliError {
        CliError::Refused { status, server: self.server.clone() }
    }

    /// Unwraps a required part of a response.
    pub(crate) fn present<T>(&self, content: Option<T>) -> Result<T, CliError> {
        content.ok_or_else(|| CliError::Empty { server: self.server.clone() })
    }
}

fn header(
    name: &'static str,
    scheme: &str,
    secret: &SecretString,
) -> Result<MetadataValue<tonic::metadata::Ascii>, CliError> {
    let text = format!("{scheme}{}", secret.expose_secret());
    let mut value: MetadataValue<_> = text.parse().map_err(|_| CliError::Header(name))?;
    value.set_sensitive(true);
    Ok(value)
}
