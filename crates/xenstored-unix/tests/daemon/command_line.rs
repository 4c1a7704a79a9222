//! What an administrator is told who gives options that will not do: one line, and which would.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use crate::bed::{Client, Daemon, Folder, PATIENCE, program, refused};
use xenstore_wire::MessageType::*;

#[test]
fn a_value_that_will_not_do_is_named_with_those_that_would() {
    let cases = [
        (
            "--quota=apples=5",
            "NAME=N with a name that `xenstore-control quota` shows",
        ),
        (
            "--quota=nodes",
            "NAME=N with a name that `xenstore-control quota` shows",
        ),
        ("--trace=wrl", "io or obj"),
        ("--max-size=1G", "a size from 1M to 254M"),
        ("--max-size=512K", "a size from 1M to 254M"),
        ("--max-clients=0", "0 is not in 1..=1000000"),
        (
            "--socket-mode=888",
            "an octal mode from 600 to 777 that lets the owner read and write",
        ),
        (
            "--socket-group=no such group",
            "a group's number, or its name in /etc/group",
        ),
        ("--sync=daily", "never or always"),
    ];
    for (option, expected) in cases {
        let (code, said) = refused(program().args([option, "--state=x"]));
        assert_eq!(code, Some(2), "{option}");
        let (name, value) = option.split_once('=').unwrap();
        let first = said.lines().next().unwrap_or_default();
        assert!(
            first.contains(name) && first.contains(value) && first.contains(expected),
            "{option}: {said}"
        );
    }
}

#[test]
fn options_that_do_not_exist_or_do_not_go_together_are_refused() {
    for (options, expected) in [
        (&["--nonsense"][..], "unexpected argument '--nonsense'"),
        (&["file"], "unexpected argument 'file'"),
        (&["--sync=always"], "--state <FILE>"),
        (&["--state"], "a value is required for '--state <FILE>'"),
        (&["--socket=/tmp/x", "--state=/tmp/x"], "must not name the same file"),
    ] {
        let (code, said) = refused(program().args(options));
        assert_eq!(code, Some(2), "{options:?}");
        assert!(said.contains(expected), "{options:?}: {said}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = program().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for word in [
        "XENSTORED_PATH",
        "--sync",
        "SIGTERM",
        "--quota",
        "Exit status",
        "EINVAL",
        "1 MiB",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let version = program().arg("--version").output().unwrap();
    let text = String::from_utf8(version.stdout).unwrap();
    assert_eq!(text, format!("xenstored-unix {}\n", env!("CARGO_PKG_VERSION")));
}

/// A start that fails: exit status 1 and a line.
fn cannot_start(options: &[&str], socket: &Path, expected: &str) {
    let (code, said) = refused(program().arg("--socket").arg(socket).args(options));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("xenstored-unix: ") && said.contains(expected),
        "{said}"
    );
}

#[test]
fn two_servers_do_not_share_a_socket() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    assert_eq!(daemon.client().ask(Write, "/mine|yes"), "OK|");
    cannot_start(&[], &folder.socket(), "another xenstored-unix has the socket");
    // The first one has not noticed.
    assert_eq!(daemon.client().ask(Read, "/mine|"), "yes");
    daemon.stop();

    // A server of another kind.
    let _other = UnixListener::bind(folder.socket()).unwrap();
    cannot_start(&[], &folder.socket(), "a server listens on");
    assert!(folder.socket().exists());
}

#[test]
fn what_a_dead_server_left_is_replaced_and_what_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    Daemon::start(&folder, &[]).kill();
    assert!(folder.socket().exists());
    let daemon = Daemon::start(&folder, &[]);
    assert_eq!(daemon.client().ask(Write, "/new|"), "OK|");
    daemon.stop();

    fs::write(folder.socket(), "a letter").unwrap();
    cannot_start(&[], &folder.socket(), "is there and is no socket");
    assert_eq!(fs::read(folder.socket()).unwrap(), b"a letter");
}

#[test]
fn places_that_cannot_be_had_are_named() {
    let folder = Folder::new();
    let long = folder.0.join("s".repeat(120));
    cannot_start(&[], &long, "is longer than 107 bytes");
    cannot_start(&[], &folder.0.join("no/such/socket"), "cannot make the folder");
    let state = folder.0.join("no/state");
    let option = format!("--state={}", state.display());
    cannot_start(&[&option], &folder.socket(), "cannot open");
    let option = format!("--state={}", folder.0.display());
    cannot_start(&[&option], &folder.socket(), "is no file");
    cannot_start(&["--state=/dev/null"], &folder.socket(), "is no file");
    // Nothing is left of the attempts.
    assert!(!folder.socket().exists());
    // A folder that alone is missing is made.
    let socket = folder.0.join("new/socket");
    let mut command = program();
    command.arg("--socket").arg(&socket);
    let daemon = Daemon::run(command, socket.clone());
    assert_eq!(Client::connect(&socket).ask(Write, "/x|"), "OK|");
    daemon.stop();
}

#[test]
fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let folder = Folder::new();
    let path = folder.0.join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = program();
    command.arg("--socket").arg(folder.socket()).env("NOTIFY_SOCKET", &path);
    let daemon = Daemon::run(command, folder.socket());
    let told = || {
        let mut words = [0; 100];
        let count = systemd.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    daemon.stop();
    assert_eq!(told(), "STOPPING=1");
}

#[test]
fn the_options_of_the_store_domain_work_here_too() {
    let folder = Folder::new();
    let options = [
        "--quota=nodes=7",
        "--quota",
        "soft-memory=9",
        "--trace=io",
        "--trace=obj",
        "--debug-crash",
    ];
    let daemon = Daemon::start(&folder, &options);
    let mut client = daemon.client();
    let quotas = client.ask(Control, "quota|");
    assert!(quotas.contains("nodes            :        7"), "{quotas}");
    let quotas = client.ask(Control, "quota-soft|");
    assert!(quotas.contains("memory           :        9"), "{quotas}");
    client.ask(Watch, "/traced|token|");
    daemon.hear("io: IN d0 WATCH tx 0 (/traced token )");
    daemon.hear("obj: CREATE watch /traced on connection");
    // One line each, whatever is in them.
    client.ask(Control, "print|two\nlines|");
    daemon.hear("control: two.lines");
    client.send(Control, 0, "crash|panic|").unwrap();
    assert!(client.sees_the_end());
    daemon.hear("crash on request");
}
