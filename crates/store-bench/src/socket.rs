//! One server with clients on its Unix socket, each of which is dom0.

use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use native_rings::packages;
use native_rings::{Daemon, Folder};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xenstore_wire::MessageType;

use crate::client::{Message, Messages};
use crate::host::Kind;
use crate::load::Bed;
use crate::process;

/// What a load may take, and a server to say something.
const PATIENCE: Duration = Duration::from_secs(30);
/// While it starts, its socket is tried so often.
const TRY_AGAIN: Duration = Duration::from_micros(50);
/// Clients besides those that are measured.
const MORE: usize = 16;

/// A server on a socket, ended when dropped.
pub struct Server {
    end: End,
    /// Where it listens.
    pub socket: PathBuf,
    /// When it was started.
    pub started: Instant,
}

enum End {
    Ours(Child, PathBuf),
    // The server must be dead when its folder is removed.
    Debians(Daemon, #[expect(dead_code, reason = "removed when dropped")] Folder),
}

impl Server {
    /// Starts a server for so many clients. Ours gets `options`, too.
    pub fn start(kind: Kind, programs: Option<&PathBuf>, clients: usize, options: &[&str]) -> anyhow::Result<Server> {
        allow_files(clients)?;
        if matches!(kind, Kind::C | Kind::Oxenstored) {
            let mut folder = Folder::new()?;
            folder.build(0)?;
            let (product, words) = kind.debians();
            let (daemon, socket) = Daemon::start_by_socket(&mut folder, &packages::obtain(product)?, &words)?;
            let started = daemon.started();
            return Ok(Server {
                end: End::Debians(daemon, folder),
                socket,
                started,
            });
        }
        let folder = own_folder()?;
        let socket = folder.join("socket");
        let mut command = Command::new(process::program("xenstored-unix", programs)?);
        command.arg("--socket").arg(&socket).args(options);
        command.arg(format!("--max-clients={}", clients + MORE));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        Ok(Server {
            end: End::Ours(command.spawn().context("starting xenstored-unix")?, folder),
            socket,
            started,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        match &self.end {
            End::Ours(child, _) => child.id(),
            End::Debians(daemon, _) => daemon.pid(),
        }
    }

    /// A connection, as soon as there can be one.
    pub fn connect(&mut self) -> anyhow::Result<StdStream> {
        let began = Instant::now();
        loop {
            match StdStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error) if began.elapsed() > PATIENCE => bail!("it does not let clients in: {error}"),
                Err(_) => {}
            }
            if let End::Ours(child, _) = &mut self.end
                && let Some(status) = child.try_wait()?
            {
                bail!("xenstored-unix ended: {status}");
            }
            std::thread::sleep(TRY_AGAIN);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let End::Ours(child, folder) = &mut self.end {
            // It may be dead already.
            let _gone = child.kill();
            let _gone = child.wait();
            let _stays = std::fs::remove_dir_all(folder);
        }
    }
}

/// An empty folder among the temporary files.
pub fn own_folder() -> anyhow::Result<PathBuf> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("store-bench-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Lets this process, and so each server that it starts, have files for so many clients.
fn allow_files(clients: usize) -> anyhow::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = (clients + 4 * MORE) as u64;
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum,
        };
        setrlimit(Resource::Nofile, raised)
            .with_context(|| format!("{clients} clients need {wanted} open files (ulimit -Hn)"))?;
    }
    Ok(())
}

/// One client.
struct Client {
    stream: UnixStream,
    messages: Messages,
}

/// A server and its clients.
pub struct Crowd {
    server: Server,
    clients: Vec<Client>,
    poll: Poll,
    events: Events,
    last: Instant,
}

impl Crowd {
    /// Starts a server and connects so many clients, one after another. Ours gets `options`, too.
    pub fn start(kind: Kind, programs: Option<&PathBuf>, clients: usize, options: &[&str]) -> anyhow::Result<Crowd> {
        let server = Server::start(kind, programs, clients, options)?;
        let mut crowd = Crowd {
            server,
            clients: Vec::new(),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            last: Instant::now(),
        };
        for number in 0..clients {
            let stream = crowd.server.connect().with_context(|| format!("client {number}"))?;
            stream.set_nonblocking(true)?;
            let mut stream = UnixStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            crowd.poll.registry().register(&mut stream, Token(number), interest)?;
            crowd.clients.push(Client {
                stream,
                messages: Messages::default(),
            });
        }
        Ok(crowd)
    }

    /// KiB of memory that the server holds.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        Ok(process::memory_kib(self.server.pid())?.0)
    }
}

impl Bed for Crowd {
    fn queue(&mut self, client: usize, kind: MessageType, transaction: u32, payload: &str) -> anyhow::Result<u32> {
        let client = self.clients.get_mut(client).context("no such client")?;
        Ok(client.messages.queue(kind, transaction, payload))
    }

    fn pump(&mut self, number: usize) -> anyhow::Result<()> {
        let client = self.clients.get_mut(number).context("no such client")?;
        while !client.messages.outgoing.is_empty() {
            match client.stream.write(client.messages.outgoing.make_contiguous()) {
                Ok(sent) => drop(client.messages.outgoing.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => bail!("client {number} is cut off: {error}"),
            }
        }
        let mut bytes = [0; 16 * 1024];
        loop {
            match client.stream.read(&mut bytes) {
                Ok(0) => bail!("client {number} is turned away"),
                Ok(got) => client.messages.incoming.extend_from_slice(&bytes[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => bail!("client {number} is cut off: {error}"),
            }
        }
    }

    fn take(&mut self, client: usize) -> Option<Message> {
        self.clients.get_mut(client)?.messages.take()
    }

    fn listen(&mut self) -> anyhow::Result<Vec<usize>> {
        self.poll.poll(&mut self.events, Some(Duration::from_secs(1)))?;
        let stirred: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        if !stirred.is_empty() {
            self.last = Instant::now();
        } else if self.last.elapsed() > PATIENCE {
            bail!("it says nothing for {} s", PATIENCE.as_secs());
        }
        Ok(stirred)
    }

    fn nudge(&mut self, _clients: Range<usize>) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// It sleeps: its time stands still.
    fn rest(&mut self) -> anyhow::Result<()> {
        let mut before = self.cpu_ns()?;
        loop {
            std::thread::sleep(Duration::from_millis(2));
            let now = self.cpu_ns()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
    }

    fn advance_clock(&self) {}

    fn cpu_ns(&self) -> anyhow::Result<u64> {
        process::cpu_ns(self.server.pid())
    }

    fn notifications(&self) -> u64 {
        0
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }
}

/// Asks for something that is always there, and waits for the answer.
pub fn first_reply(stream: &mut StdStream) -> anyhow::Result<()> {
    let mut messages = Messages::default();
    messages.queue(MessageType::Directory, 0, "/|");
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(messages.outgoing.make_contiguous())?;
    let mut bytes = [0; 4096];
    loop {
        let got = stream.read(&mut bytes)?;
        if got == 0 {
            bail!("it hung up");
        }
        messages.incoming.extend_from_slice(&bytes[..got]);
        if let Some(message) = messages.take() {
            return message
                .error()
                .map_or(Ok(()), |error| bail!("the first answer is {error}"));
        }
    }
}
