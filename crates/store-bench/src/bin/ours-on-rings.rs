//! Our server as an ordinary process whose Xen is a folder: `ours-on-rings FOLDER`. The same service as in the image, over the same
//! rings that Debian's servers get, with durable pages in memory.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::process::exit;
use std::time::{Duration, Instant};

use clap::Parser;
use cost_tests::image_pages::ImagePages;
use native_rings::{Failure, Life, Page, REMOTE_PORT_MAX, ServerSide, Signal};
use xenstore_core::{Channel, Configuration, ConnectFailure, CrashKind, DomainState, Time, World};
use xenstore_recovery::Store;
use xenstore_ring::feature;
use xenstore_service::{Event, Machine, RingLink, Service};
use xenstore_wire::DomId;

#[derive(Parser)]
struct Options {
    /// The folder that stands for the host.
    folder: PathBuf,
    /// MiB of durable pages.
    #[arg(long, default_value_t = 240)]
    memory: usize,
}

/// Local ports are domids from here on.
const FIRST_PORT: u32 = 1;

struct Rings {
    host: ServerSide,
    started: Instant,
}

fn must<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        exit(1)
    })
}

fn channel(domid: u16) -> Channel {
    Channel::Ring {
        port: FIRST_PORT + u32::from(domid),
    }
}

impl World for Rings {
    fn domain(&self, domid: DomId) -> DomainState {
        let alive = DomainState::ALIVE;
        match self.host.life(domid.0) {
            Life::Absent => DomainState::ABSENT,
            Life::Alive => alive,
            Life::Shutdown => DomainState {
                shutdown: true,
                ..alive
            },
            Life::Dying => DomainState {
                shutdown: true,
                dead: true,
                ..alive
            },
        }
    }

    fn wall_clock(&self) -> u64 {
        0
    }

    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

impl Machine for Rings {
    type Link = RingLink<Page>;

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        must(self.host.poll(&mut |signal| {
            event(match signal {
                Signal::Domain(domid) => Event::Port(FIRST_PORT + u32::from(domid)),
                Signal::DomainsChanged => Event::DomainsChanged,
            });
        }));
    }

    fn connect(&mut self, domid: DomId, port: u32, features: u32) -> Result<(Self::Link, Channel), ConnectFailure> {
        let page = self.host.page(domid.0).map_err(|_| ConnectFailure::Grant)?;
        if port > REMOTE_PORT_MAX {
            return Err(ConnectFailure::EventChannel);
        }
        Ok((RingLink::fresh(page, features), channel(domid.0)))
    }

    fn rebind(&mut self, _old: Channel, domid: DomId, port: u32) -> Result<Channel, ConnectFailure> {
        if port > REMOTE_PORT_MAX {
            return Err(ConnectFailure::EventChannel);
        }
        Ok(channel(domid.0))
    }

    fn disconnect(&mut self, _link: Self::Link, _channel: Channel) {}

    fn notify(&mut self, channel: Channel) {
        let Channel::Ring { port } = channel else { return };
        if let Ok(domid) = u16::try_from(port.saturating_sub(FIRST_PORT)) {
            must(self.host.notify(domid));
        }
    }

    fn wait(&mut self, deadline: Option<Time>) {
        let now = self.now().0;
        let limit = deadline.map(|deadline| Duration::from_nanos(deadline.0.saturating_sub(now)));
        must(self.host.wait(limit));
    }

    fn crash(&mut self, _kind: CrashKind) {}

    fn log(&mut self, line: String) {
        eprintln!("{line}");
    }
}

fn main() {
    let Options { folder, memory } = Options::parse();
    let host = must(ServerSide::open(&folder));
    let page = must(host.page(0));
    let features = feature::RECONNECTION | feature::ERROR;
    let configuration = Configuration {
        features,
        ..Configuration::default()
    };
    let store = Store::cold(configuration, ImagePages::new(memory << 20)).unwrap_or_else(|small| {
        eprintln!("{memory} MiB are too little: {} KiB are needed", small.needed / 1024);
        exit(1)
    });
    let started = Instant::now();
    let mut service = Service::new(Rings { host, started }, store);
    service.adopt(DomId::DOM0, RingLink::adopt(page, features), channel(0));
    service.run()
}
