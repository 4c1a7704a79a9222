//! Both sides in one program: what is sent arrives, whole and in order, in whatever portions, across the wrap of the
//! indices, and after a server that forgets everything but two numbers.

use proptest::prelude::*;
use xenstore_ring::{ClientRing, ClientVisit, Indices, MemoryPage, ServerRing, SharedPage, Visit, offset};

#[derive(Clone, Debug)]
enum Step {
    ClientSends(usize),
    ClientReceives(usize),
    ServerReads { skip: usize, count: usize },
    ServerPublishes(usize),
    ServerCrashes { in_the_middle: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let length = || prop_oneof![0usize..40, 0usize..1500];
    prop_oneof![
        length().prop_map(Step::ClientSends),
        length().prop_map(Step::ClientReceives),
        (0usize..30, length()).prop_map(|(skip, count)| Step::ServerReads { skip, count }),
        length().prop_map(Step::ServerPublishes),
        any::<bool>().prop_map(|in_the_middle| Step::ServerCrashes { in_the_middle }),
    ]
}

/// The byte at this place of a stream; the two streams differ.
fn byte(stream: u8, place: usize) -> u8 {
    (place % 251) as u8 ^ stream
}

fn bytes(stream: u8, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|place| byte(stream, place)).collect()
}

const REQUESTS: u8 = 0x00;
const REPLIES: u8 = 0xff;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn two_streams_pass_unharmed(
        first_request in prop_oneof![Just(0u32), any::<u32>(), (0u32..2000).prop_map(|back| 0u32.wrapping_sub(back))],
        first_reply in prop_oneof![Just(0u32), any::<u32>(), (0u32..2000).prop_map(|back| 0u32.wrapping_sub(back))],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let page = MemoryPage::new();
        for (word, value) in [
            (offset::REQ_CONS, first_request),
            (offset::REQ_PROD, first_request),
            (offset::RSP_CONS, first_reply),
            (offset::RSP_PROD, first_reply),
        ] {
            page.store(word, value);
        }
        let mut server = ServerRing::adopt(&page, 0);
        let mut client = ClientRing::adopt(&page);
        let (mut sent, mut read, mut published, mut received) = (0, 0, 0, 0);
        for step in steps {
            match step {
                Step::ClientSends(count) => {
                    let expected = ClientVisit::Open { readable: (published - received) as u32, writable: 1024 - (sent - read) as u32 };
                    prop_assert_eq!(client.visit(&page), expected);
                    let accepted = client.send(&page, &bytes(REQUESTS, sent, count));
                    prop_assert_eq!(accepted, count.min(1024 - (sent - read)));
                    sent += accepted;
                }
                Step::ClientReceives(count) => {
                    client.visit(&page);
                    let mut out = vec![0; count];
                    let got = client.receive(&page, &mut out);
                    prop_assert_eq!(got, count.min(published - received));
                    prop_assert_eq!(&out[..got], &bytes(REPLIES, received, got)[..]);
                    received += got;
                }
                Step::ServerReads { skip, count } => {
                    let there = sent - read;
                    let expected = Visit::Open { readable: there as u32, writable: 1024 - (published - received) as u32 };
                    prop_assert_eq!(server.visit(&page), expected);
                    let mut out = vec![0; count];
                    let got = server.peek(&page, skip as u32, &mut out);
                    prop_assert_eq!(got, count.min(there.saturating_sub(skip)));
                    prop_assert_eq!(&out[..got], &bytes(REQUESTS, read + skip, got)[..]);
                    let consumed = count.min(there);
                    server.consume(&page, consumed as u32);
                    read += consumed;
                }
                Step::ServerPublishes(count) => {
                    server.visit(&page);
                    let accepted = server.publish(&page, &bytes(REPLIES, published, count));
                    prop_assert_eq!(accepted, count.min(1024 - (published - received)));
                    published += accepted;
                }
                Step::ServerCrashes { in_the_middle } => {
                    server.visit(&page);
                    let before = server.indices();
                    // One more round was made durable; the crash came before its stores, or between them.
                    let consumed = server.readable().min(10);
                    let reply = bytes(REPLIES, published, server.writable().min(20) as usize);
                    let after = Indices {
                        req_cons: before.req_cons.wrapping_add(consumed),
                        rsp_prod: before.rsp_prod.wrapping_add(reply.len() as u32),
                    };
                    if in_the_middle {
                        server.publish(&page, &reply);
                    }
                    server = ServerRing::recover(&page, before, after, 0);
                    if server.indices() != after {
                        server.visit(&page);
                        prop_assert_eq!(server.publish(&page, &reply), reply.len());
                    }
                    prop_assert_eq!(server.indices(), after);
                    read += consumed as usize;
                    published += reply.len();
                }
            }
        }
        prop_assert_eq!(page.load(offset::REQ_CONS), first_request.wrapping_add(read as u32));
        prop_assert_eq!(page.load(offset::RSP_PROD), first_reply.wrapping_add(published as u32));
    }
}
