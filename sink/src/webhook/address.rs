//! Which addresses a webhook may be sent to.
//!
//! Whoever writes the URL chooses where this process connects to, and it may stand where it reaches what that person does
//! not: a database, a cloud's metadata. So without `allow_private` only public addresses are connected to. Addresses in
//! the URL are checked when the sink is made; names are resolved here, for each connection anew, and it is the addresses
//! checked that are connected to: a name that resolves to something else a moment later gains nothing. Redirects, the
//! other way around such a check, are not followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

/// Why nothing is sent to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not public.
    #[error(
        "{address} is {kind}, which no webhook is sent to: set allow_private = true if the receiver is in your own network"
    )]
    Refused {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
    /// The name has no address at all.
    #[error("{0} has no address")]
    None(String),
}

/// Fails unless the address is public.
pub fn check(address: IpAddr) -> Result<(), AddressError> {
    let kind = match address {
        IpAddr::V4(v4) => kind_of_v4(v4),
        IpAddr::V6(v6) => kind_of_v6(v6),
    };
    kind.map_or(Ok(()), |kind| Err(AddressError::Refused { address, kind }))
}

/// Azure's metadata and DNS, the one such service on an address that looks public.
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// What a special address is, by IANA's registry.
fn kind_of_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        [0, ..] => "an address of this network",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [100, 64..=127, ..] => "an address of a carrier's NAT",
        [127, ..] => "a loopback address",
        [169, 254, ..] => "a link-local address",
        _ if address == AZURE => "a cloud's metadata service",
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => "a reserved address",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "an address for documentation",
        [224..=239, ..] => "a multicast address",
        _ => return None,
    })
}

/// Only global unicast is public, and of it not what is special, nor what carries an IPv4 address that is not.
fn kind_of_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    Some(match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => "an address of this network",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        // Mapped, and translated to (NAT64): both end at the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => return embedded(high, low),
        [0xfc00..=0xfdff, ..] => "a private address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        // 6to4 carries it in front.
        [0x2002, high, low, ..] => return embedded(high, low),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "an address for documentation",
        // Protocols' own, Teredo among them.
        [0x2001, 0..=0x1ff, ..] => "a reserved address",
        [0x2000..=0x3fff, ..] => return None,
        _ => "a reserved address",
    })
}

/// Resolves names as the system does.
pub struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Resolves names to public addresses only, whatever another says.
pub struct PublicOnly<R>(pub R);

