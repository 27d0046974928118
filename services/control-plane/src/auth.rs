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
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    keys::Keys,
    store::{Actor, Permission},
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
        if needed == Permission::Manage && caller.permission != Permission::Manage {
            return Err(Status::permission_denied(
                "this API key may only read; use one with the manage permission",
            ));
        }
        Ok(caller.actor)
    }
}

const NO_KEY: &str = "an API key is needed: send it as x-api-key, or as authorization: Bearer";
const BAD_KEY: &str = "the API key is not valid";

/// The SHA-256 of a key or token.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The operator's two tokens, hashed.
#[derive(Clone)]
pub struct Tokens {
    admin: Option<[u8; 32]>,
    fleet: [u8; 32],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Without an admin token, admin calls are refused.
    pub fn new(admin: Option<&SecretString>, fleet: &SecretString) -> Self {
        let hashed = |secret: &SecretString| hash(secret.expose_secret());
        Self { admin: admin.map(hashed), fleet: hashed(fleet) }
    }
}

/// Wraps a service in [`Authenticate`].
#[derive(Debug, Clone)]
pub(crate) struct AuthLayer {
    tokens: Tokens,
    keys: Keys,
}

impl AuthLayer {
    /// Checks against these tokens and keys.
    pub(crate) fn new(tokens: Tokens, keys: Keys) -> Self {
        Self { tokens, keys }
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
            match judge.judge(request.uri().path(), request.headers()).await {
                Ok(caller) => {
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl AuthLayer {
    async fn judge(&self, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, Status> {
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            "grpc.health.v1.Health"
            | "grpc.reflection.v1.ServerReflection"
            | "grpc.reflection.v1alpha.ServerReflection" => Ok(None),
            "tracelift.v1.AdminService" => {
                token(headers, self.tokens.admin, "admin").map(|()| None)
            }
            "tracelift.fleet.v1.FleetService" => {
                token(headers, Some(self.tokens.fleet), "fleet").map(|()| None)
            }
            _ => self.caller(headers).await.map(Some),
        }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Status> {
        let secret = text(headers, "x-api-key")
            .or_else(|| bearer(headers))
            .ok_or_else(|| Status::unauthenticated(NO_KEY))?;
        let key = self.keys.find(hash(secret)).await?;
        let key = key.ok_or_else(|| Status::unauthenticated(BAD_KEY))?;
        if let Some(asked) = text(headers, "x-tenant-id")
            && asked.parse() != Ok(key.tenant)
        {
            return Err(Status::permission_denied(
                "the API key does not belong to the workspace in x-tenant-id",
            ));
        }
        let actor = Actor { tenant: key.tenant, key: key.id };
        Ok(Caller { actor, permission: key.permission })
    }
}

fn token(headers: &HeaderMap, expected: Option<[u8; 32]>, name: &str) -> Result<(), Status> {
    let expected = expected.ok_or_else(|| {
        Status::permission_denied(format!(
            "this control plane has no {name} token: {name} calls are off"
        ))
    })?;
    let given = bearer(headers).ok_or_else(|| {
        Status::unauthenticated(format!("the {name} token is needed, as authorization: Bearer"))
    })?;
    if hash(given) == expected {
        Ok(())
    } else {
        Err(Status::unauthenticated(format!("the {name} token is not valid")))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers, "authorization")?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
