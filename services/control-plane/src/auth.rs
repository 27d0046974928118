//! Authentication: each request is checked once, before any handler runs, by the rule for its path.
//!
//! Admin calls need the admin token, the exporters' stream needs the fleet token, everything else
//! needs an API key. Tokens and keys are compared by their SHA-256, so neither comparison times nor
//! the store reveal them.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tonic::{
    Status,
    body::Body,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tower::{Layer, Service};
use tracelift_core::id::TenantId;
use tracelift_proto::status::invalid;
use tracelift_runtime::request::RequestContext;

use crate::{
    keys::{self, Keys},
    logins::{Logins, Refused},
    store::{Act, Actor, KnownKey, Permission, Who},
};

/// A caller with an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Every call is scoped to its tenant.
    pub(crate) actor: Actor,
    permission: Permission,
}

impl Caller {
    /// Who makes a request; PERMISSION_DENIED if the key lacks this permission.
    pub(crate) fn actor<T>(
        request: &tonic::Request<T>,
        needed: Permission,
    ) -> Result<Actor, Status> {
        let caller = request.extensions().get::<Self>().copied();
        let caller = caller.ok_or_else(|| Status::unauthenticated(NO_KEY))?;
        if caller.permission >= needed {
            return Ok(caller.actor);
        }
        Err(Status::permission_denied(match needed {
            Permission::Read | Permission::Manage => {
                "this API key may only read; use one with the manage permission"
            }
            Permission::Admin => NO_ADMIN,
        }))
    }
}

const NO_ADMIN: &str =
    "this API key may not administer its workspace; use one with the admin permission";

/// Whose affairs an admin call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admin {
    /// Everybody's: the caller has the admin token.
    Operator,
    /// This tenant's: the caller has a key of it that may administer it.
    Tenant(TenantId),
}

impl Admin {
    /// The tenant that the caller is limited to.
    pub(crate) fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Operator => None,
            Self::Tenant(own) => Some(own),
        }
    }

    /// Who makes an admin call; PERMISSION_DENIED if the key may not administer.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        match act(request)?.who {
            Who::AdminToken(_) => Ok(Self::Operator),
            _ => Caller::actor(request, Permission::Admin).map(|actor| Self::Tenant(actor.tenant)),
        }
    }

    /// The tenant in `field` of a request, which must be the key's own; empty is its own.
    pub(crate) fn about<T>(
        request: &tonic::Request<T>,
        field: &str,
        id: &str,
    ) -> Result<TenantId, Status> {
        let admin = Self::of(request)?;
        if let (Self::Tenant(own), "") = (admin, id) {
            return Ok(own);
        }
        let tenant = TenantId::parse(field, id).map_err(|fault| invalid([fault]))?;
        match admin {
            Self::Tenant(own) if own != tenant => {
                Err(Status::permission_denied("the API key may administer its own workspace only"))
            }
            _ => Ok(tenant),
        }
    }

    /// The same for a call that needs the admin token.
    pub(crate) fn operator<T>(request: &tonic::Request<T>) -> Result<(), Status> {
        match act(request)?.who {
            Who::AdminToken(_) => Ok(()),
            _ => Err(Status::permission_denied("this call needs the admin token")),
        }
    }
}

/// Who acts by a request, for the audit log.
pub(crate) fn act<T>(request: &tonic::Request<T>) -> Result<Act, Status> {
    let act = request.extensions().get::<Act>().cloned();
    act.ok_or_else(|| Status::unauthenticated(NO_KEY))
}

const NO_KEY: &str = "an API key is needed: send it as x-api-key, or as authorization: Bearer";
/// How API keys begin.
pub(crate) const KEY_PREFIX: &str = "tl_";
const BAD_KEY: &str = "the API key is not valid";

/// The SHA-256 of a key or token.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The operator's two tokens, hashed.
#[derive(Clone)]
pub struct Tokens {
    admin: Vec<Token>,
    fleet: Vec<Token>,
}

/// One of the tokens that are valid at a time, so that a token can be replaced without an outage.
#[derive(Clone)]
struct Token {
    name: String,
    hash: [u8; 32],
}

