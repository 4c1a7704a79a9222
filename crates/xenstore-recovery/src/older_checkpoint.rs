//! Tests: what is read back by way of the older checkpoint, because the newest does not verify, survives a crash on that way, too.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use xenstore_core::{Channel, Configuration, DomainState, Epoch, Input, Time, World};
use xenstore_wire::DomId;

use crate::pages::Pages;
use crate::store::Store;

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
