//! `tracelift key …` and `tracelift tenant …`: commands of the operator, and of a workspace's admins.

use std::process::ExitCode;

use tonic::Response;
use tracelift_proto::{pages, time_to, v1};

use super::answer;
use crate::{
    args::{Global, Key, Tenant},
    connection::Connection,
    error::CliError,
    json, show,
};

pub(super) async fn key(global: &Global, command: Key) -> Result<ExitCode, CliError> {
    let connection = Connection::operator_or_admin(global)?;
    let mut calls = connection.administration();
    let refused = |status| connection.refused(status);
    match command {
        Key::Create { name, permission, expires } => {
            let request = v1::CreateApiKeyRequest {
                tenant_id: tenant_of(global, &connection)?,
                display_name: name,
                permission: permission_of(&permission).into(),
                expires_at: expires.map(time_to),
            };
            let made = calls.create_api_key(connection.call(request)).await;
            let made = made.map_err(refused)?.into_inner();
            new_key(global, &connection.present(made.api_key)?, &made.key)
        }
        Key::List => list_keys(global, &connection).await,
        Key::Rotate { id, overlap, expires } => {
            let request = v1::RotateApiKeyRequest {
                id: id.to_string(),
                overlap_seconds: overlap,
                expires_at: expires.map(time_to),
            };
            let rotated = calls.rotate_api_key(connection.call(request)).await;
            let rotated = rotated.map_err(refused)?.into_inner();
            new_key(global, &connection.present(rotated.api_key)?, &rotated.key)
        }
        Key::Revoke { id } => {
            let request = v1::RevokeApiKeyRequest { id: id.to_string() };
            let revoked = calls.revoke_api_key(connection.call(request)).await;
            let key = connection.present(revoked.map_err(refused)?.into_inner().api_key)?;
            answer(global.json, || json::key(&key), || show::keys(std::slice::from_ref(&key)))
        }
    }
}

fn permission_of(word: &str) -> v1::Permission {
    match word {
        "read" => v1::Permission::Read,
        "admin" => v1::Permission::Admin,
        _ => v1::Permission::Manage,
    }
}

/// The workspace of --tenant; with an API key it may be left out.
fn tenant_of(global: &Global, connection: &Connection) -> Result<String, CliError> {
    match global.tenant {
        Some(tenant) => Ok(tenant.to_string()),
        None if connection.has_key() => Ok(String::new()),
        None => Err(CliError::NoTenant),
    }
}

fn new_key(global: &Global, key: &v1::ApiKey, secret: &str) -> Result<ExitCode, CliError> {
    if !global.json {
        eprintln!(
            "The key of \"{}\" is shown only now; keep it as TRACELIFT_API_KEY:",
            show::plain(&key.display_name)
        );
    }
    answer(global.json, || json::new_key(key, secret), || format!("{secret}\n"))
}

async fn list_keys(global: &Global, connection: &Connection) -> Result<ExitCode, CliError> {
    let tenant_id = tenant_of(global, connection)?;
    let keys = pages::follow(0, |limit, page_token| {
        let request = v1::ListApiKeysRequest { tenant_id: tenant_id.clone(), limit, page_token };
        let (mut calls, request) = (connection.administration(), connection.call(request));
        async move { calls.list_api_keys(request).await.map(Response::into_inner) }
    });
    let keys = keys.await.map_err(|status| connection.refused(status))?;
    answer(global.json, || keys.iter().map(json::key).collect(), || show::keys(&keys))
}

pub(super) async fn tenant(global: &Global, command: Tenant) -> Result<ExitCode, CliError> {
    let connection = Connection::admin(global)?;
    let mut calls = connection.administration();
    let tenant = match command {
        Tenant::Create { name, id } => {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            let request = v1::CreateTenantRequest { id, display_name: name };
            calls.create_tenant(connection.call(request)).await.map(|made| made.into_inner().tenant)
        }
        Tenant::List => return list_tenants(global, &connection).await,
        Tenant::Suspend { id } => {
            let request = connection.call(v1::SuspendTenantRequest { id: id.to_string() });
            calls.suspend_tenant(request).await.map(|of| of.into_inner().tenant)
        }
        Tenant::Resume { id } => {
            let request = connection.call(v1::ResumeTenantRequest { id: id.to_string() });
            calls.resume_tenant(request).await.map(|of| of.into_inner().tenant)
        }
        Tenant::Delete { id, confirm } if id != confirm => return Err(CliError::Unconfirmed),
        Tenant::Delete { id, .. } => {
            let request = connection.call(v1::DeleteTenantRequest { id: id.to_string() });
            calls.delete_tenant(request).await.map(|of| of.into_inner().tenant)
        }
    };
    let tenant = connection.present(tenant.map_err(|status| connection.refused(status))?)?;
    answer(global.json, || json::tenant(&tenant), || show::tenant(&tenant))
}

async fn list_tenants(global: &Global, connection: &Connection) -> Result<ExitCode, CliError> {
    let tenants = pages::follow(0, |limit, page_token| {
        let request = connection.call(v1::ListTenantsRequest { limit, page_token });
        let mut calls = connection.administration();
        async move { calls.list_tenants(request).await.map(Response::into_inner) }
    });
    let tenants = tenants.await.map_err(|status| connection.refused(status))?;
    answer(global.json, || tenants.iter().map(json::tenant).collect(), || show::tenants(&tenants))
}
