//! What durability costs: the same server answers the same WRITE requests of one client, one at a time, once with durable pages, as the
//! service does, and once in plain memory with no log. Each fires the one watch that there is.

use xenstore_wire::MessageType;

use crate::bare::{Bare, Durable};
use crate::desk::{Desk, request};
use crate::dice::Dice;
use crate::host::{Host, Size};
use crate::image_pages::ImagePages;

/// A filled store and its watcher, as pages.
pub fn filled(size: Size) -> Vec<u8> {
    let mut desk = Desk::new(Host::bytes_for(size));
    let host = Host::fill(&mut desk, size);
    desk.must(host.dom0, MessageType::Watch, 0, "/local|token|");
    desk.rest();
    desk.into_bytes()
}

/// WRITE requests to entries anywhere.
pub fn requests(size: Size, count: usize) -> Vec<Vec<u8>> {
    let (host, mut dice) = (Host::again(size), Dice::new(1));
    let each = (0..count).map(|number| {
        let payload = format!("{}\0{number:016}", host.some_entry(&mut dice));
        request(MessageType::Write, 0, payload.as_bytes())
    });
    each.collect()
}

/// The server with durable pages, from pages that were filled. Nobody counts who looks at them.
pub fn durable(bytes: Vec<u8>) -> Durable<ImagePages> {
    Durable::new(ImagePages::from(bytes))
}

/// Answers each request and shows the answer and the event, to the one client that there is. Returns the bytes that were shown.
pub fn run(server: &mut impl Bare, requests: &[Vec<u8>]) -> usize {
    let client = server.clients()[0];
    let mut sum = 0;
    for message in requests {
        sum += server.answer(client, None, message)[0];
    }
    sum
}
