//! Keeps the search for free ports, so that several networks run side by side.
//!
//! Invariant: a port was free for UDP and TCP when it was chosen, and is held until just before its node starts. Ports
//! come from below the range that the system gives to clients: a stopped node finds its own port free again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use quipu_crypto::random;

use crate::failure::Failure;

/// Where ports are drawn from. Linux gives 32768 and above to clients.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// How often one is drawn before giving up.
const DRAWS: usize = 1_000;

/// A port that nobody else can take meanwhile.
pub(super) struct Port {
    address: SocketAddr,
    _udp: UdpSocket,
    _tcp: TcpListener,
}

impl Port {
    /// Takes a free one.
    pub(super) fn take() -> Result<Self, Failure> {
        for _ in 0..DRAWS {
            let drawn = u16::from_le_bytes(random::bytes::<2>()?);
            let port = FIRST.saturating_add(drawn.checked_rem(COUNT).unwrap_or(0));
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if let (Ok(udp), Ok(tcp)) = (UdpSocket::bind(address), TcpListener::bind(address)) {
                return Ok(Self {
                    address,
                    _udp: udp,
                    _tcp: tcp,
                });
            }
        }
        let last = FIRST.saturating_add(COUNT);
        Err(Failure::general(
            "no_port",
            format!("no free port was found from {FIRST} to {last} on 127.0.0.1"),
        )
        .hint("stop networks that are no longer needed: quipu network down --dir DIR"))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_held_and_differ() {
        let ports: Vec<Port> = (0..20).map(|_| Port::take().unwrap()).collect();
        for port in &ports {
            assert!(UdpSocket::bind(port.address()).is_err());
            assert!(ports.iter().filter(|other| other.address() == port.address()).count() == 1);
        }
        let address = ports[0].address();
        drop(ports);
        assert!(UdpSocket::bind(address).is_ok());
    }
}
