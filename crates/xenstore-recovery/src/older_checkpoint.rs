//! Tests: what is read back by way of the older checkpoint, because the newest does not verify, survives a crash on that way, too.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use xenstore_core::{Channel, Configuration, DomainState, Epoch, Input, Time, World};
use xenstore_wire::DomId;

use crate::desk;
use crate::extents::DurablePages;
use crate::pages::Pages;
use crate::store::{LIVES_BEFORE_GIVING_UP, LIVES_BEFORE_OLDER, Lost, Store};

extern crate std;

pub(super) struct Alone;

impl World for Alone {
    fn domain(&self, _: DomId) -> DomainState {
        DomainState::ALIVE
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn report(&self, _: &mut dyn core::fmt::Write) -> core::fmt::Result {
        Ok(())
    }
}

/// Memory whose owner's life ends before the store with this number, and which outlives it.
struct Wreckable {
    bytes: Vec<u8>,
    left: Cell<u64>,
    wreck: Rc<RefCell<Vec<u8>>>,
}

impl Wreckable {
    fn new(bytes: Vec<u8>, crash_before: u64) -> Self {
        Wreckable {
            bytes,
            left: Cell::new(crash_before),
            wreck: Rc::default(),
        }
    }
}

impl Drop for Wreckable {
    fn drop(&mut self) {
        *self.wreck.borrow_mut() = core::mem::take(&mut self.bytes);
    }
}

impl Pages for Wreckable {
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        self.bytes.get(at..at + length).unwrap_or_default()
    }
    fn store(&mut self, at: usize, bytes: &[u8]) {
        match self.left.get() {
            0 => {}
            1 => std::panic::resume_unwind(std::boxed::Box::new("crash")),
            left => self.left.set(left - 1),
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn connect(store: &mut Store<Wreckable>, port: u32) {
    let input = Input::Connected {
        domid: DomId::DOM0,
        channel: Channel::Ring { port },
        epoch: Epoch::default(),
    };
    store.take(Time(0), &Alone, input);
}

fn ports(store: &Store<Wreckable>) -> Vec<Channel> {
    store.server().connections().map(|(_, state)| state.channel).collect()
}

#[test]
fn a_crash_on_the_way_back_from_the_older_checkpoint_loses_nothing() {
    let mut store = Store::cold(Configuration::default(), Wreckable::new(std::vec![0; 4 << 20], 0)).unwrap();
    for port in 1..10 {
        connect(&mut store, port);
    }
    store.checkpoint_now();
    for port in 10..20 {
        connect(&mut store, port);
    }
    let expected = ports(&store);
    store.damage_newest_checkpoint();
    let pages = store.into_pages();
    let bytes = pages.bytes.clone();
    for crash_before in 1.. {
        let pages = Wreckable::new(bytes.clone(), crash_before);
        let wreck = Rc::clone(&pages.wreck);
        let life =
            std::panic::AssertUnwindSafe(|| Store::recover(pages).map(|recovered| drop(recovered.store)).is_ok());
        let ended = std::panic::catch_unwind(life);
        let again = Store::recover(Wreckable::new(wreck.take(), 0));
        let Ok(again) = again else {
            panic!("a crash before store {crash_before} lost everything");
        };
        assert_eq!(
            ports(&again.store),
            expected,
            "after a crash before store {crash_before}"
        );
        if ended.is_ok() {
            assert!(crash_before > 3, "a recovery stores its checkpoint");
            return;
        }
    }
}

/// Two checkpoints, and records behind each.
fn with_two_checkpoints() -> (Vec<u8>, Vec<Channel>) {
    let mut store = Store::cold(Configuration::default(), Wreckable::new(std::vec![0; 4 << 20], 0)).unwrap();
    for port in 1..10 {
        connect(&mut store, port);
    }
    store.checkpoint_now();
    for port in 10..20 {
        connect(&mut store, port);
    }
    let expected = ports(&store);
    (store.into_pages().bytes.clone(), expected)
}

fn begin(bytes: Vec<u8>) -> Result<Store<Wreckable>, (Vec<u8>, Lost)> {
    match Store::recover(Wreckable::new(bytes, 0)) {
        Ok(recovered) => Ok(recovered.store),
        Err((pages, lost)) => Err((pages.bytes.clone(), lost)),
    }
}

#[test]
fn lives_that_get_nothing_done_try_the_older_checkpoint_and_then_give_up_and_never_begin_anew() {
    let (mut bytes, expected) = with_two_checkpoints();
    let mut replayed = Vec::new();
    for _ in 0..LIVES_BEFORE_GIVING_UP {
        let store = begin(bytes).map_err(|(_, lost)| lost).unwrap();
        assert_eq!(ports(&store), expected);
        replayed.push(store.figures().replayed);
        bytes = store.into_pages().bytes.clone();
    }
    // The first finds the records behind the newest checkpoint, the next ones its own checkpoint and nothing behind it; then comes the
    // one before that.
    let (newest, older) = replayed.split_at(LIVES_BEFORE_OLDER as usize);
    assert_eq!(newest, [10, 0, 0]);
    assert!(older.iter().all(|count| *count == 0), "{replayed:?}");
    let (bytes, lost) = begin(bytes).map(|_| ()).unwrap_err();
    assert_eq!(lost, Lost::Loop);
    // Whoever starts it again by hand gets another try, with the same state.
    assert_eq!(ports(&begin(bytes).map_err(|(_, lost)| lost).unwrap()), expected);
}

#[test]
fn a_life_in_a_loop_goes_by_way_of_the_older_checkpoint() {
    let (bytes, expected) = with_two_checkpoints();
    let newest = begin(bytes.clone()).map_err(|(_, lost)| lost).unwrap();
    assert_eq!(newest.figures().replayed, 10);
    // Lives that end in their recovery leave no checkpoint.
    let mut looping = DurablePages::open(Wreckable::new(bytes, 0))
        .map_err(|(_, why)| why)
        .unwrap();
    desk::set_attempts(&mut looping, LIVES_BEFORE_OLDER);
    let store = begin(looping.into_pages().bytes.clone())
        .map_err(|(_, lost)| lost)
        .unwrap();
    assert_eq!(store.figures().replayed, 19);
    assert_eq!(ports(&store), expected);
}

#[test]
fn a_life_that_got_something_done_is_no_part_of_a_loop() {
    let (mut bytes, expected) = with_two_checkpoints();
    for _ in 0..3 * LIVES_BEFORE_GIVING_UP {
        let mut store = begin(bytes).map_err(|(_, lost)| lost).unwrap();
        assert!(store.is_unsettled());
        store.settle();
        assert!(!store.is_unsettled());
        assert_eq!(ports(&store), expected);
        bytes = store.into_pages().bytes.clone();
    }
}

#[test]
fn lives_that_get_nothing_done_lose_none_of_their_records() {
    let (mut bytes, mut expected) = with_two_checkpoints();
    for port in 0..LIVES_BEFORE_GIVING_UP {
        let mut store = begin(bytes).map_err(|(_, lost)| lost).unwrap();
        assert_eq!(ports(&store), expected, "life {port}");
        // Durable, and shown to nobody yet: there is no note of it.
        connect(&mut store, 100 + port);
        expected = ports(&store);
        bytes = store.into_pages().bytes.clone();
    }
}
