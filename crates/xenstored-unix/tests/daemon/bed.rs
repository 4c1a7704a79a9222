//! The daemon as a process of its own, and clients that speak to it byte by byte.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use xenstore_wire::{HEADER_SIZE, Header, MessageType};

/// Nothing here takes as long; whoever waits longer has found a fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xenstored-unix-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _left_by_another = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _stays = fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// A running daemon; killed with the test if that fails.
pub struct Daemon {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    pub socket: PathBuf,
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_xenstored-unix"))
}

impl Daemon {
    /// Starts it with its socket in this folder, and returns when it serves.
    pub fn start(folder: &Folder, options: &[&str]) -> Daemon {
        let mut command = program();
        command.arg("--socket").arg(folder.socket()).args(options);
        Daemon::run(command, folder.socket())
    }

    /// The same with `--state`.
    pub fn with_state(folder: &Folder, options: &[&str]) -> Daemon {
        let mut command = program();
        command.arg("--socket").arg(folder.socket());
        command.arg("--state").arg(folder.state()).args(options);
        Daemon::run(command, folder.socket())
    }

    pub fn run(mut command: Command, socket: PathBuf) -> Daemon {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let (pipe, heard) = (child.stderr.take().unwrap(), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                heard.0.lock().unwrap().lines.push(line);
                heard.1.notify_all();
            }
            heard.0.lock().unwrap().ended = true;
            heard.1.notify_all();
        });
        let daemon = Daemon { child, said, socket };
        daemon.hear("serving ");
        daemon
    }

    /// Waits for a line with these words.
    pub fn hear(&self, words: &str) -> String {
        let (said, more) = &*self.said;
        let mut said = said.lock().unwrap();
        loop {
            if let Some(line) = said.lines.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            assert!(!said.ended, "it ended without saying {words:?}: {:?}", said.lines);
            let (next, waited) = more.wait_timeout(said, PATIENCE).unwrap();
            assert!(!waited.timed_out(), "it does not say {words:?}: {:?}", next.lines);
            said = next;
        }
    }

    pub fn lines(&self) -> Vec<String> {
        self.said.0.lock().unwrap().lines.clone()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// SIGKILL, and waits until it is dead.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait().signal(), Some(9));
    }

    /// SIGTERM, and everything as it should be afterwards.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{:?}", self.lines());
        assert!(!self.socket.exists());
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _dead_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub kind: u32,
    pub request: u32,
    pub transaction: u32,
    pub payload: Vec<u8>,
}

impl Message {
    /// The payload with its NULs as `|`; with the word ERROR before it if it is one.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.payload).replace('\0', "|");
        if self.kind == MessageType::Error as u32 {
            format!("ERROR {text}")
        } else {
            text
        }
    }
}

/// A request as bytes; `|` stands for NUL.
pub fn bytes(kind: MessageType, request_id: u32, transaction_id: u32, payload: &str) -> Vec<u8> {
    let payload = payload.replace('|', "\0");
    let length = u32::try_from(payload.len()).unwrap();
    let header = Header {
        kind: kind as u32,
        request_id,
        transaction_id,
        length,
    };
    [&header.emit()[..], payload.as_bytes()].concat()
}

pub struct Client {
    pub stream: UnixStream,
    next: u32,
    /// Events that came while a reply was awaited.
    pub events: VecDeque<Message>,
}

impl Client {
    pub fn connect(socket: &Path) -> Client {
        Client::try_connect(socket).unwrap()
    }

    pub fn try_connect(socket: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            next: 1,
            events: VecDeque::new(),
        })
    }

    pub fn send(&mut self, kind: MessageType, transaction: u32, payload: &str) -> io::Result<u32> {
        let id = self.next;
        self.next += 1;
        self.stream.write_all(&bytes(kind, id, transaction, payload))?;
        Ok(id)
    }

    /// The next message, of whatever kind.
    pub fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; HEADER_SIZE];
        self.stream.read_exact(&mut head)?;
        let header = Header::parse(&head);
        let mut payload = vec![0; usize::try_from(header.length).unwrap()];
        self.stream.read_exact(&mut payload)?;
        Ok(Message {
            kind: header.kind,
            request: header.request_id,
            transaction: header.transaction_id,
            payload,
        })
    }

    /// The next reply; events are kept.
    pub fn reply(&mut self) -> io::Result<Message> {
        loop {
            let message = self.receive()?;
            if message.kind != MessageType::WatchEvent as u32 {
                return Ok(message);
            }
            self.events.push_back(message);
        }
    }

    /// The next event.
    pub fn event(&mut self) -> String {
        let event = self.events.pop_front().unwrap_or_else(|| self.receive().unwrap());
        assert_eq!(event.kind, MessageType::WatchEvent as u32, "{}", event.text());
        event.text()
    }

    /// Asks and returns what the answer says.
    pub fn ask(&mut self, kind: MessageType, payload: &str) -> String {
        self.ask_in(0, kind, payload)
    }

    /// The same in a transaction.
    pub fn ask_in(&mut self, transaction: u32, kind: MessageType, payload: &str) -> String {
        let id = self.send(kind, transaction, payload).unwrap();
        let reply = self.reply().unwrap();
        assert_eq!((reply.request, reply.transaction), (id, transaction));
        reply.text()
    }

    /// A number out of `xenstore-control status`.
    pub fn status(&mut self, name: &str) -> u64 {
        let status = self.ask(MessageType::Control, "status|");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name} in {status}")).parse().unwrap()
    }

    /// Asks for a status until it is this.
    pub fn await_status(&mut self, name: &str, wanted: u64) {
        for _ in 0..100_000 {
            if self.status(name) == wanted {
                return;
            }
        }
        panic!("{name} is {} for ever, not {wanted}", self.status(name));
    }

    /// The server has ended the stream.
    pub fn sees_the_end(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Lets this process open so many files.
pub fn raise_file_limit(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|error| {
            panic!("this test opens {wanted} files (ulimit -Hn says how many may be): {error}")
        });
    }
}
