//! AdminService: tenants, their keys and the audit log.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::{Request, Response, Status};
use tracelift_core::{
    Invalid, InvalidKind,
    id::{KeyId, TenantId},
    invalid::Faults,
    time::Timestamp,
};
use tracelift_proto::{
    status::invalid,
    time_to,
    v1::{self, admin_service_server::AdminService},
};
use uuid::Uuid;

use super::{audit, pages, unavailable};
use crate::{
    auth::{self, KEY_PREFIX, act, hash},
    store::{ApiKey, Permission, Place, Store, Tenant},
};

pub(crate) struct Admin {
    pub(crate) store: Arc<Store>,
}

fn display_name(text: &str) -> Result<String, Invalid> {
    match text.chars().count() {
        0 => Err(Invalid::new("display_name", "must not be empty").of_kind(InvalidKind::TooShort)),
        1..=255 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(Invalid::new(
            "display_name",
            "must have at most 255 characters, none of them a control character",
        )
        .of_kind(InvalidKind::TooLong)),
    }
}

/// Whether an item comes later in the list: newest first, smallest id first among those created at
/// the same time.
fn is_behind(made: Timestamp, id: Uuid, Place(last, last_id): Place) -> bool {
    made < last || (made == last && id > last_id)
}

/// A new key: `tl_` and 32 random bytes.
fn new_key() -> Result<String, Status> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| Status::internal("no randomness to be had from the system"))?;
    Ok(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        auth::Admin::operator(&request)?;
        let act = act(&request)?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let name = faults.take(display_name(&request.display_name));
        let id = match request.id.as_str() {
            "" => Some(TenantId(Uuid::now_v7())),
            id => faults.take(TenantId::parse("id", id)),
        };
        let (id, display_name) = faults.finish(id.zip(name)).map_err(invalid)?;
        let tenant =
            Tenant { id, display_name, created_at: self.store.now().await.map_err(unavailable)? };
        self.store.create_tenant(act, tenant.clone()).await.map_err(unavailable)?;
        Ok(Response::new(v1::CreateTenantResponse { tenant: Some((&tenant).into()) }))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        auth::Admin::operator(&request)?;
        let v1::ListTenantsRequest { limit, page_token } = request.get_ref();
        let all = self.store.tenants().await.map_err(unavailable)?;
        let show =
            |tenant: &Tenant| (Place(tenant.created_at, tenant.id.0), v1::Tenant::from(tenant));
        let behind = |tenant: &Tenant, after| is_behind(tenant.created_at, tenant.id.0, after);
        let (tenants, next_page_token) =
            pages::cut("tenants", all, (*limit, page_token), behind, show).await?;
        Ok(Response::new(v1::ListTenantsResponse { tenants, next_page_token }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        auth::Admin::operator(&request)?;
        let act = act(&request)?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let tenant = faults.take(TenantId::parse("tenant_id", &request.tenant_id));
        let name = faults.take(display_name(&request.display_name));
        let permission = faults.take(v1::Permission::requested(request.permission));
        let (tenant, display_name) = faults.finish(tenant.zip(name)).map_err(invalid)?;
        if !self.store.has_tenant(tenant).await.map_err(unavailable)? {
            return Err(Status::not_found(format!(
                "tenant {tenant} does not exist; create it first"
            )));
        }
        let permission = permission.map_or(Permission::Manage, Permission::from);
        let created_at = self.store.now().await.map_err(unavailable)?;
        let api_key = ApiKey {
            id: KeyId(Uuid::now_v7()),
            tenant,
            display_name,
            permission,
            created_at,
            revoked_at: None,
        };
        let key = new_key()?;
        self.store.create_key(act, api_key.clone(), hash(&key)).await.map_err(unavailable)?;
        Ok(Response::new(v1::CreateApiKeyResponse { api_key: Some((&api_key).into()), key }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        auth::Admin::operator(&request)?;
        let tenant = TenantId::parse("tenant_id", &request.get_ref().tenant_id)
            .map_err(|fault| invalid([fault]))?;
        let v1::ListApiKeysRequest { limit, page_token, .. } = request.get_ref();
        let all = self.store.keys(tenant).await.map_err(unavailable)?;
        let show = |key: &ApiKey| (Place(key.created_at, key.id.0), v1::ApiKey::from(key));
        let behind = |key: &ApiKey, after| is_behind(key.created_at, key.id.0, after);
        let (api_keys, next_page_token) =
            pages::cut("api-keys", all, (*limit, page_token), behind, show).await?;
        Ok(Response::new(v1::ListApiKeysResponse { api_keys, next_page_token }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        auth::Admin::operator(&request)?;
        let act = act(&request)?;
        let id = KeyId::parse("id", &request.get_ref().id).map_err(|fault| invalid([fault]))?;
        let now = self.store.now().await.map_err(unavailable)?;
        let key = self.store.revoke_key(act, id, now).await.map_err(unavailable)?;
        let key = key.ok_or_else(|| Status::not_found(format!("API key {id} does not exist")))?;
        Ok(Response::new(v1::RevokeApiKeyResponse { api_key: Some((&key).into()) }))
    }

    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        let tenant = audit::whose(&request)?;
        audit::list(&self.store, tenant, request.get_ref()).await.map(Response::new)
    }
}

impl From<v1::Permission> for Permission {
    fn from(permission: v1::Permission) -> Self {
        match permission {
            v1::Permission::Read => Self::Read,
            v1::Permission::Manage | v1::Permission::Unspecified => Self::Manage,
            v1::Permission::Admin => Self::Admin,
        }
    }
}

impl From<&Tenant> for v1::Tenant {
    fn from(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            display_name: tenant.display_name.clone(),
            created_at: Some(time_to(tenant.created_at)),
        }
    }
}

impl From<&ApiKey> for v1::ApiKey {
    fn from(key: &ApiKey) -> Self {
        let permission = match key.permission {
            Permission::Read => v1::Permission::Read,
            Permission::Manage => v1::Permission::Manage,
            Permission::Admin => v1::Permission::Admin,
        };
        Self {
            id: key.id.to_string(),
            tenant_id: key.tenant.to_string(),
            display_name: key.display_name.clone(),
            permission: permission.into(),
            created_at: Some(time_to(key.created_at)),
            revoked_at: key.revoked_at.map(time_to),
        }
    }
}
