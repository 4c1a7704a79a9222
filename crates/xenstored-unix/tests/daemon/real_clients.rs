//! Programs that none of us wrote: Xen's own test and tools, through libxenstore, and the Python client pyxs.
//!
//! They find the socket by XENSTORED_PATH; nothing is installed, and nothing of this host is changed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use native_rings::clients::{self, Clients};

use crate::bed::{Daemon, Folder};

/// `test-xenstore -l` of Xen 4.17 lists so many.
const UPSTREAMS_TESTS: usize = 12;

struct Tools {
    clients: Clients,
    libraries: PathBuf,
    socket: PathBuf,
}

impl Tools {
    /// Fails with the reason if they can neither be found nor fetched.
    fn new(folder: &Folder) -> Tools {
        let clients = clients::xens().unwrap_or_else(|failure| panic!("Xen's clients: {failure}"));
        let libraries = clients.link_libraries(&folder.0.join("libraries")).unwrap();
        Tools {
            clients,
            libraries,
            socket: folder.socket(),
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.clients.program(name));
        command
            .env("LD_LIBRARY_PATH", &self.libraries)
            .env("XENSTORED_PATH", &self.socket)
            .stdin(Stdio::null());
        command
    }

    /// Runs one to its end; what it wrote, if it succeeded, else its exit status and what it said.
    fn run(&self, name: &str, arguments: &[&str]) -> Result<String, (Option<i32>, String)> {
        let output = self.command(name).args(arguments).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err((
                output.status.code(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ))
        }
    }

    fn says(&self, name: &str, arguments: &[&str]) -> String {
        self.run(name, arguments)
            .unwrap_or_else(|(code, said)| panic!("{name} {arguments:?} ended with {code:?}: {said}"))
    }

    fn fails(&self, name: &str, arguments: &[&str]) -> String {
        let (code, said) = self.run(name, arguments).unwrap_err();
        assert!(code.is_some_and(|code| code != 0), "{name} {arguments:?}: {code:?}");
        said
    }
}

#[test]
fn upstreams_own_test_passes() {
    let folder = Folder::new();
    let tools = Tools::new(&folder);
    for options in [&[][..], &["--state"]] {
        let state = folder.state();
        let mut with_state = options.to_vec();
        if !options.is_empty() {
            with_state.push(state.to_str().unwrap());
        }
        let daemon = Daemon::start(&folder, &with_state);
        let listed = tools.says("test-xenstore", &["-l"]);
        assert_eq!(
            listed.lines().filter(|line| line.contains(':')).count(),
            UPSTREAMS_TESTS,
            "{listed}"
        );
        let said = tools.says("test-xenstore", &["-i", "200"]);
        let passed = said.lines().filter(|line| line.contains(": avg: ")).count();
        assert_eq!(passed, UPSTREAMS_TESTS, "{said}");
        daemon.stop();
    }
}

#[test]
fn xens_tools_do_what_they_do_with_any_xenstored() {
    let folder = Folder::new();
    let tools = Tools::new(&folder);
    let daemon = Daemon::start(&folder, &[]);
    tools.says("xenstore-write", &["/a/b", "hello", "/a/c", "two words"]);
    assert_eq!(tools.says("xenstore-read", &["/a/b", "/a/c"]), "hello\ntwo words\n");
    assert_eq!(tools.says("xenstore-list", &["/a"]), "b\nc\n");
    assert_eq!(
        tools.says("xenstore-ls", &["-f", "/a"]),
        "/a/b = \"hello\"\n/a/c = \"two words\"\n"
    );
    tools.says("xenstore-exists", &["/a/b"]);
    tools.says("xenstore-chmod", &["/a/b", "r0"]);
    let listed = tools.says("xenstore-ls", &["-fp", "/a"]);
    assert!(listed.contains("/a/b = \"hello\"   (r0)"), "{listed}");
    assert!(
        tools
            .fails("xenstore-chmod", &["/a/b", "b7"])
            .contains("No such file or directory")
    );
    tools.says("xenstore-rm", &["/a/b"]);
    tools.fails("xenstore-exists", &["/a/b"]);
    assert!(
        tools
            .fails("xenstore-read", &["/a/b"])
            .contains("couldn't read path /a/b")
    );

    let status = tools.says("xenstore-control", &["status"]);
    assert!(status.contains("machine: unix socket"), "{status}");
    for words in [
        &["check"][..],
        &["print", "hello"],
        &["log", "+io"],
        &["quota", "set", "nodes", "5"],
    ] {
        tools.says("xenstore-control", words);
    }
    daemon.hear("control: hello");
    assert!(
        tools
            .says("xenstore-control", &["quota"])
            .contains("nodes            :        5")
    );
    assert!(
        tools
            .fails("xenstore-control", &["no-such-command"])
            .contains("Command not supported")
    );
    daemon.stop();
}

/// A client that runs until the test has seen enough.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _dead_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

#[test]
fn xenstore_watch_and_a_directory_of_many_parts() {
    let folder = Folder::new();
    let tools = Tools::new(&folder);
    let daemon = Daemon::start(&folder, &[]);
    let mut command = tools.command("xenstore-watch");
    command.arg("/watched").stdout(Stdio::piped());
    let mut watching = Running(command.spawn().unwrap());
    let mut events = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut next = || events.next().unwrap().unwrap();
    // The event that every watch begins with.
    assert_eq!(next(), "/watched");
    tools.says("xenstore-write", &["/watched/below", "x", "/elsewhere", "x"]);
    assert_eq!(next(), "/watched/below");
    tools.says("xenstore-rm", &["/watched"]);
    assert_eq!(next(), "/watched");

    // More names than fit one reply: libxenstore asks for parts.
    let mut client = daemon.client();
    let names: Vec<String> = (0..600)
        .map(|number| format!("a-name-of-some-length-{number}"))
        .collect();
    for name in &names {
        client.ask(xenstore_wire::MessageType::Mkdir, &format!("/many/{name}|"));
    }
    let listed = tools.says("xenstore-list", &["/many"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    daemon.stop();
}

/// Runs a Python program that has pyxs.
fn python(pyxs: &Path, socket: &Path, program: &str) -> String {
    let mut command = Command::new("python3");
    command
        .arg("-c")
        .arg(program)
        .env("PYTHONPATH", pyxs)
        .env("XENSTORED_PATH", socket)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("python3 is needed for pyxs and cannot be started: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pyxs_reads_writes_watches_and_commits() {
    let folder = Folder::new();
    let pyxs = clients::pyxs().unwrap_or_else(|failure| panic!("pyxs: {failure}"));
    let daemon = Daemon::start(&folder, &[]);
    let said = python(&pyxs, &folder.socket(), include_str!("pyxs.py"));
    assert_eq!(said.lines().last(), Some("all done"), "{said}");
    let mut client = daemon.client();
    assert_eq!(client.ask(xenstore_wire::MessageType::Read, "/pyxs/counter|"), "40");
    client.await_status("clients", 1);
    assert_eq!((client.status("watches"), client.status("transactions")), (0, 0));
    daemon.stop();
}
