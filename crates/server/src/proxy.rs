//! The addresses of clients behind a proxy.

use axum::http::HeaderMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A proxy whose `X-Forwarded-For` is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever connects to the UNIX socket.
    Unix,
    /// The addresses that begin with as many bits of this one.
    Network { address: IpAddr, bits: u8 },
}

/// An address as 128 bits, those of IPv4 behind the prefix that IPv6 has for them.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl TrustedProxy {
    /// Whether a connection is this proxy's; one without an address came by the UNIX socket.
    fn covers(self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (TrustedProxy::Unix, None) => true,
            (TrustedProxy::Network { address, bits }, Some(peer)) => {
                let bits = u32::from(bits) + if address.is_ipv4() { 96 } else { 0 };
                (number(address) ^ number(peer)).checked_shr(128 - bits).unwrap_or_default() == 0
            }
            _ => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<TrustedProxy, String> {
        if text == "unix" {
            return Ok(TrustedProxy::Unix);
        }
        let wrong = || "expected an address, a network such as 10.0.0.0/8, or unix".to_owned();
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).ok().filter(|bits| *bits <= most).ok_or_else(wrong)?;
        Ok(TrustedProxy::Network { address, bits })
    }
}

/// The address of a client: the last of `X-Forwarded-For` that is no trusted proxy's, or that of the connection if that is not from one.
pub fn client(trusted: &[TrustedProxy], peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let hops = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|hop| !hop.is_empty());
    let mut hops: Vec<&str> = hops.collect();
    let mut client = peer.map(|peer| peer.to_canonical());
    while trusted.iter().any(|proxy| proxy.covers(client)) {
        let Some(hop) = hops.pop().and_then(address) else { break };
        client = Some(hop);
    }
    client
}

/// An address as proxies write it: of IPv6 also in brackets, with or without a port, with or without quotes.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches('"');
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse().map(|at: SocketAddr| at.ip()));
    Some(address.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_names_its_client() {
        let trusted: Vec<TrustedProxy> =
            ["unix", "10.0.0.0/8", "::1", "192.0.2.7"].map(|text| text.parse().unwrap()).to_vec();
        let client = |trusted: &[TrustedProxy], peer: &str, header: &str| {
            let headers = [("x-forwarded-for".parse().unwrap(), header.parse().unwrap())].into_iter().collect();
            super::client(trusted, peer.parse().ok(), &headers).map_or_else(String::new, |client| client.to_string())
        };
        for (peer, header, expected) in [
            ("", "198.51.100.1", "198.51.100.1"),
            ("10.9.9.9", "198.51.100.1", "198.51.100.1"),
            ("::ffff:10.9.9.9", "198.51.100.1:4711", "198.51.100.1"),
            ("::1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("::1", "[2001:db8::1]", "2001:db8::1"),
            ("::1", "\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("::1", "\"198.51.100.1\",", "198.51.100.1"),
            ("::1", "198.51.100.1, ,", "198.51.100.1"),
            // An address of IPv4 within IPv6 is the same.
            ("::1", "::ffff:198.51.100.1", "198.51.100.1"),
            ("::ffff:192.0.2.7", "198.51.100.1, [::ffff:10.1.1.1]:80", "198.51.100.1"),
            ("::ffff:192.0.2.8", "198.51.100.1", "192.0.2.8"),
            // What the client says itself is before what the proxy does.
            ("192.0.2.7", "203.0.113.5, 198.51.100.1", "198.51.100.1"),
            ("192.0.2.7", "203.0.113.5, 198.51.100.1, 10.1.1.1", "198.51.100.1"),
            ("192.0.2.7", "nobody", "192.0.2.7"),
            ("192.0.2.7", "", "192.0.2.7"),
            // Others are not believed.
            ("192.0.2.8", "198.51.100.1", "192.0.2.8"),
            ("11.0.0.1", "198.51.100.1", "11.0.0.1"),
            ("::2", "198.51.100.1", "::2"),
        ] {
            assert_eq!(client(&trusted, peer, header), expected, "{peer} {header}");
        }
        assert_eq!(client(&[], "", "198.51.100.1"), "");
        assert_eq!(client(&["::ffff:192.0.2.7".parse().unwrap()], "192.0.2.7", "2001:db8::1"), "2001:db8::1");
        assert_eq!(client(&["0.0.0.0/0".parse().unwrap()], "192.0.2.8", "2001:db8::1"), "2001:db8::1");
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/x", "unix:", "localhost", "::1/129"] {
            assert!(wrong.parse::<TrustedProxy>().is_err(), "{wrong}");
        }
    }
}
