//! A store filled as that of a host with many domains: about a hundred nodes for each (the number that commit 8bf435cdf2 of Xen
//! names), five levels deep, each domain the owner of its home; watches of guests, elsewhere; and one directory as wide as asked.

use xenstore_wire::MessageType::{Introduce, Mkdir, SetPerms, Watch, Write};

use crate::desk::{Client, Desk};
use crate::dice::Dice;

/// Devices of a domain.
const DEVICES: usize = 9;
/// Entries of a device.
const ENTRIES: usize = 10;
/// Nodes of a domain: its home, its devices and their entries.
pub const NODES_OF_A_DOMAIN: usize = 1 + DEVICES * (1 + ENTRIES);
/// Domids that own the homes in turn: as many domains as a large host has at a time.
const OWNERS: usize = 300;
/// Watches of one guest; its limit is 128.
const WATCHES_OF_A_GUEST: usize = 100;
/// The guests' domids.
const FIRST_GUEST: usize = 1000;

/// How large everything is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Nodes of domains, in hundreds at least.
    pub nodes: usize,
    /// Watches of guests on nodes that nobody changes.
    pub watches: usize,
    /// Children of the directory "/wide".
    pub wide: usize,
}

/// What was made, so that paths in it can be named.
#[derive(Clone, Debug)]
pub struct Host {
    /// How large everything is.
    pub size: Size,
    /// A client of dom0.
    pub dom0: Client,
}

impl Host {
    /// Durable pages that are large enough for a store of this size and for some time of work on it.
    pub fn bytes_for(size: Size) -> usize {
        // Twice what it takes: where room is short, requests also pay for making some.
        2 * ((size.nodes + size.wide) * 160 + size.watches * 256 + (12 << 20))
    }

    /// Fills a new store, through requests.
    pub fn fill(desk: &mut Desk, size: Size) -> Host {
        let dom0 = desk.dom0();
        let host = Host { size, dom0 };
        host.add_guests(desk);
        for domain in 0..host.domains() {
            host.add_domain(desk, domain);
        }
        desk.must(dom0, Mkdir, 0, "/wide|");
        for child in 0..size.wide {
            desk.must(dom0, Write, 0, &format!("{}|{child:016}", host.wide_child(child)));
        }
        host
    }

    /// The host that an earlier life filled.
    pub fn again(size: Size) -> Host {
        // dom0 was the first to connect.
        Host { size, dom0: 1 }
    }

    fn add_guests(&self, desk: &mut Desk) {
        for guest in 0..self.size.watches.div_ceil(WATCHES_OF_A_GUEST) {
            let domid = (FIRST_GUEST + guest) as u16;
            desk.build(domid);
            desk.must(self.dom0, Introduce, 0, &format!("{domid}|1|1|"));
            let client = desk.client_of(domid);
            let watches = (self.size.watches - guest * WATCHES_OF_A_GUEST).min(WATCHES_OF_A_GUEST);
            for watch in 0..watches {
                desk.must(client, Watch, 0, &format!("/elsewhere/{guest}/{watch}|token|"));
            }
        }
    }

    fn add_domain(&self, desk: &mut Desk, domain: usize) {
        let owner = 1 + domain % OWNERS;
        desk.build(owner as u16);
        let home = self.home(domain);
        desk.must(self.dom0, Mkdir, 0, &format!("{home}|"));
        desk.must(self.dom0, SetPerms, 0, &format!("{home}|n{owner}|"));
        for path in self.paths_of(domain) {
            desk.must(self.dom0, Write, 0, &format!("{path}|{domain:016}"));
        }
    }

    /// The entries of a domain's devices.
    pub fn paths_of(&self, domain: usize) -> impl Iterator<Item = String> {
        let home = self.home(domain);
        let device = move |device| (0..ENTRIES).map(move |entry| (device, entry));
        let all = (0..DEVICES).flat_map(device);
        all.map(move |(device, entry)| format!("{home}/device-{device}/entry-{entry:02}"))
    }

    /// How many domains have homes.
    pub fn domains(&self) -> usize {
        self.size.nodes.div_ceil(NODES_OF_A_DOMAIN)
    }

    /// The home of a domain.
    pub fn home(&self, domain: usize) -> String {
        format!("/local/domain/{domain}")
    }

    /// A device of some domain.
    pub fn some_device(&self, dice: &mut Dice) -> String {
        let home = self.home(dice.below(self.domains()));
        format!("{home}/device-{}", dice.below(DEVICES))
    }

    /// An entry of some device of some domain.
    pub fn some_entry(&self, dice: &mut Dice) -> String {
        let device = self.some_device(dice);
        format!("{device}/entry-{:02}", dice.below(ENTRIES))
    }

    /// Bytes of the wide directory's list of names.
    pub fn wide_names(&self) -> usize {
        let name = |child| self.wide_child(child).len() - "/wide/".len() + 1;
        (0..self.size.wide).map(name).sum()
    }

    /// A child of the wide directory.
    pub fn wide_child(&self, child: usize) -> String {
        format!("/wide/child-{child}")
    }
}
