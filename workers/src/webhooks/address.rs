//! Where webhooks may go: public addresses, and what the operator allows beside them. Whoever may name a URL could otherwise have
//! this machine talk to what only it can reach: itself, its neighbours, the metadata service of its cloud.
//!
//! Host names are judged by what they resolve to, inside the resolver of the HTTP client, so that there is no moment between the
//! check and the connection. Addresses that a URL names itself never come to a resolver and are judged before.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// What the operator allows beside public addresses: networks (`10.1.0.0/16`), addresses, and host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Any address in it.
    Network(IpNet),
    /// Whatever this name resolves to.
    Host(String),
}

/// A text that names neither a network, nor an address, nor a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network such as 10.1.0.0/16, no address, and no host name")]
pub struct InvalidAllowed(String);

impl FromStr for Allowed {
    type Err = InvalidAllowed;

    fn from_str(text: &str) -> Result<Self, InvalidAllowed> {
        let text = text.trim();
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let host = name(text);
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        // A mistyped address is no host name.
        let ends_in_number =
            host.rsplit('.').next().is_some_and(|end| end.bytes().all(|byte| byte.is_ascii_digit()));
        if is_name && !ends_in_number {
            return Ok(Self::Host(host));
        }
        Err(InvalidAllowed(text.chars().take(100).collect()))
    }
}

/// A host name as it is compared.
fn name(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether a name, as it is compared, means the machine that asks, whatever its resolver knows of it.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Why nothing was sent. Which addresses they are is not told: whoever named the URL need not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an address that webhooks may be sent to: it is private, local or reserved")]
pub struct Refused(String);

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct AddressFilter {
    networks: Vec<IpNet>,
    hosts: Vec<String>,
}

impl AddressFilter {
    /// Public addresses and these.
    pub fn new(allowed: impl IntoIterator<Item = Allowed>) -> Self {
        let mut filter = Self::default();
        for allowed in allowed {
            match allowed {
                Allowed::Network(network) => filter.networks.push(network),
                Allowed::Host(host) => filter.hosts.push(host),
            }
        }
        filter
    }

    /// Whether webhooks may be sent to this address.
    pub fn allows(&self, address: IpAddr) -> bool {
        let is_named = |address: &IpAddr| self.networks.iter().any(|network| network.contains(address));
        is_public(address) || is_named(&address) || is_named(&address.to_canonical())
    }

    /// The same as [`AddressFilter::check`] for a text; one that is no URL passes, and is somebody else's to judge.
    pub fn check_text(&self, url: &str) -> Result<(), Refused> {
        Url::parse(url).map_or(Ok(()), |url| self.check(&url))
    }

    /// Refuses a URL that names a forbidden address itself, as the names of this machine do too (RFC 6761, 6.3). Any other host
    /// name passes; its addresses are judged when it is resolved.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let allowed = match literal {
            Ok(address) => self.allows(address),
            Err(_) if is_localhost(&name(host)) => {
                let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                self.hosts.contains(&name(host)) || loopback.into_iter().any(|address| self.allows(address))
            }
            Err(_) => true,
        };
        if allowed { Ok(()) } else { Err(Refused(host.to_owned())) }
    }

    /// Of what a name resolves to, that which is allowed.
    fn pick(&self, host: &str, found: Addrs) -> Result<Vec<SocketAddr>, Refused> {
        let any = self.hosts.contains(&name(host));
        let picked: Vec<_> = found.filter(|address| any || self.allows(address.ip())).collect();
        if picked.is_empty() { Err(Refused(host.to_owned())) } else { Ok(picked) }
    }
}

/// The networks that are not public, as IANA registers them, and one that is public but leads to the host of a virtual machine.
const NOT_PUBLIC_4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of `2000::/3`, which alone is public: protocols (Teredo among them), documentation, 6to4.
const NOT_PUBLIC_6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// NAT64: the last four bytes are the address that is meant.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_4(address),
        IpAddr::V6(address) => {
            let parts = address.segments();
            if parts[..6] == NAT64 {
                let [.., a, b, c, d] = address.octets();
                return is_public_4(Ipv4Addr::new(a, b, c, d));
            }
            let inside =
                |(network, bits)| Ipv6Net::new(network, bits).is_ok_and(|network| network.contains(&address));
            parts[0] & 0xe000 == 0x2000 && !NOT_PUBLIC_6.into_iter().any(inside)
        }
    }
}

fn is_public_4(address: Ipv4Addr) -> bool {
    let inside =
        |(network, bits)| Ipv4Net::new(network, bits).is_ok_and(|network| network.contains(&address));
    !NOT_PUBLIC_4.into_iter().any(inside)
}

/// Resolves names and answers the allowed addresses only.
pub(crate) struct FilteredResolver {
    filter: Arc<AddressFilter>,
    names: Arc<dyn Resolve>,
}

impl FilteredResolver {
    pub(crate) fn new(filter: Arc<AddressFilter>, names: Arc<dyn Resolve>) -> Self {
        Self { filter, names }
    }
}

impl Resolve for FilteredResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (filter, host) = (self.filter.clone(), name.as_str().to_owned());
        let resolving = self.names.resolve(name);
        Box::pin(async move {
            let picked = filter.pick(&host, resolving.await?)?;
            Ok(Box::new(picked.into_iter()) as Addrs)
        })
    }
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let filter = AddressFilter::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "169.253.1.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(filter.allows(public.parse().unwrap()), "{public}");
        }
        for not in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!filter.allows(not.parse().unwrap()), "{not}");
        }
    }

    #[test]
    fn what_is_allowed_beside_them_is_a_network_an_address_or_a_host() {
        let allowed =
            ["127.0.0.0/8", "10.1.2.3", "Hooks.Internal.", "fd00::/8"].map(|text| text.parse().unwrap());
        let filter = AddressFilter::new(allowed);
        for address in ["127.9.9.9", "10.1.2.3", "::ffff:127.0.0.1", "fd00::1"] {
            assert!(filter.allows(address.parse().unwrap()), "{address}");
        }
        assert!(!filter.allows("10.1.2.4".parse().unwrap()));
        let found =
            || Box::new(["10.9.9.9:80".parse().unwrap(), "1.1.1.1:80".parse().unwrap()].into_iter()) as Addrs;
        assert_eq!(filter.pick("hooks.internal", found()).unwrap().len(), 2);
        assert_eq!(filter.pick("hooks.internal.example", found()).unwrap(), ["1.1.1.1:80".parse().unwrap()]);
        for bad in ["", ".", "10.1.2.3/33", "10.1.2", "10.1.2.300", "http://x", "a b", "256.0.0.1/8"] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad}");
        }
    }
}
