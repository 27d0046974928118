//! `tracelift key …` and `tracelift tenant …`: the operator's commands.

use std::process::ExitCode;

use tracelift_proto::v1;

use super::answer;
use crate::{
    args::{Global, Key, Tenant},
    connection::Connection,
    error::CliError,
    json, show,
};

pub(super) async fn key(global: &Global, command: Key) -> Result<ExitCode, CliError> {
    let connection = Connection::admin(global)?;
    let Key::Create { name, permission } = command;
    let tenant = global.tenant.ok_or(CliError::NoTenant)?;
    let permission = match permission.as_str() {
        "read" => v1::Permission::Read,
        "admin" => v1::Permission::Admin,
        _ => v1::Permission::Manage,
    };
    let request = v1::CreateApiKeyRequest {
        tenant_id: tenant.to_string(),
        display_name: name,
        permission: permission.into(),
    };
    let made = connection.administration().create_api_key(connection.call(request)).await;
    let made = made.map_err(|status| connection.refused(status))?.into_inner();
    let key = connection.present(made.api_key)?;
    if !global.json {
        eprintln!(
            "The key of \"{}\" is shown only now; keep it as TRACELIFT_API_KEY:",
            show::plain(&key.display_name)
        );
    }
    answer(global.json, || json::new_key(&key, &made.key), || format!("{}\n", made.key))
}

pub(super) async fn tenant(global: &Global, command: Tenant) -> Result<ExitCode, CliError> {
    let connection = Connection::admin(global)?;
    let Tenant::Create { name, id } = command;
    let request = v1::CreateTenantRequest {
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        display_name: name,
    };
    let made = connection.administration().create_tenant(connection.call(request)).await;
    let made = connection
        .present(made.map_err(|status| connection.refused(status))?.into_inner().tenant)?;
    answer(global.json, || json::tenant(&made), || show::tenant(&made))
}
