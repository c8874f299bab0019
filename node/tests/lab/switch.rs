//! Keeps the network between the sites: each datagram is taken in one namespace and put out in another.
//!
//! In every namespace this process holds sockets at the addresses of the others, so that a node sees real peers: what
//! it sends to B's address comes to B from the address that sent it. Each direction of each pair has rules of its own:
//! cut, loss, delay with jitter (which reorders) and duplication.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use quipu_consensus::input::Entropy;
use quipu_consensus::simulator::random::Random;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

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
    nodes: usize,
    /// Ends all tasks when dropped.
    _runtime: Runtime,
}

/// A socket at the address of another, in the namespace of a site.
type Ports = HashMap<(usize, SocketAddr), Arc<UdpSocket>>;

struct Shared {
    spaces: Arc<Spaces>,
    runtime: tokio::runtime::Handle,
    ports: Mutex<Ports>,
    links: RwLock<HashMap<(usize, usize), Link>>,
    random: Mutex<Random>,
    counts: Counts,
}

impl Switch {
    pub(crate) fn start(spaces: Arc<Spaces>, nodes: usize, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            spaces,
            runtime: runtime.handle().clone(),
            ports: Mutex::default(),
            links: RwLock::default(),
            random: Mutex::new(Random::new(seed)),
            counts: Counts::default(),
        });
        for site in 0..nodes + super::CLIENT_SITES + 1 {
            for node in (0..nodes).filter(|node| *node != site) {
                shared.port(site, address(node).into());
            }
        }
        Self {
            shared,
            nodes,
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
        for one in 0..self.nodes + super::CLIENT_SITES {
            for other in 0..self.nodes {
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
    /// The socket in the namespace of `site` that stands for `other`.
    fn port(self: &Arc<Self>, site: usize, other: SocketAddr) -> Arc<UdpSocket> {
        let mut ports = self.ports.lock().unwrap();
        if let Some(port) = ports.get(&(site, other)) {
            return Arc::clone(port);
        }
        let spaces = Arc::clone(&self.spaces);
        let bound = std::thread::spawn(move || {
            spaces.enter(site);
            std::net::UdpSocket::bind(other).unwrap()
        });
        let bound = bound.join().unwrap();
        bound.set_nonblocking(true).unwrap();
        let _inside = self.runtime.enter();
        let port = Arc::new(UdpSocket::from_std(bound).unwrap());
        ports.insert((site, other), Arc::clone(&port));
        self.runtime
            .spawn(Arc::clone(self).forward(Arc::clone(&port), site, other));
        port
    }

    /// Carries what `site` sends to the address `to`.
    async fn forward(self: Arc<Self>, port: Arc<UdpSocket>, site: usize, to: SocketAddr) {
        let Some(target) = site_of(to) else { return };
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((length, from)) = port.recv_from(&mut buffer).await else {
                continue;
            };
            let link = self.links.read().unwrap().get(&(site, target)).copied();
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
            let out = self.port(target, from);
            let copies = 1 + u64::from(self.chance(link.double_permille));
            for copy in 0..copies {
                if copy > 0 {
                    count(&counts.doubled);
                }
                // A second copy comes later, perhaps much later.
                let delay = link.delay_ms + self.below(link.jitter_ms + 1) + copy * self.below(50);
                if delay == 0 {
                    // A full buffer loses it, as networks do.
                    let _lost = out.try_send_to(&buffer[..length], to);
                    continue;
                }
                count(&counts.delayed);
                let (out, datagram) = (Arc::clone(&out), buffer[..length].to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    let _lost = out.try_send_to(&datagram, to);
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
