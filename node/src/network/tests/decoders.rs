//! Whatever bytes come: no panic, no more memory than has arrived, and nothing is read that would not be written so.

use proptest::prelude::*;
use quipu_ledger::codec;

use super::{clock, read_height};
use crate::client_protocol::{Answer, Call, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Measures, Request, Response};
use crate::network::frame::{FrameReader, framed};
use crate::network::{FrameError, decode_frame, encode_frame};
use crate::peer_protocol::{MAX_PEER_FRAME_BYTES, PeerFrame, Preamble};
use crate::stages::{BUCKETS, Capped, MAX_STAGES, StageRead, TimesRead};
use crate::usage::{ThreadUsage, Usage};

/// What a reader makes of a stream.
fn read(bytes: &[u8], cap: usize) -> Result<Vec<Vec<u8>>, FrameError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = FrameReader::new(bytes, cap);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame.to_vec());
        }
        Ok(frames)
    })
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(frame) = decode_frame(&bytes) {
            prop_assert_eq!(encode_frame(&frame).to_vec(), bytes.clone());
        }
        if let Ok(request) = codec::decode::<Request>(&bytes, MAX_REQUEST_BYTES) {
            prop_assert_eq!(codec::encode(&request), bytes.clone());
        }
        if let Ok(response) = codec::decode::<Response>(&bytes, MAX_RESPONSE_BYTES) {
            prop_assert_eq!(codec::encode(&response), bytes.clone());
        }
        if let Ok(preamble) = codec::decode::<Preamble>(&bytes, 64) {
            prop_assert_eq!(codec::encode(&preamble), bytes.clone());
        }
    }

    #[test]
    fn measures_come_back_as_they_were_within_their_caps(
        counts in prop::collection::vec(any::<u64>(), 0..BUCKETS + 3),
        stages in 0..MAX_STAGES + 3,
        threads in prop::collection::vec("[a-z:/-]{0,15}", 0..5),
        version in any::<u16>(),
    ) {
        let times = |buckets| TimesRead { count: 1, nanos: 2, buckets };
        let stage = StageRead {
            name: "log".to_owned(),
            queue: times(Capped::of(counts.clone())),
            service: TimesRead::default(),
            batches: 3,
            busy_nanos: u64::MAX,
        };
        let named = |name: &String| ThreadUsage { name: name.clone(), ..ThreadUsage::default() };
        let usage = Usage {
            written: 7,
            threads: Capped::of(threads.iter().map(named).collect()),
            ..Usage::default()
        };
        let stages_read = Capped::of(vec![stage; stages]);
        let measures = Measures { version, slot: Default::default(), usage, stages: stages_read };
        prop_assert!(measures.stages.as_slice().len() <= MAX_STAGES);
        let response = Response { number: 9, answer: Answer::Measures(Box::new(measures)) };
        let bytes = codec::encode(&response);
        prop_assert_eq!(codec::decode::<Response>(&bytes, MAX_RESPONSE_BYTES).unwrap(), response);
    }

    #[test]
    fn changed_frames_never_panic(
        at in 0..200_usize,
        to in any::<u8>(),
        items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
    ) {
        let frame = PeerFrame::Forward(items.into_iter().map(Into::into).collect());
        let mut bytes = encode_frame(&frame).to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = decode_frame(&bytes);
    }

    #[test]
    fn random_streams_end_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), cap in 0..64_usize) {
        if let Ok(frames) = read(&bytes, cap) {
            prop_assert!(frames.iter().all(|frame| frame.len() <= cap));
            prop_assert_eq!(frames.iter().map(|frame| frame.len() + 4).sum::<usize>(), bytes.len());
        }
    }
}

#[test]
fn frames_come_back_whole_and_in_order() {
    let written = [encode_frame(&clock(1)), encode_frame(&read_height(2))];
    let stream = [framed(&clock(1)), framed(&read_height(2))].concat();
    let read = read(&stream, 100).unwrap();
    assert_eq!(read, written.map(|frame| frame.to_vec()));
}

#[test]
fn a_length_above_the_cap_is_refused_before_its_bytes() {
    let announced = u32::try_from(MAX_PEER_FRAME_BYTES + 1).unwrap().to_be_bytes();
    assert!(matches!(
        read(&announced, MAX_PEER_FRAME_BYTES),
        Err(FrameError::TooLong { .. })
    ));
    assert!(matches!(read(&[0, 0, 0, 9, 1], 100), Err(FrameError::Cut)));
}

#[test]
fn a_number_and_a_call_make_a_request() {
    // The client encodes a call once and puts the number of each attempt before it.
    let request = Request {
        number: 300,
        call: Call::Status,
    };
    let parts = [codec::encode(&request.number), codec::encode(&request.call)].concat();
    assert_eq!(codec::encode(&request), parts);
}
