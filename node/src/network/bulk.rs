//! Keeps the second connection of a session, for catch-up and snapshots, so that bulk cannot starve the log.
//!
//! The side that dialled the session dials this one too, and again whenever it breaks. Its streams name the session
//! by keying material of the first connection, which only its two ends know. Invariant: it lives no longer than its
//! session; where it breaks, frames in it are lost and the session stays.

use std::sync::Arc;
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use quipu_crypto::id::Slot;
use tokio::time::{sleep, timeout};

use super::PeerAddress;
use super::close::close;
use super::dial::{connect, jittered};
use super::frame::{FrameReader, framed};
use super::peers::{Session, SessionTag};
use super::session::{End, accept, begin, end_of, preamble};
use super::shared::Shared;
use crate::client_protocol::CloseCode;
use crate::peer_protocol::BULK_ALPN;

/// Pause before a broken bulk connection is dialled again.
const PAUSE: Duration = Duration::from_millis(500);

/// A bulk connection with its streams open.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) connection: quinn::Connection,
    pub(crate) stream: SendStream,
    pub(crate) reader: FrameReader<RecvStream>,
}

/// Dialling side: keeps a bulk connection for the session, for ever.
pub(crate) async fn keep(shared: Arc<Shared>, session: Arc<Session>, address: PeerAddress) -> End {
    loop {
        if let Ok(connection) = connect(&shared, &address, BULK_ALPN).await {
            match timeout(
                shared.settings.handshake_timeout,
                dialled(&shared, &session, &connection),
            )
            .await
            {
                Ok(Ok(lane)) => {
                    session.lanes.send(lane).await.ok()?;
                    connection.closed().await;
                }
                Ok(Err(end)) => close(&connection, end.unwrap_or(CloseCode::Protocol)),
                Err(_) => close(&connection, CloseCode::Protocol),
            }
        }
        sleep(jittered(PAUSE)).await;
    }
}

/// Names the session, and hears it named by the other side.
async fn dialled(shared: &Shared, session: &Session, connection: &quinn::Connection) -> Result<Lane, End> {
    let stream = name(shared, session.slot, &session.tag, connection).await?;
    let (reader, tag) = named(shared, session.slot, connection).await?;
    if tag != session.tag {
        return Err(Some(CloseCode::Protocol));
    }
    Ok(Lane {
        connection: connection.clone(),
        stream,
        reader,
    })
}

/// Accepting side: finds the session that the connection names, and hands it over.
pub(crate) async fn accepted(shared: &Shared, slot: Slot, connection: &quinn::Connection) {
    let joined = async {
        let (reader, tag) = named(shared, slot, connection).await?;
        let session = shared.peers.find(slot, &tag).ok_or(Some(CloseCode::Replaced))?;
        let stream = name(shared, slot, &tag, connection).await?;
        let lane = Lane {
            connection: connection.clone(),
            stream,
            reader,
        };
        session.lanes.send(lane).await.map_err(|_| Some(CloseCode::Replaced))
    };
    let code = match timeout(shared.settings.handshake_timeout, joined).await {
        Ok(Ok(())) => return,
        Ok(Err(end)) => end.unwrap_or(CloseCode::Protocol),
        Err(_) => CloseCode::Protocol,
    };
    close(connection, code);
}

async fn name(shared: &Shared, to: Slot, tag: &SessionTag, connection: &quinn::Connection) -> Result<SendStream, End> {
    let mut first = framed(&preamble(shared, to)).to_vec();
    first.extend_from_slice(&framed(tag));
    begin(connection, &first.into()).await.ok_or(None)
}

async fn named(
    shared: &Shared,
    from: Slot,
    connection: &quinn::Connection,
) -> Result<(FrameReader<RecvStream>, SessionTag), End> {
    let stream = connection.accept_uni().await.map_err(|_| None)?;
    let mut reader = accept(shared, from, stream).await?;
    match reader.value::<SessionTag>().await {
        Ok(Some(tag)) => Ok((reader, tag)),
        Ok(None) => Err(Some(CloseCode::Protocol)),
        Err(error) => Err(end_of(&error)),
    }
}
