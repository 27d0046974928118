//! What an IP address leads to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What lies behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The internet.
    Public,
    /// Somebody's own network, or nothing.
    Private,
    /// This machine, or a service that gives its credentials to whoever asks.
    Guarded,
}

/// Where clouds serve credentials, user data and name resolution to their machines.
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Azure, Google, Oracle, DigitalOcean, OpenStack, …
    Ipv4Addr::new(169, 254, 169, 253), // AWS: name resolution
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS
    Ipv4Addr::new(168, 63, 129, 16),   // Azure
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
    Ipv4Addr::new(169, 254, 0, 23),    // Tencent
    Ipv4Addr::new(169, 254, 10, 10),   // Tencent
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
];
/// The same over IPv6.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253), // AWS: name resolution
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),   // Scaleway
];

/// What an address leads to, judged by itself.
pub(super) fn kind(address: IpAddr) -> Kind {
    let (guarded, public) = match address {
        IpAddr::V4(v4) => {
            let this_machine = v4.is_loopback() || v4.octets()[0] == 0;
            (this_machine || METADATA_V4.contains(&v4), is_public_v4(v4))
        }
        IpAddr::V6(v6) => {
            let this_machine = v6.is_loopback() || v6.is_unspecified();
            (this_machine || METADATA_V6.contains(&v6), is_public_v6(v6))
        }
    };
    match (guarded, public) {
        (true, _) => Kind::Guarded,
        (false, true) => Kind::Public,
        (false, false) => Kind::Private,
    }
}

/// The addresses by which an address is to be judged, all of them: the IPv4 addresses within forms
/// that gateways and relays translate, or else itself. Never empty.
pub(super) fn faces(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return vec![address] };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        IpAddr::from(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
    };
    match (a, b) {
        _ if v6.is_unspecified() || v6.is_loopback() => vec![address],
        // IPv4-compatible and IPv4-mapped.
        (0, 0) if (c, d, e) == (0, 0, 0) && (f == 0 || f == 0xffff) => vec![v4(g, h)],
        // NAT64, under the well-known prefix.
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => vec![v4(g, h)],
        // NAT64 of one network, which is never public.
        (0x64, 0xff9b) => vec![v4(g, h), address],
        // 6to4.
        (0x2002, _) => vec![v4(b, c)],
        // Teredo: the client, whose bits are flipped, and its server.
        (0x2001, 0) => vec![v4(!g, !h), v4(c, d)],
        _ => vec![address],
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let carrier_nat = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || carrier_nat
        || benchmark
        || protocol)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let protocol = first == 0x2001 && second < 0x200;
    let documentation = first == 0x2001 && second == 0xdb8 || first == 0x3fff && second < 0x1000;
    (first & 0xe000) == 0x2000 && !protocol && !documentation
}
