//! A rule of the operator for endpoints: a host name, the names below one, an IP address or a
//! network, each with or without a port.

use std::{fmt, net::IpAddr, str::FromStr};

use url::Host;

use super::plain;

/// Holds some endpoints. Written as `store.example.org`, `*.example.org`, `10.1.2.3`, `10.0.0.0/8`,
/// `fd00::/8`, each with an optional `:port`; IPv6 stands in brackets when a port follows:
/// `[fd00::/8]:9000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRule {
    target: Target,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Exactly this host name.
    Name(String),
    /// Every host name that ends with this, which begins with a dot.
    Below(String),
    /// The addresses whose first bits are these.
    Network(IpAddr, u8),
}

/// Why a rule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// It has none of the forms.
    #[error(
        "{0:?} is no rule for endpoints: write a host name (store.example.org), the names below one (*.example.org), an IP address in full \
         (10.1.2.3) or a network (10.0.0.0/8), with or without a port (store.example.org:9000, [fd00::1]:9000)"
    )]
    Form(String),
    /// A network's address has bits behind its prefix.
    #[error(
        "{0:?} has bits set behind the length of its prefix: write {1} for the network, or the address alone"
    )]
    Bits(String, String),
}

impl FromStr for EndpointRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let text = text.trim();
        let form = || InvalidRule::Form(text.to_owned());
        let (target, port) = split(text).ok_or_else(form)?;
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(form()),
        };
        let target = if target.contains('/') {
            network(target)?
        } else if let Ok(address) = target.parse::<IpAddr>() {
            Target::Network(address, width(address))
        } else if let Some(name) = target.strip_prefix("*.") {
            Target::Below(format!(".{}", host_name(name).ok_or_else(form)?))
        } else {
            Target::Name(host_name(target).ok_or_else(form)?)
        };
        Ok(Self { target, port })
    }
}

/// The host and the port of a rule.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        return inside.contains(':').then_some((inside, port));
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// A name as URLs have it; `None` for what a URL would take for an address.
fn host_name(text: &str) -> Option<String> {
    let Ok(Host::Domain(name)) = Host::parse(text) else { return None };
    let name = plain(&name);
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let labels = name.split('.').all(|label| !label.is_empty());
    (labels && name.bytes().all(usual)).then_some(name)
}

fn network(text: &str) -> Result<Target, InvalidRule> {
    let form = || InvalidRule::Form(text.to_owned());
    let (address, bits) = text.split_once('/').ok_or_else(form)?;
    let address: IpAddr = address.parse().map_err(|_| form())?;
    let bits: u8 = bits.parse().map_err(|_| form())?;
    if bits > width(address) {
        return Err(form());
    }
    let first = first_of(address, bits);
    if first != address {
        return Err(InvalidRule::Bits(text.to_owned(), format!("{first}/{bits}")));
    }
    Ok(Target::Network(address, bits))
}

/// The number of bits of such an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address of the network of `bits` in which an address lies.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    let rest = u32::from(width(address) - bits);
    match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(rest).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(rest).unwrap_or(0)).into())
        }
    }
}

impl EndpointRule {
    /// The port that it is bound to.
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it holds a single host: an exact name or one address.
    pub(super) fn names_one(&self) -> bool {
        match &self.target {
            Target::Name(_) => true,
            Target::Below(_) => false,
            Target::Network(address, bits) => *bits == width(*address),
        }
    }

    /// Whether it holds this name or one of these addresses, at this port; `None` stands for a port
    /// that no rule names.
    pub(super) fn holds(&self, name: Option<&str>, of: &[IpAddr], port: Option<u16>) -> bool {
        let here = self.port.is_none() || self.port == port;
        here && match &self.target {
            Target::Name(own) => name == Some(own),
            Target::Below(end) => name.is_some_and(|name| name.ends_with(end)),
            Target::Network(first, bits) => of.iter().any(|address| {
                address.is_ipv4() == first.is_ipv4() && first_of(*address, *bits) == *first
            }),
        }
    }
}

impl fmt::Display for EndpointRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.target {
            Target::Name(name) => name.clone(),
            Target::Below(end) => format!("*{end}"),
            Target::Network(address, bits) if *bits == width(*address) => address.to_string(),
            Target::Network(address, bits) => format!("{address}/{bits}"),
        };
        match self.port {
            Some(port) if target.contains(':') => write!(f, "[{target}]:{port}"),
            Some(port) => write!(f, "{target}:{port}"),
            None => f.write_str(&target),
        }
    }
}
