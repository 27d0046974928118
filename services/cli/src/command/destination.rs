//! `tracelift destination …`

use std::process::ExitCode;

use tracelift_proto::v1;

use super::answer;
use crate::{
    args::{Destination, DestinationCreate, Global},
    connection::Connection,
    error::CliError,
    json, secrets, show,
};

pub(super) async fn run(global: &Global, command: Destination) -> Result<ExitCode, CliError> {
    let connection = Connection::tenant(global)?;
    match command {
        Destination::Create(create) => {
            let request = connection.call(request(create)?);
            let made = connection.destinations().create_destination(request).await;
            one(global, &connection, made.map_err(|status| connection.refused(status))?.into_inner().destination)
        }
        Destination::Get { id } => {
            let request = connection.call(v1::GetDestinationRequest { id: id.to_string() });
            let found = connection.destinations().get_destination(request).await;
            one(global, &connection, found.map_err(|status| connection.refused(status))?.into_inner().destination)
        }
        Destination::List => {
            let request = connection.call(v1::ListDestinationsRequest {});
            let found = connection.destinations().list_destinations(request).await;
            let found = found.map_err(|status| connection.refused(status))?.into_inner().destinations;
            answer(global.json, || found.iter().map(json::destination).collect(), || show::destinations(&found))
        }
    }
}

fn one(global: &Global, connection: &Connection, found: Option<v1::Destination>) -> Result<ExitCode, CliError> {
    let found = connection.present(found)?;
    answer(global.json, || json::destination(&found), || show::destination(&found))
}

fn request(create: DestinationCreate) -> Result<v1::CreateDestinationRequest, CliError> {
    let credentials = secrets::bucket(create.credentials_file.as_deref())?;
    let addressing_style = v1::AddressingStyle::from(create.addressing()).into();
    Ok(v1::CreateDestinationRequest {
        display_name: create.name,
        config: Some(v1::BucketConfig {
            bucket_name: create.bucket,
            prefix: create.prefix,
            region: create.region,
            endpoint_url: create.endpoint_url,
            include_bucket_in_prefix: None,
            addressing_style,
            s3_additional_kwargs: create.options.into_iter().collect(),
        }),
        credentials: Some(credentials),
    })
}
