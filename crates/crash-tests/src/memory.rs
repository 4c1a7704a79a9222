//! Durable pages of which a copy costs little: extents that are shared until one of the copies is written to.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;

use xen_bindings::checksum;
use xenstore_core::tree::{Crc32c, crc32c};
use xenstore_recovery::{EXTENT, Pages};

/// As the machine computes it in the kernel.
static CRC32C: LazyLock<Crc32c> = LazyLock::new(|| checksum::crc32c().unwrap_or(crc32c));

/// Sees each store of a life before and after it is made.
pub trait Watcher {
    /// A store is about to be made.
    fn before(&self, at: usize, bytes: &[u8]);
    /// It was made.
    fn after(&self, at: usize, bytes: &[u8]);
    /// Everything before is durable.
    fn barrier(&self);
    /// So many extents were added.
    fn grown(&self, extents: usize);
}

/// Bytes of durable memory.
#[derive(Clone, Default)]
pub struct Extents(Vec<Rc<Vec<u8>>>);

impl Extents {
    /// So many extents of zeros.
    pub fn new(count: usize) -> Extents {
        Extents((0..count).map(|_| Rc::new(vec![0; EXTENT])).collect())
    }

    /// The bytes of an extent; none if it is not there.
    pub fn extent(&self, extent: usize) -> &[u8] {
        self.0.get(extent).map_or(&[], |bytes| bytes)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Writes; stores never reach over the end of an extent.
    pub fn write(&mut self, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let inside = at % EXTENT;
            let (now, later) = bytes.split_at(bytes.len().min(EXTENT - inside));
            Rc::make_mut(&mut self.0[at / EXTENT])[inside..inside + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = later;
        }
    }

    /// Zeros at the end.
    pub fn add(&mut self, count: usize) {
        self.0.extend(Extents::new(count).0);
    }
}

/// What is to be recovered from, each of a moment before a store of a recovery.
pub type Moments = Rc<RefCell<Vec<Extents>>>;

/// Pages of one life.
pub struct SimulatedPages {
    extents: Extents,
    most: usize,
    watcher: Option<Rc<dyn Watcher>>,
    moments: Option<Moments>,
}

impl SimulatedPages {
    /// Pages of a life that is watched. They grow up to `most` extents.
    pub fn watched(extents: Extents, most: usize, watcher: Rc<dyn Watcher>) -> SimulatedPages {
        SimulatedPages {
            extents,
            most,
            watcher: Some(watcher),
            moments: None,
        }
    }

    /// Pages of a life that ends with its recovery. The moments of its stores are kept, if wanted.
    pub fn trial(extents: Extents, moments: Option<Moments>) -> SimulatedPages {
        SimulatedPages {
            extents,
            most: 0,
            watcher: None,
            moments,
        }
    }
}

impl Pages for SimulatedPages {
    fn len(&self) -> usize {
        self.extents.count() * EXTENT
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let inside = at % EXTENT;
        let extent = self.extents.extent(at / EXTENT);
        extent.get(inside..inside + length).unwrap_or_default()
    }

    fn grow(&mut self, _bytes: usize) -> bool {
        let more = self.extents.count() < self.most;
        if more {
            self.extents.add(1);
            if let Some(watcher) = &self.watcher {
                watcher.grown(1);
            }
        }
        more
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        if let Some(watcher) = &self.watcher {
            watcher.before(at, bytes);
        }
        if let Some(moments) = &self.moments {
            moments.borrow_mut().push(self.extents.clone());
        }
        self.extents.write(at, bytes);
        if let Some(watcher) = &self.watcher {
            watcher.after(at, bytes);
        }
    }

    fn crc32c(&self) -> Crc32c {
        *CRC32C
    }

    fn barrier(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.barrier();
        }
    }
}
