//! A page whose peer does what it likes: any index, any byte, at any moment between two of our steps.

use xenstore_ring::{
    ClientRing, ClientVisit, ConnectionError, Indices, MemoryPage, PAGE_SIZE, RING_SIZE, ServerRing, SharedPage, Visit,
    offset,
};

use crate::script::Script;

/// The words that a peer can write.
const WORDS: [usize; 8] = [
    offset::REQ_CONS,
    offset::REQ_PROD,
    offset::RSP_CONS,
    offset::RSP_PROD,
    offset::SERVER_FEATURES,
    offset::CONNECTION,
    offset::ERROR,
    offset::EVTCHN_PORT,
];

/// Both roles on one page, disturbed by the script.
pub fn ring(data: &[u8]) {
    let mut script = Script(data);
    let page = MemoryPage::new();
    let features = u32::from(script.byte());
    for word in &WORDS[..4] {
        page.store(*word, value(&mut script));
    }
    let mut server = match script.number(3) {
        0 => ServerRing::fresh(&page, features),
        1 => ServerRing::adopt(&page, features),
        _ => ServerRing::resume(indices(&mut script), features),
    };
    let mut client = ClientRing::adopt(&page);
    while !script.is_over() {
        match script.number(12) {
            0 | 1 => page.store(script.of(&WORDS), value(&mut script)),
            2 => page.write(script.number(PAGE_SIZE), script.bytes(16)),
            3 | 4 => look(&mut server, &page),
            5 => take(&mut server, &page, &mut script),
            6 => show(&mut server, &page, &mut script),
            7 => server = recover(&server, &page, &mut script),
            8 => {
                let _due = server.take_notify(Some(script.word()).filter(|lacking| *lacking != 0));
                assert!(!server.take_notify(None), "nothing happened since");
            }
            9 => {
                server.write_error(&page, ConnectionError::RingIndex);
                server.write_features(&page, u32::from(script.byte()));
                server.finish_reconnect(&page);
                assert_eq!(server.indices(), Indices::ZERO);
                look(&mut server, &page);
            }
            10 => talk(&mut client, &page, &mut script),
            _ => {
                client.reset_silently(&page);
                let _offered = script.one_in(2) || client.request_reconnect(&page);
            }
        }
    }
}

/// Values near to those that matter.
fn value(script: &mut Script<'_>) -> u32 {
    match script.number(4) {
        0 => script.number(3) as u32,
        1 => script.number(2050) as u32,
        2 => 0u32.wrapping_sub(script.number(2050) as u32),
        _ => script.word(),
    }
}

fn indices(script: &mut Script<'_>) -> Indices {
    Indices {
        req_cons: value(script),
        rsp_prod: value(script),
    }
}

fn look(server: &mut ServerRing, page: &MemoryPage) {
    let own = server.indices();
    let [req_cons, req_prod, rsp_cons, rsp_prod] = [0, 1, 2, 3].map(|word| page.load(WORDS[word]));
    match server.visit(page) {
        Visit::Open { readable, writable } => {
            assert!(readable <= RING_SIZE && writable <= RING_SIZE);
            assert_eq!((own.req_cons, own.rsp_prod), (req_cons, rsp_prod));
            assert_eq!(own.req_cons.wrapping_add(readable), req_prod);
            assert_eq!(own.rsp_prod.wrapping_sub(rsp_cons), RING_SIZE - writable);
            assert_eq!((server.readable(), server.writable()), (readable, writable));
        }
        Visit::Reset => assert_eq!((req_cons, rsp_prod, rsp_cons), (0, 0, 0)),
        Visit::Reconnect => assert_eq!(page.load(offset::CONNECTION), 1),
        Visit::Resetting | Visit::Misbehaved(_) => assert_eq!((server.readable(), server.writable()), (0, 0)),
    }
    assert_eq!(server.indices(), own, "looking moves nothing");
}

fn take(server: &mut ServerRing, page: &MemoryPage, script: &mut Script<'_>) {
    let own = server.indices();
    let mut out = [0; 2048];
    let (skip, size, count) = (value(script), script.number(2048), value(script));
    let readable = server.readable();
    let got = server.peek(page, skip, &mut out[..size]);
    assert_eq!(got, (readable.saturating_sub(skip) as usize).min(size));
    if script.one_in(4) {
        page.store(offset::REQ_CONS, value(script));
    }
    server.consume(page, count);
    assert_eq!(
        server.indices().req_cons,
        own.req_cons.wrapping_add(count.min(readable))
    );
    assert_eq!(server.indices().rsp_prod, own.rsp_prod);
}

fn show(server: &mut ServerRing, page: &MemoryPage, script: &mut Script<'_>) {
    let own = server.indices();
    let bytes = vec![0x55; script.number(2048)];
    let writable = server.writable() as usize;
    if script.one_in(4) {
        page.store(offset::RSP_PROD, value(script));
    }
    let shown = server.publish(page, &bytes);
    assert!(shown == 0 || shown == bytes.len().min(writable));
    assert_eq!(server.indices().rsp_prod, own.rsp_prod.wrapping_add(shown as u32));
    if shown > 0 {
        assert_eq!(page.load(offset::RSP_PROD), server.indices().rsp_prod);
    }
}

/// A crash between two steps: the ring is taken up where the durable state says.
fn recover(server: &ServerRing, page: &MemoryPage, script: &mut Script<'_>) -> ServerRing {
    let before = server.indices();
    let after = Indices {
        req_cons: before.req_cons.wrapping_add(value(script)),
        rsp_prod: before.rsp_prod.wrapping_add(value(script)),
    };
    let unpublished = page.load(offset::RSP_PROD) == before.rsp_prod;
    let next = ServerRing::recover(page, before, after, server.features());
    assert_eq!(next.indices().req_cons, after.req_cons);
    let expected = if unpublished { before.rsp_prod } else { after.rsp_prod };
    assert_eq!(next.indices().rsp_prod, expected);
    assert_eq!((next.readable(), next.writable()), (0, 0), "until it has looked");
    next
}

fn talk(client: &mut ClientRing, page: &MemoryPage, script: &mut Script<'_>) {
    if let ClientVisit::Open { readable, writable } = client.visit(page) {
        assert!(readable <= RING_SIZE && writable <= RING_SIZE);
    }
    let bytes = vec![0xaa; script.number(1500)];
    let fits = client.writable() as usize;
    assert_eq!(client.send(page, &bytes), bytes.len().min(fits));
    let mut out = vec![0; script.number(1500)];
    let there = client.readable() as usize;
    assert_eq!(client.receive(page, &mut out), out.len().min(there));
    let _due = client.take_notify();
}
