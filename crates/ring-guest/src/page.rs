//! The domain's own page of the store as the page of a ring.

use xen_bindings::Window;
use xenstore_ring::SharedPage;

/// One page that the server has mapped too.
#[derive(Debug)]
pub struct OwnPage(pub Window);

impl SharedPage for OwnPage {
    fn load(&self, offset: usize) -> u32 {
        self.0.load_u32(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.0.store_u32(offset, value);
    }

    fn read(&self, offset: usize, out: &mut [u8]) {
        self.0.read(offset, out);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.0.write(offset, bytes);
    }
}
