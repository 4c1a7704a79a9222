//! A check of the self-test: the image as a client of the host's Xenstore, whoever serves it, over its own ring.
//!
//! Where the toolstack made this domain an ordinary guest, the ring works, the event channel works, and the store knows us.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xen_bindings::evtchn;
use xen_bindings::{Platform, time};
use xenstore_ring::{ClientRing, ClientVisit};
use xenstore_wire::{HEADER_SIZE, Header, MessageType};

use crate::page::WindowPage;

/// Nanoseconds to wait for a reply; a store that works answers in milliseconds.
const PATIENCE: u64 = 10_000_000_000;

/// Reads `domid` below our home and compares. What was found in words, or what is wrong.
///
/// # Errors
/// No reply in time, a reply that does not fit, or another number than our own.
pub fn check_own_ring(platform: &mut Platform) -> Result<String, String> {
    if platform.domain_watch.state(platform.own_domid).is_xenstore {
        return Ok("this is the store domain".into());
    }
    let Some((window, port)) = platform.own_store.take() else {
        return Ok("the toolstack gave us none".into());
    };
    let page = WindowPage(window);
    let mut ring = ClientRing::adopt(&page);
    let name = b"domid\0";
    let request = Header {
        kind: MessageType::Read as u32,
        request_id: 1,
        transaction_id: 0,
        length: u32::try_from(name.len()).unwrap_or_default(),
    };
    let mut outgoing = request.emit().to_vec();
    outgoing.extend_from_slice(name);
    let mut incoming = Vec::new();
    let deadline = time::now_ns().saturating_add(PATIENCE);
    let reply = loop {
        match ring.visit(&page) {
            ClientVisit::Open { readable, .. } => {
                let sent = ring.send(&page, &outgoing);
                outgoing.drain(..sent);
                let mut bytes = vec![0; readable as usize];
                let got = ring.receive(&page, &mut bytes);
                incoming.extend_from_slice(bytes.get(..got).unwrap_or_default());
            }
            ClientVisit::Reconnecting => {}
            other => return Err(format!("the ring: {other:?}")),
        }
        if ring.take_notify() {
            evtchn::notify(port);
        }
        if let Some(reply) = whole(&incoming) {
            break reply;
        }
        if time::now_ns() >= deadline {
            return Err(format!("no reply within {} s", PATIENCE / 1_000_000_000));
        }
        platform.events.wait(Some(deadline));
        platform.events.drain(|_| {});
    };
    let (header, payload) = reply;
    let text = String::from_utf8_lossy(payload);
    if header.kind == MessageType::Read as u32 && text == format!("{}", platform.own_domid) {
        Ok(format!("the store knows us as domain {text}"))
    } else {
        Err(format!("asked for our domid, got type {}: {text}", header.kind))
    }
}

fn whole(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::parse(bytes.first_chunk::<HEADER_SIZE>()?);
    let payload = bytes.get(HEADER_SIZE..)?.get(..header.length as usize)?;
    Some((header, payload))
}