impl Token {
    /// The tokens of a setting: `TOKEN` or `NAME:TOKEN`, separated by commas. One without a name has
    /// the name of its kind.
    fn all(setting: &SecretString, kind: &str) -> Vec<Self> {
        let given = setting.expose_secret().split(',').map(str::trim);
        let token = |text: &str| {
            let is_name = |name: &str| {
                (1..=32).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let named = text.split_once(':').filter(|(name, _)| is_name(name));
            let (name, token) = named.unwrap_or((kind, text));
            Self { name: name.to_owned(), hash: hash(token) }
        };
        given.filter(|text| !text.is_empty()).map(token).collect()
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Each setting holds one token or several, separated by commas; an admin token may have a name,
    /// as in `NAME:TOKEN`. Without an admin token, admin calls are refused.
    pub fn new(admin: Option<&SecretString>, fleet: &SecretString) -> Self {
        let admin = admin.map(|setting| Token::all(setting, "admin")).unwrap_or_default();
        Self { admin, fleet: Token::all(fleet, "fleet") }
    }
}

/// Wraps a service in [`Authenticate`].
#[derive(Debug, Clone)]
pub(crate) struct AuthLayer {
    tokens: Tokens,
    keys: Keys,
    logins: Logins,
}

impl AuthLayer {
    /// Checks against these tokens and keys, and records refusals.
    pub(crate) fn new(tokens: Tokens, keys: Keys, logins: Logins) -> Self {
        Self { tokens, keys, logins }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { judge: self.clone(), inner }
    }
}

/// Passes a request on with its [`Caller`], or rejects it.
#[derive(Debug, Clone)]
pub(crate) struct Authenticate<S> {
    judge: AuthLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Authenticate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let judge = self.judge.clone();
        Box::pin(async move {
            let (request_id, address) = source(&request);
            let of = |who| Act { who, request_id, address };
            match judge.judge(request.uri().path(), request.headers()).await {
                Ok((who, caller)) => {
                    request.extensions_mut().insert(of(who));
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    inner.call(request).await
                }
                Err(Refused { who, tenant, status }) => {
                    judge.logins.refused(of(who), tenant, &status).await;
                    Ok(status.into_http())
                }
            }
        })
    }
}

/// A request's id, and the IP address that it comes from.
fn source(request: &Request<Body>) -> (String, String) {
    let extensions = request.extensions();
    let id = extensions
        .get::<RequestContext>()
        .and_then(|context| context.request_id.to_str().ok())
        .unwrap_or_default();
    let secured = extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(TlsConnectInfo::get_ref);
    let peer = secured.or_else(|| extensions.get::<TcpConnectInfo>());
    let address = peer.and_then(TcpConnectInfo::remote_addr).map(|address| address.ip());
    (id.to_owned(), address.map(|address| address.to_string()).unwrap_or_default())
}

impl AuthLayer {
    async fn judge(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(Who, Option<Caller>), Refused> {
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            "grpc.health.v1.Health"
            | "grpc.reflection.v1.ServerReflection"
            | "grpc.reflection.v1alpha.ServerReflection" => Ok((Who::Anonymous, None)),
            "tracelift.v1.AdminService" if !has_key(headers) => {
                let token = token(headers, &self.tokens.admin, "admin")?;
                Ok((Who::AdminToken(token.name.clone()), None))
            }
            "tracelift.fleet.v1.FleetService" => {
                token(headers, &self.tokens.fleet, "fleet")?;
                Ok((Who::Exporter(None), None))
            }
            _ => {
                let caller = self.caller(headers).await?;
                Ok((Who::Key(caller.actor.key), Some(caller)))
            }
        }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        let secret = text(headers, "x-api-key")
            .or_else(|| bearer(headers))
            .ok_or_else(|| Status::unauthenticated(NO_KEY))?;
        let key = self.keys.find(hash(secret)).await?;
        let KnownKey { key, suspended } = key.ok_or_else(|| Status::unauthenticated(BAD_KEY))?;
        let refused = |status| Refused { who: Who::Key(key.id), tenant: Some(key.tenant), status };
        if suspended {
            return Err(refused(keys::suspended()));
        }
        if let Some(asked) = text(headers, "x-tenant-id")
            && asked.parse() != Ok(key.tenant)
        {
            return Err(refused(Status::permission_denied(
                "the API key does not belong to the workspace in x-tenant-id",
            )));
        }
        let actor = Actor { tenant: key.tenant, key: key.id };
        Ok(Caller { actor, permission: key.permission })
    }
}

/// Whether a request carries an API key, or what looks like one.
fn has_key(headers: &HeaderMap) -> bool {
    text(headers, "x-api-key").is_some()
        || bearer(headers).is_some_and(|secret| secret.starts_with(KEY_PREFIX))
}

/// Which of the valid tokens a request carries.
fn token<'a>(headers: &HeaderMap, valid: &'a [Token], name: &str) -> Result<&'a Token, Status> {
    if valid.is_empty() {
        return Err(Status::permission_denied(format!(
            "this control plane has no {name} token: {name} calls are off"
        )));
    }
    let given = bearer(headers).ok_or_else(|| {
        Status::unauthenticated(format!("the {name} token is needed, as authorization: Bearer"))
    })?;
    let given = hash(given);
    let found = valid.iter().find(|token| token.hash == given);
    found.ok_or_else(|| Status::unauthenticated(format!("the {name} token is not valid")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers, "authorization")?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_by_giving_the_new_one_beside_it_and_may_have_a_name() {
        let tokens = Tokens::new(
            Some(&SecretString::from("ops:first-token, second:with:colons,no name:x")),
            &SecretString::from("old-fleet-token,new-fleet-token"),
        );
        let named = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {given}").parse().unwrap());
            token(&headers, &tokens.admin, "admin").map(|token| token.name.as_str()).ok()
        };
        assert_eq!(named("first-token"), Some("ops"));
        assert_eq!(named("with:colons"), Some("second"));
        assert_eq!(named("no name:x"), Some("admin"), "a name has no blanks");
        assert_eq!((named("ops:first-token"), named("")), (None, None));
        assert_eq!(tokens.fleet.len(), 2);
    }
}
