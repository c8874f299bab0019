//! Keeps the QUIC parameters: every timeout, window and count that quinn would otherwise choose.
//!
//! Invariants: a stream's window is less than half of its connection's, in both directions, so a full log stream
//! never stops the control stream; an accepted connection allows no stream until its key is found to be allowed.
//! The key of stateless resets is derived from the node's, so peers learn of its restart at their first packet.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quipu_crypto::key::SecretKey;

/// Most bytes in flight on one stream.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Most bytes in flight on a connection to a peer, each way: two streams and room.
pub(crate) const PEER_WINDOW: u32 = 9 * 1024 * 1024;
/// Most unread bytes from one client.
pub(crate) const CLIENT_WINDOW: u32 = 1024 * 1024;
/// Most unread bytes from one who is not yet known: nothing to speak of.
const STRANGER_WINDOW: u32 = 16 * 1024;
/// What may be written and not yet acknowledged. Above two streams' windows, so that streams do not stop each other.
const SEND_WINDOW: u64 = 10 * 1024 * 1024;
/// Assumed before it is measured: two machines of one site. The default is made for the open internet, 333 ms.
const INITIAL_RTT: Duration = Duration::from_millis(20);
/// First congestion window, bytes; ten packets would make the first blocks wait.
const INITIAL_WINDOW: u64 = 64 * 1024;
/// Largest packet that is tried; found by probing, so a smaller path costs only the probes.
///
/// quinn hands the system up to [`PACKETS_AT_ONCE`] packets in one segmented datagram. One that is longer than UDP
/// carries is refused by the system, and quinn takes the refusal for a probe that was too large and drops it silently:
/// with jumbo packets of 8,900 bytes a burst could black-hole a connection for seconds.
const LARGEST_PACKET: u16 = 6_500;
/// `MAX_TRANSMIT_SEGMENTS` of quinn 0.11.
const PACKETS_AT_ONCE: u32 = 10;
/// Longest payload of a UDP datagram over IPv4, bytes.
const LONGEST_DATAGRAM: u32 = 65_507;
/// Streams from a peer on one connection: control and log, or bulk.
pub(crate) const PEER_STREAMS: u8 = 2;

const _: () = assert!(PACKETS_AT_ONCE * (LARGEST_PACKET as u32) < LONGEST_DATAGRAM);
const _: () = assert!(2 * STREAM_WINDOW < PEER_WINDOW);
const _: () = assert!(2 * (STREAM_WINDOW as u64) < SEND_WINDOW);

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Silent for so long: gone.
    pub(crate) idle: Duration,
    /// Kept alive so often; left to the other side where none is given.
    pub(crate) keep_alive: Option<Duration>,
}

fn base(times: Times) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(LARGEST_PACKET);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(IdleTimeout::try_from(times.idle).ok())
        .keep_alive_interval(times.keep_alive)
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(congestion));
    config
}

/// For accepted connections: no streams and a small window until the key is known to be allowed.
pub(crate) fn accepting(times: Times) -> TransportConfig {
    let mut config = base(times);
    config.receive_window(VarInt::from_u32(STRANGER_WINDOW));
    config
}

/// For connections that this node dials to a peer.
pub(crate) fn dialling(times: Times) -> TransportConfig {
    let mut config = base(times);
    config
        .receive_window(VarInt::from_u32(PEER_WINDOW))
        .max_concurrent_uni_streams(VarInt::from(PEER_STREAMS));
    config
}

/// For connections of a client to a node: the answers come on the client's own stream.
pub(crate) fn calling(times: Times) -> TransportConfig {
    let mut config = base(times);
    config.receive_window(VarInt::from_u32(PEER_WINDOW));
    config
}

/// Lets an accepted peer open its streams.
pub(crate) fn welcome_peer(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(PEER_WINDOW));
    connection.set_max_concurrent_uni_streams(VarInt::from(PEER_STREAMS));
}

/// Lets an accepted client open its stream.
pub(crate) fn welcome_client(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(CLIENT_WINDOW));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(1));
}

/// Parameters of a node's socket.
///
/// A node that was killed comes back with the same key for stateless resets, and takes any connection id for one of
/// its own, so it can tell the others at once that it has forgotten their connections.
pub(crate) fn endpoint(secret: &SecretKey) -> EndpointConfig {
    let seed = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret.to_pkcs8_der());
    let derived = ring::hmac::sign(&seed, b"quipu v1 stateless reset");
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(|| Box::new(RandomIds));
    large_packets(&mut config);
    config
}

/// Parameters of a client's socket.
pub(crate) fn client_endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    large_packets(&mut config);
    config
}

fn large_packets(config: &mut EndpointConfig) {
    if let Err(error) = config.max_udp_payload_size(LARGEST_PACKET) {
        tracing::debug!(%error, "keeping the default packet size");
    }
}

/// Connection ids of eight random bytes; any of that length may have been made here before a restart.
struct RandomIds;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let bytes = quipu_crypto::random::bytes::<8>().unwrap_or_default();
        quinn::ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
