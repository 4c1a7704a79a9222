//! A client that starts again: silently, as hvmloader and OVMF do, or by asking for a reconnect.

use xenstore_ring::{ClientRing, ClientVisit, Indices, MemoryPage, ServerRing, SharedPage, Visit, feature, offset};

const ALL: u32 = feature::RECONNECTION | feature::ERROR;

/// A page whose four indices are these.
fn page_with(indices: Indices, req_prod: u32, rsp_cons: u32) -> MemoryPage {
    let page = MemoryPage::new();
    page.store(offset::REQ_CONS, indices.req_cons);
    page.store(offset::RSP_PROD, indices.rsp_prod);
    page.store(offset::REQ_PROD, req_prod);
    page.store(offset::RSP_CONS, rsp_cons);
    page
}

/// A ring in the middle of its life, visited once, with its page.
fn busy() -> (MemoryPage, ServerRing) {
    let own = Indices {
        req_cons: 5000,
        rsp_prod: 7000,
    };
    let page = page_with(own, 5040, 6990);
    let mut ring = ServerRing::resume(own, 0);
    assert_eq!(
        ring.visit(&page),
        Visit::Open {
            readable: 40,
            writable: 1014
        }
    );
    (page, ring)
}

#[test]
fn a_client_that_waits_for_a_connection_is_let_go_by_introduce_and_by_the_start_of_the_server() {
    for begin in [ServerRing::fresh, ServerRing::adopt] {
        let page = page_with(
            Indices {
                req_cons: 1,
                rsp_prod: 99,
            },
            5000,
            77,
        );
        page.store(offset::CONNECTION, 1);
        let mut server = begin(&page, 0);
        assert_eq!(page.load(offset::CONNECTION), 0);
        assert_eq!(
            server.visit(&page),
            Visit::Open {
                readable: 0,
                writable: 1024
            }
        );
        assert!(server.take_notify(None));
    }
}

#[test]
fn a_silent_reset_is_seen_with_and_without_a_request_behind_it() {
    let (page, mut ring) = busy();
    ring.consume(&page, 40);
    let mut client = ClientRing::adopt(&page);
    client.reset_silently(&page);
    assert_eq!(ring.visit(&page), Visit::Reset);
    client.visit(&page);
    client.send(&page, b"next system");
    assert_eq!(ring.visit(&page), Visit::Reset);
    assert_eq!((ring.readable(), ring.writable()), (0, 0));
    let mut ring = ServerRing::resume(Indices::ZERO, 0);
    assert_eq!(
        ring.visit(&page),
        Visit::Open {
            readable: 11,
            writable: 1024
        }
    );
}

#[test]
fn a_silent_reset_that_is_under_way_is_no_fault_in_whatever_order() {
    let words = [offset::REQ_CONS, offset::REQ_PROD, offset::RSP_CONS, offset::RSP_PROD];
    for order in 0..24 {
        let mut left = Vec::from(words);
        let page = page_with(
            Indices {
                req_cons: 5000,
                rsp_prod: 7000,
            },
            5000,
            7000,
        );
        let mut ring = ServerRing::resume(
            Indices {
                req_cons: 5000,
                rsp_prod: 7000,
            },
            0,
        );
        for choices in [order / 6, order / 2 % 3, order % 2] {
            page.store(left.remove(choices), 0);
            assert_eq!(ring.visit(&page), Visit::Resetting, "order {order}");
            assert_eq!(ring.publish(&page, b"event"), 0);
        }
        page.store(left[0], 0);
        assert_eq!(ring.visit(&page), Visit::Reset, "order {order}");
    }
}

#[test]
fn a_reset_between_visit_and_commit_is_not_overwritten() {
    let (page, mut ring) = busy();
    ClientRing::adopt(&page).reset_silently(&page);
    ring.consume(&page, 40);
    assert_eq!(ring.publish(&page, b"reply"), 0);
    assert_eq!((page.load(offset::REQ_CONS), page.load(offset::RSP_PROD)), (0, 0));
    assert_eq!(ring.visit(&page), Visit::Reset);
}

#[test]
fn a_reply_is_not_written_into_a_ring_that_was_reset_since_the_visit() {
    let (page, mut ring) = busy();
    ClientRing::adopt(&page).reset_silently(&page);
    assert_eq!(ring.publish(&page, b"reply"), 0);
    assert_eq!(page.load(offset::RSP_PROD), 0);
    assert_eq!(ring.indices().rsp_prod, 7000);
}

#[test]
fn a_reconnect_is_seen_only_if_it_was_offered_and_leaves_an_empty_ring() {
    let page = MemoryPage::new();
    let mut server = ServerRing::fresh(&page, 0);
    let mut client = ClientRing::adopt(&page);
    client.visit(&page);
    assert!(!client.request_reconnect(&page));
    page.store(offset::CONNECTION, 1);
    assert_eq!(
        server.visit(&page),
        Visit::Open {
            readable: 0,
            writable: 1024
        }
    );
    page.store(offset::CONNECTION, 0);

    server.write_features(&page, ALL);
    client.visit(&page);
    client.send(&page, b"half a mess");
    assert!(client.request_reconnect(&page));
    assert_eq!(client.visit(&page), ClientVisit::Reconnecting);
    // While it waits, the rest of the page means nothing.
    page.store(offset::REQ_CONS, 12345);
    assert_eq!(server.visit(&page), Visit::Reconnect);
    server.finish_reconnect(&page);
    assert!(server.take_notify(None));
    assert_eq!(
        server.visit(&page),
        Visit::Open {
            readable: 0,
            writable: 1024
        }
    );
    assert_eq!(
        client.visit(&page),
        ClientVisit::Open {
            readable: 0,
            writable: 1024
        }
    );
    assert_eq!(client.send(&page, b"again"), 5);
    assert_eq!(
        server.visit(&page),
        Visit::Open {
            readable: 5,
            writable: 1024
        }
    );
}

#[test]
fn a_connection_that_was_given_up_can_reconnect() {
    let page = MemoryPage::new();
    let mut server = ServerRing::fresh(&page, ALL);
    let mut client = ClientRing::adopt(&page);
    page.store(offset::REQ_PROD, 2000);
    let Visit::Misbehaved(fault) = server.visit(&page) else {
        panic!("fault expected")
    };
    server.write_error(&page, fault.connection_error());
    assert_eq!(client.visit(&page), ClientVisit::GivenUp(2));
    assert!(client.request_reconnect(&page));
    assert_eq!(server.visit(&page), Visit::Reconnect);
    server.finish_reconnect(&page);
    assert_eq!(
        client.visit(&page),
        ClientVisit::Open {
            readable: 0,
            writable: 1024
        }
    );
}
