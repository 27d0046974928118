//! AdminService: tenants, their keys and the audit log.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::{Code, Request, Response, Status};
use tracelift_core::{
    Invalid, InvalidKind,
    id::{KeyId, TenantId},
    invalid::Faults,
    time::Timestamp,
};
use tracelift_proto::{
    status::invalid,
    time_from, time_to,
    v1::{self, admin_service_server::AdminService},
};
use uuid::Uuid;

use super::{audit, pages, unavailable};
use crate::{
    auth::{self, KEY_PREFIX, act, hash},
    store::{ApiKey, NewKey, Permission, Place, Rotated, Store, Tenant},
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

/// When a new key expires; must be later than now.
fn expiry(
    time: Option<&prost_types::Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Invalid> {
    let time = time.map(|time| time_from("expires_at", Some(time))).transpose()?;
    if time.is_some_and(|time| time <= now) {
        return Err(Invalid::new("expires_at", "must be in the future"));
    }
    Ok(time)
}

fn no_tenant(id: TenantId) -> Status {
    Status::not_found(format!("tenant {id} does not exist"))
}

fn no_key(id: KeyId) -> Status {
    Status::not_found(format!("API key {id} does not exist"))
}

/// Exports of a deleted tenant that are ended before the answer; the others follow.
const ENDED_AT_ONCE: usize = 100;

impl Admin {
    async fn now(&self) -> Result<Timestamp, Status> {
        self.store.now().await.map_err(unavailable)
    }

    async fn set_suspended<T>(
        &self,
        request: &Request<T>,
        id: &str,
        suspended: bool,
    ) -> Result<v1::Tenant, Status> {
        auth::Admin::operator(request)?;
        let (act, now) = (act(request)?, self.now().await?);
        let id = TenantId::parse("id", id).map_err(|fault| invalid([fault]))?;
        let tenant = self.store.set_suspended(act, id, suspended, now).await;
        tenant.map_err(unavailable)?.as_ref().map(Into::into).ok_or_else(|| no_tenant(id))
    }
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
        let tenant = Tenant::new(id, display_name, self.now().await?);
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

    async fn suspend_tenant(
        &self,
        request: Request<v1::SuspendTenantRequest>,
    ) -> Result<Response<v1::SuspendTenantResponse>, Status> {
        let tenant = self.set_suspended(&request, &request.get_ref().id, true).await?;
        Ok(Response::new(v1::SuspendTenantResponse { tenant: Some(tenant) }))
    }

    async fn resume_tenant(
        &self,
        request: Request<v1::ResumeTenantRequest>,
    ) -> Result<Response<v1::ResumeTenantResponse>, Status> {
        let tenant = self.set_suspended(&request, &request.get_ref().id, false).await?;
        Ok(Response::new(v1::ResumeTenantResponse { tenant: Some(tenant) }))
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        auth::Admin::operator(&request)?;
        let (act, now) = (act(&request)?, self.now().await?);
        let id = TenantId::parse("id", &request.get_ref().id).map_err(|fault| invalid([fault]))?;
        let tenant = self.store.delete_tenant(act, id, now).await.map_err(unavailable)?;
        let tenant = tenant.ok_or_else(|| no_tenant(id))?;
        for _ in 0..ENDED_AT_ONCE {
            if !self.store.end_next(now).await.map_err(unavailable)? {
                break;
            }
        }
        Ok(Response::new(v1::DeleteTenantResponse { tenant: Some((&tenant).into()) }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        let tenant = auth::Admin::about(&request, "tenant_id", &request.get_ref().tenant_id);
        let (act, created_at) = (act(&request)?, self.now().await?);
        let tenant = match tenant {
            Err(status) if status.code() == Code::InvalidArgument => None,
            tenant => Some(tenant?),
        };
        let request = request.into_inner();
        let mut faults = Faults::default();
        let tenant =
            tenant.or_else(|| faults.take(TenantId::parse("tenant_id", &request.tenant_id)));
        let name = faults.take(display_name(&request.display_name));
        let permission = faults.take(v1::Permission::requested(request.permission));
        let expires = faults.take(expiry(request.expires_at.as_ref(), created_at));
        let fields = tenant.zip(name).zip(permission).zip(expires);
        let (((tenant, display_name), permission), expires_at) =
            faults.finish(fields).map_err(invalid)?;
        let api_key = ApiKey {
            id: KeyId(Uuid::now_v7()),
            tenant,
            display_name,
            permission: permission.into(),
            created_at,
            revoked_at: None,
            expires_at,
            last_used_at: None,
        };
        let key = new_key()?;
        let made = self.store.create_key(act, api_key.clone(), hash(&key)).await;
        if !made.map_err(unavailable)? {
            return Err(Status::not_found(format!(
                "tenant {tenant} does not exist; create it first"
            )));
        }
        Ok(Response::new(v1::CreateApiKeyResponse { api_key: Some((&api_key).into()), key }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let tenant = auth::Admin::about(&request, "tenant_id", &request.get_ref().tenant_id)?;
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
        let whose = auth::Admin::of(&request)?.tenant();
        let act = act(&request)?;
        let id = KeyId::parse("id", &request.get_ref().id).map_err(|fault| invalid([fault]))?;
        let now = self.now().await?;
        let key = self.store.revoke_key(act, whose, id, now).await.map_err(unavailable)?;
        let key = key.ok_or_else(|| no_key(id))?;
        Ok(Response::new(v1::RevokeApiKeyResponse { api_key: Some((&key).into()) }))
    }

    async fn rotate_api_key(
        &self,
        request: Request<v1::RotateApiKeyRequest>,
    ) -> Result<Response<v1::RotateApiKeyResponse>, Status> {
        let whose = auth::Admin::of(&request)?.tenant();
        let (act, now) = (act(&request)?, self.now().await?);
        let v1::RotateApiKeyRequest { id, overlap_seconds, expires_at } = request.get_ref();
        let mut faults = Faults::default();
        let id = faults.take(KeyId::parse("id", id));
        let expires = faults.take(expiry(expires_at.as_ref(), now));
        let (id, expires_at) = faults.finish(id.zip(expires)).map_err(invalid)?;
        let key = new_key()?;
        let new = NewKey { id: KeyId(Uuid::now_v7()), hash: hash(&key), expires_at };
        let until = now.plus_seconds(i64::from(*overlap_seconds));
        let rotated = self.store.rotate_key(act, whose, id, new, until, now).await;
        match rotated.map_err(unavailable)? {
            Rotated::Done(keys) => {
                let (old, new) = keys.as_ref();
                let (api_key, previous) = (Some(new.into()), Some(old.into()));
                Ok(Response::new(v1::RotateApiKeyResponse { api_key, key, previous }))
            }
            Rotated::Absent => Err(no_key(id)),
            Rotated::Invalid => Err(Status::failed_precondition(format!(
                "API key {id} was revoked or has expired; create a new one"
            ))),
        }
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
            suspended_at: tenant.suspended_at.map(time_to),
            deleted_at: tenant.deleted_at.map(time_to),
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
            expires_at: key.expires_at.map(time_to),
            last_used_at: key.last_used_at.map(time_to),
        }
    }
}
