//! `tracelift destination …`

use std::process::ExitCode;

use tonic::Response;
use tracelift_proto::{pages, v1};

use super::answer;
use crate::{
    args::{Destination, DestinationCreate, Global, Identity},
    connection::Connection,
    error::CliError,
    json, secrets, show,
};

pub(super) async fn run(global: &Global, command: Destination) -> Result<ExitCode, CliError> {
    let connection = Connection::tenant(global)?;
    match command {
        Destination::Create(create) => {
            let request = connection.call(request(*create)?);
            let made = connection.destinations().create_destination(request).await;
            one(
                global,
                &connection,
                made.map_err(|status| connection.refused(status))?.into_inner().destination,
            )
        }
        Destination::Get { id } => {
            let request = connection.call(v1::GetDestinationRequest { id: id.to_string() });
            let found = connection.destinations().get_destination(request).await;
            one(
                global,
                &connection,
                found.map_err(|status| connection.refused(status))?.into_inner().destination,
            )
        }
        Destination::Update { id, identity } => {
            let (credentials, aws_role_arn) = given(&identity)?;
            let request = v1::UpdateDestinationCredentialsRequest {
                id: id.to_string(),
                credentials,
                aws_role_arn,
            };
            let changed = connection
                .destinations()
                .update_destination_credentials(connection.call(request))
                .await;
            one(
                global,
                &connection,
                changed.map_err(|status| connection.refused(status))?.into_inner().destination,
            )
        }
        Destination::Delete { id } => {
            let request = connection.call(v1::DeleteDestinationRequest { id: id.to_string() });
            connection
                .destinations()
                .delete_destination(request)
                .await
                .map_err(|status| connection.refused(status))?;
            answer(
                global.json,
                || serde_json::json!({ "id": id, "deleted": true }),
                || format!("deleted destination {id}\n"),
            )
        }
        Destination::List => {
            let found = pages::follow(0, |limit, page_token| {
                let request = connection.call(v1::ListDestinationsRequest { limit, page_token });
                let mut destinations = connection.destinations();
                async move { destinations.list_destinations(request).await.map(Response::into_inner) }
            });
            let found = found.await.map_err(|status| connection.refused(status))?;
            answer(
                global.json,
                || found.iter().map(json::destination).collect(),
                || show::destinations(&found),
            )
        }
    }
}

fn one(
    global: &Global,
    connection: &Connection,
    found: Option<v1::Destination>,
) -> Result<ExitCode, CliError> {
    let found = connection.present(found)?;
    answer(global.json, || json::destination(&found), || show::destination(&found))
}

/// The credentials or the role given as options. Without either, credentials are read from the
/// environment.
fn given(identity: &Identity) -> Result<(Option<v1::Credentials>, String), CliError> {
    let role = identity.aws_role_arn.clone().unwrap_or_default();
    if !role.is_empty() || identity.environment_credentials {
        return Ok((None, role));
    }
    Ok((Some(secrets::bucket(identity.credentials_file.as_deref())?), role))
}

fn request(create: DestinationCreate) -> Result<v1::CreateDestinationRequest, CliError> {
    let (credentials, aws_role_arn) = given(&create.identity)?;
    let addressing_style = v1::AddressingStyle::from(create.addressing()).into();
    Ok(v1::CreateDestinationRequest {
        display_name: create.name,
        config: Some(v1::BucketConfig {
            bucket_name: create.bucket,
            prefix: create.prefix,
            region: create.region,
            endpoint_url: create.endpoint_url,
            include_bucket_in_prefix: create.bucket_is_in_endpoint.then_some(false),
            addressing_style,
            s3_additional_kwargs: create.options.into_iter().collect(),
            use_accelerate_endpoint: create.use_accelerate_endpoint,
            payload_signing_enabled: create.payload_signing_enabled,
            us_east_1_regional_endpoint: create.us_east_1_regional_endpoint.unwrap_or_default(),
        }),
        credentials,
        aws_role_arn,
        idempotency_key: create.idempotency_key.unwrap_or_default(),
    })
}
