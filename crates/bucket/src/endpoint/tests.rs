//! Which endpoints are admitted, for each kind of rule.

use std::{
    error::Error as _,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::{
    dns::ResolveDns as _,
    http::{HttpConnector as _, SharedHttpConnector},
    orchestrator::HttpRequest,
};
use aws_smithy_types::body::SdkBody;
use proptest::prelude::*;

use super::{
    names::tests::{Server, answered},
    *,
};
use crate::answers::answers;

fn rules(text: &str) -> Vec<EndpointRule> {
    text.split_whitespace().map(|rule| rule.parse().unwrap()).collect()
}

fn policy(allow: &str, deny: &str) -> EndpointPolicy {
    EndpointPolicy::new(rules(allow), rules(deny), false)
}

/// What the policy says of each of these, which stand between white space.
fn admitted(policy: &EndpointPolicy, endpoints: &str) -> Vec<bool> {
    endpoints.split_whitespace().map(|endpoint| policy.admits(endpoint).is_ok()).collect()
}

fn all(policy: &EndpointPolicy, admits: bool, endpoints: &str) {
    for endpoint in endpoints.split_whitespace() {
        assert_eq!(policy.admits(endpoint).is_ok(), admits, "{endpoint} with {policy:?}");
    }
}

const METADATA: &str = "http://169.254.169.254 http://169.254.170.2 http://169.254.170.23 http://[fd00:ec2::254]
    http://168.63.129.16 http://100.100.100.200 http://192.0.0.192 http://[::ffff:169.254.169.254] http://[64:ff9b::a9fe:a9fe]
    http://[2002:a9fe:a9fe::] http://[2001:0:808:808::5601:5601] http://2852039166 http://0xa9.0xfe.43518";
const LOOPBACK: &str = "http://127.0.0.1:9000 http://localhost:9000 http://LOCALHOST. http://a.localhost http://[::1]:9000 http://[::] http://0.0.0.0
    http://2130706433 http://0x7f.1 http://127.1.2.3 http://[::ffff:127.0.0.1] http://[::127.0.0.1] http://[64:ff9b::7f00:1]";
const PRIVATE: &str = "http://10.1.2.3 http://192.168.0.1:9000 http://172.31.0.1 http://169.254.1.1 http://100.64.0.1 http://[fd00::1]
    http://[fe80::1] http://[::ffff:10.0.0.1] http://[64:ff9b::a00:1] http://[2002:a00:1::] http://[2001:0:808:808::f5ff:fffe] http://[2001:0:a00:1::f7f7:f7f7]";
const RESERVED: &str = "http://224.0.0.1 http://255.255.255.255 http://198.18.0.1 http://192.0.2.1 http://[ff02::1] http://[2001:db8::1]
    http://[64:ff9b:1::8.8.8.8]";
const PUBLIC: &str = "https://storage.googleapis.com https://play.min.io:9000 https://8.8.8.8 https://[2606:4700::1111]
    https://[64:ff9b::808:808] https://[2002:808:808::] https://[2001:0:808:808::f7f7:f7f7]";

#[test]
fn without_rules_only_public_addresses_are_admitted() {
    let policy = EndpointPolicy::default();
    all(&policy, true, PUBLIC);
    for refused in [METADATA, LOOPBACK, PRIVATE, RESERVED] {
        all(&policy, false, refused);
    }
}

#[test]
fn a_network_admits_private_addresses_but_neither_this_machine_nor_metadata_services() {
    let everything = policy("0.0.0.0/0 ::/0 *.localhost *.com", "");
    for admitted in [PUBLIC, PRIVATE, RESERVED] {
        all(&everything, true, admitted);
    }
    all(&everything, false, METADATA);
    all(&everything, false, LOOPBACK);
}

#[test]
fn the_deprecated_switch_admits_private_and_link_local_networks_only() {
    let settings = EndpointSettings { allow_private_endpoints: true, ..Default::default() };
    all(&settings.policy(), true, PRIVATE);
    for refused in [METADATA, LOOPBACK, RESERVED] {
        all(&settings.policy(), false, refused);
    }
}

#[test]
fn this_machine_and_metadata_services_are_admitted_when_named_one_by_one() {
    all(
        &policy("127.0.0.1", ""),
        true,
        "http://127.0.0.1:9000 http://localhost http://x.localhost http://[::ffff:127.0.0.1]",
    );
    all(&policy("127.0.0.1", ""), false, "http://127.0.0.2 http://[::1] http://169.254.169.254");
    all(&policy("127.0.0.0/31", ""), false, "http://127.0.0.1 http://localhost");
    all(&policy("localhost", ""), true, "http://localhost:1 http://LOCALHOST.");
    all(&policy("localhost", ""), false, "http://127.0.0.1 http://[::1] http://x.localhost");
    all(&policy("169.254.169.254", ""), true, "http://169.254.169.254 http://[::ffff:a9fe:a9fe]");
    all(&policy("168.63.129.16/32", ""), true, "http://168.63.129.16");
    all(&policy("fd00:ec2::254", ""), true, "http://[fd00:ec2::254]");
}

#[test]
fn what_is_denied_is_refused_whatever_else_holds_it() {
    let policy = policy(
        "10.0.0.0/8 127.0.0.1 store.example.org",
        "10.1.0.0/16 8.8.8.8 2606:4700::/32 127.0.0.1 *.example.org evil.example",
    );
    let admitted = admitted(
        &policy,
        "http://10.2.0.1 http://10.1.0.1 http://8.8.8.8 http://8.8.4.4 http://[2606:4700::1] http://127.0.0.1 http://store.example.org
         http://example.org http://EVIL.example. http://not-evil.example http://[64:ff9b::808:808]",
    );
    let (yes, no) = (true, false);
    assert_eq!(admitted, [yes, no, no, yes, no, no, no, yes, no, yes, no]);
}

#[test]
fn a_rule_with_a_port_holds_at_this_port_only() {
    let policy = policy("10.0.0.5:9000 [fd00::/8]:443 127.0.0.1:80", "8.8.8.8:25");
    all(
        &policy,
        true,
        "http://10.0.0.5:9000 https://[fd00::7] http://127.0.0.1 http://localhost:80 http://8.8.8.8",
    );
    all(
        &policy,
        false,
        "http://10.0.0.5:9001 http://10.0.0.5 http://[fd00::7] http://127.0.0.1:81 http://8.8.8.8:25",
    );
}

#[test]
fn endpoints_without_tls_are_refused_where_the_operator_requires_it() {
    let policy = EndpointPolicy::new(rules("10.0.0.5"), Vec::new(), true);
    all(&policy, true, "https://10.0.0.5 https://storage.googleapis.com https://8.8.8.8:80");
    for plain in ["http://10.0.0.5", "http://storage.googleapis.com", "HTTP://8.8.8.8:443"] {
        assert_eq!(policy.admits(plain), Err(Refused::Plain(plain.to_owned())));
    }
}

#[test]
fn what_is_no_url_is_malformed() {
    for text in ["https://", "store.example.org", "s3://bucket", "http://a b"] {
        let judged = EndpointPolicy::unrestricted().admits(text);
        assert_eq!(judged, Err(Refused::Malformed(text.to_owned())));
    }
}

async fn resolved(policy: &EndpointPolicy, port: Option<u16>, name: &str) -> Vec<IpAddr> {
    let resolver = GuardedResolver { policy: policy.clone(), port, names: Names::system() };
    resolver.resolve_dns(name).await.unwrap_or_default()
}

#[tokio::test]
async fn a_name_is_judged_by_the_addresses_that_it_resolves_to() {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    for (allow, deny, port, found) in [
        ("", "", None, vec![]),
        ("127.0.0.0/8 *.localhost", "", None, vec![]),
        ("127.0.0.1", "", None, vec![v4]),
        ("127.0.0.1", "*.localhost", None, vec![]),
        ("traces.localhost", "", None, vec![v4, v6]),
        ("traces.localhost", "127.0.0.0/8", None, vec![v6]),
        ("traces.localhost:9000", "", Some(9000), vec![v4, v6]),
        ("traces.localhost:9000", "", None, vec![]),
        ("traces.localhost:9000 127.0.0.1:80", "", Some(80), vec![v4]),
        ("traces.localhost", "[::1]:80", Some(80), vec![v4]),
    ] {
        let policy = policy(allow, deny);
        assert_eq!(resolved(&policy, port, "Traces.localhost.").await, found, "{allow}, {deny}");
    }
    assert_eq!(resolved(&EndpointPolicy::unrestricted(), None, "localhost").await, [v4, v6]);
}

#[tokio::test]
async fn a_name_that_is_denied_is_refused_under_a_shorter_one_and_as_an_alias_too() {
    let server = Server::new().await;
    for (deny, admitted) in [
        ("other.example", 2),
        ("fd00::/8", 1),
        ("10.0.0.0/8 [fd00::1]:9000", 0),
        ("*.corp.example", 0),
        ("store.example.org", 0),
        ("store.example.org:9000", 0),
        ("store.example.org:9001", 2),
    ] {
        let policy = policy("10.0.0.0/8 fd00::/8", deny);
        let resolver = GuardedResolver { policy, port: Some(9000), names: server.names() };
        let found = answered(&server, (1, 60), resolver.resolve_dns("minio")).await;
        assert_eq!(found.unwrap_or_default().len(), admitted, "{deny}");
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_answered_like_one_that_does_not_exist() {
    let server = Server::new().await;
    let resolver =
        GuardedResolver { policy: EndpointPolicy::default(), port: None, names: server.names() };
    for (name, addresses) in [("inside.example.", 1), ("nowhere.example.", 0)] {
        let told = answered(&server, (addresses, 60), resolver.resolve_dns(name)).await;
        assert_eq!(
            told.unwrap_err().source().unwrap().to_string(),
            format!(
                "{name} has no address that this service may connect to (a public one, or one that its operator allows)"
            )
        );
    }
}

/// Sends a request to `url` through the guard; the port whose connections were used, if any.
async fn sent(policy: &EndpointPolicy, url: &str) -> Option<Option<u16>> {
    let used = Arc::new(Mutex::new(None));
    let connect = |port: Option<u16>| -> SharedHttpConnector {
        let used = used.clone();
        answers(move |_| {
            *used.lock().unwrap() = Some(port);
            http::Response::new(SdkBody::empty())
        })
    };
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_uri(url).unwrap();
    let outcome = Guard::around(policy, connect).call(request).await;
    let used = *used.lock().unwrap();
    assert_eq!(outcome.is_ok(), used.is_some());
    used
}

#[tokio::test]
async fn a_request_goes_out_over_the_connections_for_its_port_or_not_at_all() {
    let policy = policy("store.example.org:9000 10.0.0.5:443", "evil.example");
    assert_eq!(sent(&policy, "http://store.example.org:9000/k").await, Some(Some(9000)));
    assert_eq!(sent(&policy, "http://10.0.0.5:443/k").await, Some(Some(443)));
    assert_eq!(sent(&policy, "https://other.example/k").await, Some(Some(443)));
    assert_eq!(sent(&policy, "http://other.example/k?x=:9000").await, Some(None));
    for refused in ["http://10.0.0.5/k", "https://evil.example/k", "http://127.8.8.1/k"] {
        assert_eq!(sent(&policy, refused).await, None, "{refused}");
    }
}

#[test]
fn rules_are_read_as_they_are_written() {
    for text in [
        "store.example.org",
        "*.example.org:9000",
        "10.1.2.3",
        "10.1.2.3:80",
        "10.0.0.0/8",
        "10.0.0.0/8:9000",
        "0.0.0.0/0",
        "fd00::1",
        "fd00::/8",
        "::/0",
        "[fd00::1]:9000",
        "[fd00::/8]:65535",
    ] {
        assert_eq!(text.parse::<EndpointRule>().unwrap().to_string(), text);
    }
    for (text, same) in [
        (" Store.Example.org. ", "store.example.org"),
        ("[fd00::1]", "fd00::1"),
        ("127.0.0.1/32", "127.0.0.1"),
        ("bücher.example", "xn--bcher-kva.example"),
    ] {
        assert_eq!(text.parse::<EndpointRule>().unwrap().to_string(), same);
    }
}

#[test]
fn what_is_no_rule_is_told_with_what_to_write() {
    let mut told = String::new();
    for text in [
        "",
        "*",
        "*.",
        "*.*.org",
        "a.*.org",
        ".",
        "a..b",
        "http://a",
        "a/b",
        "a:",
        "a:0",
        "a:65536",
        "a:b",
        "10.1",
        "0x7f.1",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "[10.0.0.1]:80",
        "[a]:80",
        "[fd00::1",
        "[fd00::1]80",
        "fd00::/129",
        "*.10.0.0.1",
    ] {
        match text.parse::<EndpointRule>() {
            Err(InvalidRule::Form(of)) => assert_eq!(of, text),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in ["10.1", "10.1.2.3/8", "fd00::1/8"] {
        told += &format!("{}\n", text.parse::<EndpointRule>().unwrap_err());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn the_lists_are_read_from_the_command_line() {
    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        endpoints: EndpointSettings,
    }
    let line = [
        "program",
        "--endpoints-allow",
        "10.0.0.0/8, *.example.org:9000,[fd00::/8]:443",
        "--endpoints-deny=10.0.0.7",
        "--require-tls-endpoints",
    ];
    let policy = <Program as clap::Parser>::parse_from(line).endpoints.policy();
    all(&policy, true, "https://10.0.0.5 https://[fd00::1]");
    all(&policy, false, "http://10.0.0.5 https://10.0.0.7 https://[fd00::1]:444");
}

proptest! {
    #[test]
    fn a_denied_address_is_never_admitted_in_any_form(bits: u32, port: u16) {
        let v4 = Ipv4Addr::from(bits);
        let policy = policy(&format!("{v4} 0.0.0.0/0 ::/0"), &v4.to_string());
        let [a, b] = [bits >> 16, bits & 0xffff];
        for host in [
            v4.to_string(), bits.to_string(), format!("[::ffff:{v4}]"), format!("[64:ff9b::{a:x}:{b:x}]"),
            format!("[2002:{a:x}:{b:x}::1]"), format!("[2001:0:808:808::{:x}:{:x}]", a ^ 0xffff, b ^ 0xffff),
            format!("[2001:0:{a:x}:{b:x}::f7f7:f7f7]"), format!("[64:ff9b:1::{a:x}:{b:x}]"),
        ] {
            prop_assert!(policy.admits(&format!("http://{host}:{port}")).is_err(), "{host}");
        }
    }
}