impl<R: Resolve> Resolve for PublicOnly<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let (asked, found) = (name.as_str().to_owned(), self.0.resolve(name));
        Box::pin(async move {
            let public = public(&asked, found.await?.collect())?;
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Those among the addresses of a name that are public; if none is, why.
fn public(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, AddressError> {
    let (mut public, mut refused) = (Vec::with_capacity(found.len()), AddressError::None(name.to_owned()));
    for address in found {
        match check(address.ip()) {
            Ok(()) => public.push(address),
            Err(why) => refused = why,
        }
    }
    if public.is_empty() { Err(refused) } else { Ok(public) }
}

/// A resolver whose answer is another each time, the last one from then on.
#[cfg(test)]
pub struct Rebinding(std::sync::Mutex<std::collections::VecDeque<Vec<IpAddr>>>);

#[cfg(test)]
impl Rebinding {
    /// With these answers.
    pub fn new(answers: &[&[&str]]) -> Rebinding {
        let addresses = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Rebinding(std::sync::Mutex::new(answers.iter().map(addresses).collect()))
    }
}

#[cfg(test)]
impl Resolve for Rebinding {
    fn resolve(&self, _: Name) -> Resolving {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let addresses = answer.into_iter().flatten().map(|address| SocketAddr::new(address, 0));
        let found = Ok(Box::new(addresses) as Addrs);
        Box::pin(async { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_judged_each_time_that_it_is_resolved() {
        let resolver = PublicOnly(Rebinding::new(&[
            &["1.1.1.1"],
            &["127.0.0.1"],
            &["1.1.1.1", "169.254.169.254", "::ffff:10.0.0.1"],
            &["::ffff:169.254.169.254"],
            &["2a00::1"],
        ]));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let check = |expected: Result<&[&str], &str>| {
            let found = runtime.block_on(resolver.resolve("crm.example.com".parse().unwrap()));
            let found = found.map(|all| all.map(|address| address.ip().to_string()).collect::<Vec<_>>());
            match expected {
                Ok(expected) => assert_eq!(found.unwrap(), expected),
                Err(part) => assert!(found.as_ref().is_err_and(|why| why.to_string().contains(part)), "{found:?}"),
            }
        };
        check(Ok(&["1.1.1.1"]));
        check(Err("127.0.0.1 is a loopback address"));
        check(Ok(&["1.1.1.1"]));
        check(Err("is a link-local address"));
        check(Ok(&["2a00::1"]));
    }

    #[test]
    fn what_an_address_is() {
        let check = |addresses: &[&str], kind: Option<&'static str>| {
            for address in addresses {
                let refused = check(address.parse().unwrap()).err().map(|why| match why {
                    AddressError::Refused { kind, .. } => kind,
                    AddressError::None(_) => panic!("{address}"),
                });
                assert_eq!(refused, kind, "{address}");
            }
        };
        check(&["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "168.63.129.15"], None);
        check(&["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255"], None);
        check(&["2606:4700::1111", "2001:4860:4860::8888", "2a00::1", "2001:200::1"], None);
        // What carries a public IPv4 address.
        check(&["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:0101:0101::1"], None);

        check(&["0.0.0.0", "0.1.2.3", "::"], Some("an address of this network"));
        let private = ["10.0.0.1", "172.16.0.0", "172.31.255.255", "192.168.1.1", "fc00::1", "fd00:ec2::254"];
        check(&private, Some("a private address"));
        check(&["100.64.0.1", "100.127.255.255", "100.100.100.200"], Some("an address of a carrier's NAT"));
        check(&["127.0.0.1", "127.255.255.255", "::1"], Some("a loopback address"));
        check(&["169.254.169.254", "169.254.170.2", "fe80::1", "febf::1"], Some("a link-local address"));
        check(&["168.63.129.16"], Some("a cloud's metadata service"));
        check(&["224.0.0.1", "239.255.255.255", "ff02::1"], Some("a multicast address"));
        let reserved = ["192.0.0.192", "192.88.99.1", "198.18.0.1", "198.19.255.255", "240.0.0.1", "255.255.255.255"];
        check(&reserved, Some("a reserved address"));
        let reserved = ["::127.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:1ff::1", "5f00::1", "fec0::1"];
        check(&reserved, Some("a reserved address"));
        let documentation = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"];
        check(&documentation, Some("an address for documentation"));

        check(&["::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"], Some("a loopback address"));
        check(&["::ffff:10.0.0.1", "64:ff9b::192.168.0.1"], Some("a private address"));
        check(&["::ffff:169.254.169.254", "::ffff:a9fe:a9fe"], Some("a link-local address"));
    }

    #[test]
    fn of_a_names_addresses_only_the_public_ones_are_used() {
        let check = |found: &[&str], expected: Result<&[&str], &str>| {
            let sockets = |texts: &[&str]| texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
            let public = public("crm", sockets(found)).map_err(|why| why.to_string());
            match expected {
                Ok(expected) => assert_eq!(public, Ok(sockets(expected))),
                Err(part) => assert!(public.as_ref().is_err_and(|why| why.contains(part)), "{public:?}"),
            }
        };
        check(&["1.1.1.1", "2a00::1"], Ok(&["1.1.1.1", "2a00::1"]));
        check(&["10.0.0.1", "1.1.1.1", "::1"], Ok(&["1.1.1.1"]));
        check(&["127.0.0.1"], Err("127.0.0.1 is a loopback address"));
        check(&[], Err("crm has no address"));
    }
}
