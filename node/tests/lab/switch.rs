//! Keeps the network between the sites: each datagram is taken where it was sent and put out where it was meant to go.
//!
//! In every namespace this process holds sockets at the addresses of the others, so that a node sees real peers: what
//! it sends to B's address comes to B from the address that sent it. Without namespaces the nodes know each other by
//! addresses that are the switch's. Each direction of each pair has rules of its own: cut, loss, delay with jitter
//! (which reorders) and duplication.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use quipu_consensus::input::Entropy;
use quipu_consensus::simulator::random::Random;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use super::loopback::Loopback;
use super::spaces::Spaces;

/// Port of every node.
const PORT: u16 = 7000;
/// Addresses begin here: kept for benchmarks of networks, so no real one is hidden.
const FIRST: [u8; 4] = [198, 18, 0, 10];

/// Where a node listens; of a client's site only the address counts.
pub(crate) fn address(site: usize) -> SocketAddrV4 {
    let [a, b, c, d] = FIRST;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d + u8::try_from(site).unwrap()), PORT)
}

fn site_of(address: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let last = address.ip().octets()[3].checked_sub(FIRST[3])?;
    Some(last.into())
}

/// What happens to datagrams in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) cut: bool,
    pub(crate) loss_permille: u64,
    pub(crate) double_permille: u64,
    pub(crate) delay_ms: u64,
    pub(crate) jitter_ms: u64,
}

/// What has happened to datagrams.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) passed: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) doubled: AtomicU64,
    pub(crate) delayed: AtomicU64,
}

/// See the module.
pub(crate) struct Switch {
    shared: Arc<Shared>,
    /// Ends all tasks when dropped.
    _runtime: Runtime,
}

/// On what the network stands.
#[derive(Clone)]
pub(crate) enum Ground {
    Spaces(Arc<Spaces>),
    Loopback(Arc<Loopback>),
}

/// A socket of the switch, by what comes to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Port {
    /// What a site sends to an address, in the site's namespace.
    Space { site: usize, to: SocketAddr },
    /// What nodes send to a node, on loopback.
    Public { node: usize },
    /// What a site of clients sends to a node, on loopback.
    Door { client_site: usize, node: usize },
    /// What a node sends to a client, on loopback: it stands for the client there.
    StandIn {
        node: usize,
        client_site: usize,
        client: SocketAddr,
    },
}

/// The way of a datagram.
struct Way {
    from: usize,
    to: usize,
    /// It leaves by this port, for this address.
    out: Port,
    address: SocketAddr,
}

struct Shared {
    ground: Ground,
    nodes: usize,
    runtime: tokio::runtime::Handle,
    ports: Mutex<HashMap<Port, Arc<UdpSocket>>>,
    links: RwLock<HashMap<(usize, usize), Link>>,
    random: Mutex<Random>,
    counts: Counts,
}

