//! Keeps the addresses of the lab where namespaces are not permitted: everything is on the loopback, and what stands
//! between the nodes is that they do not know each other's own addresses.
//!
//! Every node listens at an address of its own and is known to the others by another, which the switch holds; each site
//! of clients knows the nodes by addresses of its own again. So the switch sees from where and to where each datagram
//! goes, as it does between namespaces. A node is told by the address that it listens at, from which it also dials.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::CLIENT_SITES;

/// See the module.
#[derive(Debug)]
pub(crate) struct Loopback {
    /// Where each node listens.
    own: Vec<SocketAddr>,
    /// Where the other nodes send what is for it.
    public: Vec<SocketAddr>,
    /// Where each site of clients, the one that is never cut off among them, sends what is for it.
    doors: Vec<Vec<SocketAddr>>,
}

impl Loopback {
    pub(crate) fn new(nodes: usize) -> Self {
        let free = |street: u8| -> Vec<SocketAddr> {
            let house = |node| Ipv4Addr::new(127, 18, street, 10 + u8::try_from(node).unwrap());
            (0..nodes).map(|node| free_address(house(node))).collect()
        };
        Self {
            own: free(0),
            public: free(1),
            doors: (2..).take(CLIENT_SITES + 1).map(free).collect(),
        }
    }

    pub(crate) fn own(&self, node: usize) -> SocketAddr {
        self.own[node]
    }

    pub(crate) fn public(&self, node: usize) -> SocketAddr {
        self.public[node]
    }

    pub(crate) fn door(&self, client_site: usize, node: usize) -> SocketAddr {
        self.doors[client_site][node]
    }

    /// The node that listens there.
    pub(crate) fn node_at(&self, own: SocketAddr) -> Option<usize> {
        self.own.iter().position(|address| *address == own)
    }
}

fn free_address(at: Ipv4Addr) -> SocketAddr {
    UdpSocket::bind((at, 0)).unwrap().local_addr().unwrap()
}
