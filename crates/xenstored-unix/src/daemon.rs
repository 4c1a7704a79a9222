//! The daemon: from its settings to a service that runs, and to its end.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};

use xenstore_core::{Channel, Configuration, Limit, Quotas, TraceSwitch};
use xenstore_recovery::{Pages as _, Recovered, Store};
use xenstore_ring::feature;
use xenstore_service::Service;
use xenstore_wire::DomId;

use crate::failure::Failure;
use crate::limits;
use crate::log;
use crate::machine::{SocketMachine, Stopper};
use crate::pages::{StatePages, Sync};
use crate::socket::{Bound, Place};
use crate::state_file::{Opened, StateFile, Status};

/// Clients accepted between two rounds, so that a crowd at the door does not keep those inside waiting.
const ACCEPTED_AT_ONCE: usize = 64;

/// What the administrator wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub socket: PathBuf,
    /// The socket's mode; who may write to it may do everything.
    pub socket_mode: u32,
    /// The socket's group, if not the process's.
    pub socket_group: Option<u32>,
    /// Clients at a time.
    pub max_clients: usize,
    /// The file that keeps the store; none: memory only.
    pub state: Option<PathBuf>,
    /// When that file is made to outlive the host.
    pub sync: Sync,
    /// Bytes that the store may take, from [`crate::SMALLEST`] to [`crate::LARGEST`].
    pub max_size: usize,
    /// Limits of domains.
    pub quotas: Vec<(Limit, u32)>,
    /// Trace switches that are on.
    pub trace: Vec<TraceSwitch>,
    /// `xenstore-control crash` is allowed.
    pub debug_crash: bool,
}

impl Settings {
    /// The defaults, with a socket at this path.
    pub fn at(socket: PathBuf) -> Settings {
        Settings {
            socket,
            socket_mode: 0o600,
            socket_group: None,
            max_clients: 4096,
            state: None,
            sync: Sync::Never,
            max_size: 64 << 20,
            quotas: Vec::new(),
            trace: Vec::new(),
            debug_crash: false,
        }
    }
}

/// A server that listens.
pub struct Daemon {
    service: Service<SocketMachine, StatePages>,
    bound: Bound,
    state: Option<StateFile>,
}

impl Daemon {
    /// Takes the socket's place, reads back or makes the store, and listens.
    pub fn start(settings: &Settings) -> Result<Daemon, Failure> {
        let most_clients = limits::clients(settings.max_clients)?;
        if most_clients < settings.max_clients {
            log::line(&format!(
                "RLIMIT_NOFILE lets only {most_clients} clients in at a time, not {}",
                settings.max_clients
            ));
        }
        let place = Place::take(&settings.socket)?;
        let mut last_end = "";
        let (kept, state) = match &settings.state {
            Some(path) => {
                let Opened { file, pages, status } = StateFile::open(path, settings.sync, settings.max_size)?;
                last_end = match status {
                    Status::New => "",
                    Status::Running => "the process was ended",
                    Status::Stopped { .. } => "stopped in order",
                };
                (Kept::open(settings, pages, status, path)?, Some(file))
            }
            None => (Kept::new(settings, StatePages::in_memory(settings.max_size))?, None),
        };
        let whereabouts = match &settings.state {
            Some(path) => format!("{} (sync {})", path.display(), settings.sync.name()),
            None => "memory only".to_owned(),
        };
        let (listener, bound) = place.listen(settings.socket_mode, settings.socket_group)?;
        let machine = SocketMachine::new(listener, most_clients, whereabouts, last_end)?;
        // Before the first record: the number of them that was noted when the file was closed is true no longer.
        if let Some(state) = &state {
            state.mark(Status::Running)?;
        }
        let service = kept.serve(machine, settings);
        log::line(&format!("serving {}", settings.socket.display()));
        Ok(Daemon { service, bound, state })
    }

    /// Something that ends [`Daemon::run`].
    pub fn stopper(&self) -> Stopper {
        self.service.machine().stopper()
    }

    /// Serves until a [`Stopper`] is used. The round is finished then: what clients were told is what was done.
    pub fn run(&mut self) {
        while !self.service.machine().is_stopping() {
            let busy = self.service.round();
            let came = self.let_in();
            if !busy && !came {
                self.service.wait();
            }
        }
    }

    /// Takes on clients that wait at the door. True if there were any.
    fn let_in(&mut self) -> bool {
        for accepted in 0..ACCEPTED_AT_ONCE {
            let connection = self.service.server().next_connection();
            let Some(link) = self.service.machine_mut().accept(connection) else {
                return accepted > 0;
            };
            self.service.adopt(DomId::DOM0, link, Channel::Socket);
        }
        true
    }

    /// Closes the socket and the state file. Clients see the end of their streams.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.service.settle();
        let records = self.service.store_figures().records;
        let (machine, mut pages) = self.service.into_parts();
        // First the name, so that nobody comes who would be sent away.
        drop(self.bound);
        drop(machine);
        pages.barrier();
        match self.state {
            Some(state) => state.mark(Status::Stopped { records }),
            None => Ok(()),
        }
    }
}

/// A store that has no machine yet.
enum Kept {
    New(Store<StatePages>),
    ReadBack(Recovered<StatePages>),
}

impl Kept {
    fn new(settings: &Settings, pages: StatePages) -> Result<Kept, Failure> {
        let mut quotas = Quotas::default();
        for (limit, value) in &settings.quotas {
            quotas.set(*limit, *value);
        }
        let configuration = Configuration {
            privileged: DomId::DOM0,
            own: DomId::DOM0,
            // No ring, no features of one, but for those of the requests themselves.
            features: feature::WATCHDEPTH | feature::DOMID_ANY,
            hash_seed: RandomState::new().build_hasher().finish(),
            quotas,
            debug_crash: settings.debug_crash,
            trace: settings.trace.clone(),
            ..Configuration::default()
        };
        Store::cold(configuration, pages)
            .map(Kept::New)
            .map_err(Failure::TooSmall)
    }

    fn open(settings: &Settings, pages: StatePages, status: Status, path: &Path) -> Result<Kept, Failure> {
        if status == Status::New {
            return Kept::new(settings, pages);
        }
        let recovered = Store::recover(pages).map_err(|(_, lost)| Failure::Damaged {
            path: path.to_owned(),
            lost,
        })?;
        let figures = recovered.store.figures();
        if let Status::Stopped { records } = status
            && records != figures.records
        {
            return Err(Failure::Incomplete {
                path: path.to_owned(),
                records,
                found: figures.records,
            });
        }
        log::line(&format!(
            "{} read back: {} records in all, {} of them behind the last checkpoint",
            path.display(),
            figures.records,
            figures.replayed
        ));
        Ok(Kept::ReadBack(recovered))
    }

    fn serve(self, machine: SocketMachine, settings: &Settings) -> Service<SocketMachine, StatePages> {
        match self {
            Kept::New(store) => Service::new(machine, store),
            Kept::ReadBack(recovered) => {
                // No socket outlives the process that had it.
                let mut service = Service::resume(machine, recovered, |_, _| None);
                service.set_options(&settings.quotas, &settings.trace, settings.debug_crash);
                service
            }
        }
    }
}