impl Switch {
    pub(crate) fn start(ground: Ground, nodes: usize, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            ground,
            nodes,
            runtime: runtime.handle().clone(),
            ports: Mutex::default(),
            links: RwLock::default(),
            random: Mutex::new(Random::new(seed)),
            counts: Counts::default(),
        });
        for site in 0..nodes + super::CLIENT_SITES + 1 {
            for node in (0..nodes).filter(|node| *node != site) {
                shared.port(shared.first_port(site, node));
            }
        }
        Self {
            shared,
            _runtime: runtime,
        }
    }

    /// From now on, this happens to what is sent by `from` to `to`.
    pub(crate) fn set(&self, from: usize, to: usize, link: Link) {
        self.shared.links.write().unwrap().insert((from, to), link);
    }

    /// The same for both directions.
    pub(crate) fn set_both(&self, one: usize, other: usize, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// The same for all directions.
    pub(crate) fn set_all(&self, link: Link) {
        for one in 0..self.shared.nodes + super::CLIENT_SITES {
            for other in 0..self.shared.nodes {
                self.set_both(one, other, link);
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.shared.links.write().unwrap().clear();
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Shared {
    /// The port at which `site` reaches a node.
    fn first_port(&self, site: usize, node: usize) -> Port {
        match &self.ground {
            Ground::Spaces(_) => Port::Space {
                site,
                to: address(node).into(),
            },
            Ground::Loopback(_) if site < self.nodes => Port::Public { node },
            Ground::Loopback(_) => Port::Door {
                client_site: site - self.nodes,
                node,
            },
        }
    }

    /// The socket of a port, made when it is first needed.
    fn port(self: &Arc<Self>, port: Port) -> Arc<UdpSocket> {
        let mut ports = self.ports.lock().unwrap();
        if let Some(socket) = ports.get(&port) {
            return Arc::clone(socket);
        }
        let bound = self.bind(port);
        bound.set_nonblocking(true).unwrap();
        let _inside = self.runtime.enter();
        let socket = Arc::new(UdpSocket::from_std(bound).unwrap());
        ports.insert(port, Arc::clone(&socket));
        self.runtime.spawn(Arc::clone(self).carry(port, Arc::clone(&socket)));
        socket
    }

    fn bind(&self, port: Port) -> std::net::UdpSocket {
        let bind = |address: SocketAddr| std::net::UdpSocket::bind(address).unwrap();
        match (&self.ground, port) {
            (Ground::Spaces(spaces), Port::Space { site, to }) => {
                let spaces = Arc::clone(spaces);
                let bound = std::thread::spawn(move || {
                    spaces.enter(site);
                    bind(to)
                });
                bound.join().unwrap()
            }
            (Ground::Loopback(loopback), Port::Public { node }) => bind(loopback.public(node)),
            (Ground::Loopback(loopback), Port::Door { client_site, node }) => bind(loopback.door(client_site, node)),
            (Ground::Loopback(_), Port::StandIn { .. }) => bind(SocketAddr::from(([127, 0, 0, 1], 0))),
            _ => unreachable!("a port of another ground"),
        }
    }

    /// Where a datagram goes that came to `port` from `sender`; none from a stranger.
    fn way(&self, port: Port, sender: SocketAddr) -> Option<Way> {
        let way = |from, to, out, address| Way { from, to, out, address };
        let loopback = match &self.ground {
            Ground::Spaces(_) => None,
            Ground::Loopback(loopback) => Some(loopback),
        };
        let way = match port {
            Port::Space { site, to } => {
                let target = site_of(to)?;
                let out = Port::Space {
                    site: target,
                    to: sender,
                };
                way(site, target, out, to)
            }
            Port::Public { node } => {
                let from = loopback?.node_at(sender)?;
                way(from, node, Port::Public { node: from }, loopback?.own(node))
            }
            Port::Door { client_site, node } => {
                let out = Port::StandIn {
                    node,
                    client_site,
                    client: sender,
                };
                way(self.nodes + client_site, node, out, loopback?.own(node))
            }
            Port::StandIn {
                node,
                client_site,
                client,
            } => way(node, self.nodes + client_site, Port::Door { client_site, node }, client),
        };
        Some(way)
    }

    /// Carries what comes to a port.
    async fn carry(self: Arc<Self>, port: Port, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((length, sender)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let Some(way) = self.way(port, sender) else { continue };
            let link = self.links.read().unwrap().get(&(way.from, way.to)).copied();
            let counts = &self.counts;
            let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
            let link = link.unwrap_or_default();
            if link.cut {
                count(&counts.cut);
                continue;
            }
            if self.chance(link.loss_permille) {
                count(&counts.lost);
                continue;
            }
            count(&counts.passed);
            let out = self.port(way.out);
            let copies = 1 + u64::from(self.chance(link.double_permille));
            for copy in 0..copies {
                if copy > 0 {
                    count(&counts.doubled);
                }
                // A second copy comes later, perhaps much later.
                let delay = link.delay_ms + self.below(link.jitter_ms + 1) + copy * self.below(50);
                if delay == 0 {
                    // A full buffer loses it, as networks do.
                    let _lost = out.try_send_to(&buffer[..length], way.address);
                    continue;
                }
                count(&counts.delayed);
                let (out, datagram) = (Arc::clone(&out), buffer[..length].to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    let _lost = out.try_send_to(&datagram, way.address);
                });
            }
        }
    }

    fn chance(&self, permille: u64) -> bool {
        permille > 0 && self.random.lock().unwrap().chance(permille)
    }

    fn below(&self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        self.random.lock().unwrap().below(bound)
    }
}
