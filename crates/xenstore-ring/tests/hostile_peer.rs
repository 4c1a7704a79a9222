//! A peer that writes anything, anywhere, at any time: the server stays within its parts of the page, reads each index
//! once, and never believes more than a ring can hold.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use xenstore_ring::{ConnectionError, Indices, MemoryPage, RING_SIZE, ServerRing, SharedPage, Visit, feature, offset};

/// A page that counts loads, and checks which bytes a server touches.
#[derive(Default)]
struct WatchedPage {
    page: MemoryPage,
    loads: RefCell<Vec<usize>>,
    /// What the peer puts into all indices at once, in the moment of the next load.
    ambush: Cell<Option<u32>>,
}

const INDICES: [usize; 4] = [offset::REQ_CONS, offset::REQ_PROD, offset::RSP_CONS, offset::RSP_PROD];

impl SharedPage for WatchedPage {
    fn load(&self, offset: usize) -> u32 {
        assert!((2048..2080).contains(&offset), "load at {offset}");
        if let Some(value) = self.ambush.take() {
            INDICES.iter().for_each(|index| self.page.store(*index, value));
        }
        self.loads.borrow_mut().push(offset);
        self.page.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        assert!((2048..2076).contains(&offset), "store at {offset}");
        self.page.store(offset, value);
    }

    fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= 1024, "read of {} bytes at {offset}", out.len());
        self.page.read(offset, out);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset >= 1024 && offset + bytes.len() <= 2048,
            "write of {} bytes at {offset}",
            bytes.len()
        );
        self.page.write(offset, bytes);
    }
}

/// Index values near those that matter: near zero, near the wrap, near each other.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0u32..3000,
        (0u32..3000).prop_map(|back| 0u32.wrapping_sub(back)),
        Just(0)
    ]
}

/// One thing that happens to the ring.
#[derive(Clone, Debug)]
enum Step {
    PeerWrites { word: usize, value: u32 },
    Ambush { value: u32 },
    Visit,
    Peek { skip: u32, length: usize },
    Consume { count: u32 },
    Publish { length: usize },
    TakeNotify { lacking: Option<u32> },
    FinishReconnect,
    Crash { before: Indices, after: Indices },
}

fn step() -> impl Strategy<Value = Step> {
    let indices = || (index(), index()).prop_map(|(req_cons, rsp_prod)| Indices { req_cons, rsp_prod });
    prop_oneof![
        4 => (0usize..8, index()).prop_map(|(word, value)| Step::PeerWrites { word, value }),
        1 => index().prop_map(|value| Step::Ambush { value }),
        6 => Just(Step::Visit),
        3 => (index(), 0usize..5000).prop_map(|(skip, length)| Step::Peek { skip, length }),
        3 => index().prop_map(|count| Step::Consume { count }),
        3 => (0usize..5000).prop_map(|length| Step::Publish { length }),
        2 => proptest::option::of(any::<u32>()).prop_map(|lacking| Step::TakeNotify { lacking }),
        1 => Just(Step::FinishReconnect),
        1 => (indices(), indices()).prop_map(|(before, after)| Step::Crash { before, after }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_sequence_of_anything_makes_the_server_leave_its_bounds(
        features in 0u32..16,
        start in proptest::array::uniform4(index()),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let page = WatchedPage::default();
        for (word, value) in INDICES.into_iter().zip(start) {
            page.page.store(word, value);
        }
        let mut ring = ServerRing::adopt(&page, features);
        for step in steps {
            let (readable, writable) = (ring.readable(), ring.writable());
            match step {
                Step::PeerWrites { word, value } => page.page.store(2048 + 4 * word, value),
                Step::Ambush { value } => page.ambush.set(Some(value)),
                Step::Visit => {
                    let visit = ring.visit(&page);
                    let now = (ring.readable(), ring.writable());
                    match visit {
                        Visit::Open { readable, writable } => prop_assert_eq!(now, (readable, writable)),
                        Visit::Reconnect => {
                            prop_assert!(features & feature::RECONNECTION != 0);
                            prop_assert_eq!(now, (0, 0));
                        }
                        Visit::Misbehaved(fault) => {
                            ring.write_error(&page, fault.connection_error());
                            prop_assert_eq!(now, (0, 0));
                            let code = if features & feature::ERROR != 0 { ConnectionError::RingIndex.code() } else { page.page.load(offset::ERROR) };
                            prop_assert_eq!(page.page.load(offset::ERROR), code);
                        }
                        Visit::Reset | Visit::Resetting => prop_assert_eq!(now, (0, 0)),
                    }
                    prop_assert!(now.0 <= RING_SIZE && now.1 <= RING_SIZE);
                }
                Step::Peek { skip, length } => {
                    let got = ring.peek(&page, skip, &mut vec![0; length]);
                    prop_assert_eq!(got, length.min(readable.saturating_sub(skip) as usize));
                }
                Step::Consume { count } => {
                    let before = ring.indices();
                    ring.consume(&page, count);
                    let moved = ring.indices().req_cons.wrapping_sub(before.req_cons);
                    prop_assert_eq!(moved, count.min(readable));
                }
                Step::Publish { length } => {
                    let before = ring.indices();
                    let written = ring.publish(&page, &vec![1; length]);
                    let moved = ring.indices().rsp_prod.wrapping_sub(before.rsp_prod);
                    prop_assert_eq!(moved as usize, written);
                    prop_assert!(written == 0 || written == length.min(writable as usize));
                }
                Step::TakeNotify { lacking } => {
                    ring.take_notify(lacking);
                    prop_assert!(!ring.take_notify(lacking), "the question was settled");
                }
                Step::FinishReconnect => ring.finish_reconnect(&page),
                Step::Crash { before, after } => ring = ServerRing::recover(&page, before, after, features),
            }
        }
    }

    #[test]
    fn a_visit_reads_each_word_at_most_once(
        features in 0u32..16,
        own in (index(), index()),
        found in proptest::array::uniform4(index()),
        connection in 0u32..3,
    ) {
        let page = WatchedPage::default();
        for (word, value) in INDICES.into_iter().zip(found) {
            page.page.store(word, value);
        }
        page.page.store(offset::CONNECTION, connection);
        let mut ring = ServerRing::resume(Indices { req_cons: own.0, rsp_prod: own.1 }, features);
        ring.visit(&page);
        let mut loads = page.loads.take();
        loads.sort_unstable();
        let all = loads.len();
        loads.dedup();
        prop_assert_eq!(loads.len(), all);
    }
}
