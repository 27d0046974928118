//! `tracelift filter …`

use std::process::ExitCode;

use tracelift_proto::v1;

use super::answer;
use crate::{
    args::{Filter, Global},
    connection::Connection,
    error::CliError,
    json, show,
};

pub(super) async fn run(global: &Global, command: Filter) -> Result<ExitCode, CliError> {
    let connection = Connection::tenant(global)?;
    let Filter::Check { filter } = command;
    let request = connection.call(v1::ValidateFilterRequest { filter, ..Default::default() });
    let found = connection.exports().validate_filter(request).await;
    let found = found.map_err(|status| connection.refused(status))?.into_inner();
    let printed = answer(global.json, || json::filter(&found), || show::filter(&found))?;
    Ok(if found.valid { printed } else { ExitCode::FAILURE })
}
