//! The networks that this machine is in.

use std::net::IpAddr;

use headpond_pooler::config::Network;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// The address and mask of each of its interfaces; none if the system does not tell.
pub(super) fn interfaces() -> Vec<Network> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    all.filter_map(|interface| {
        let address = ip(&interface.address?)?;
        Some(Network { address, mask: ip(&interface.netmask?)? })
    })
    .collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
