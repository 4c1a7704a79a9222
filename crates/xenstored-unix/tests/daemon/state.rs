//! The state file: what survives which end of the process, and which files are refused.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::bed::{Client, Daemon, Folder, program, refused};
use rustix::process::Signal;
use xenstore_wire::MessageType::*;

/// A small store with all that a client can leave behind.
fn fill(client: &mut Client) {
    for (kind, payload) in [
        (Write, "/kept/value|hello"),
        (Mkdir, "/kept/empty|"),
        (SetPerms, "/kept/value|b0|"),
        (Write, "/gone|"),
        (Rm, "/gone|"),
        (Control, "quota|set|nodes|77|"),
        (Control, "log|+obj|"),
        (Watch, "/kept|token|"),
    ] {
        assert_eq!(client.ask(kind, payload), "OK|", "{kind:?} {payload}");
    }
    assert_eq!(client.ask(TransactionStart, "|"), "1|");
    assert_eq!(client.ask_in(1, Write, "/never|committed"), "OK|");
}

fn is_filled(client: &mut Client) {
    for (kind, payload, answer) in [
        (Read, "/kept/value|", "hello"),
        (GetPerms, "/kept/value|", "b0|"),
        (Directory, "/kept|", "value|empty|"),
        (Read, "/gone|", "ERROR ENOENT|"),
        (Read, "/never|", "ERROR ENOENT|"),
    ] {
        assert_eq!(client.ask(kind, payload), answer, "{kind:?} {payload}");
    }
    assert!(client.ask(Control, "quota|").contains("nodes            :       77"));
    assert!(client.ask(Control, "log|").contains("obj     : on"));
    // Of the connection that there was, nothing is left.
    for (name, wanted) in [("connections", 1), ("watches", 0), ("transactions", 0)] {
        assert_eq!(client.status(name), wanted, "{name}");
    }
}

#[test]
fn a_store_survives_a_clean_stop_and_a_kill_and_needs_no_file() {
    for sync in ["--sync=never", "--sync=always"] {
        let folder = Folder::new();
        let daemon = Daemon::with_state(&folder, &[sync]);
        let mut client = daemon.client();
        fill(&mut client);
        let mode = fs::metadata(folder.state()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        daemon.stop();
        assert!(client.sees_the_end());
        let daemon = Daemon::with_state(&folder, &[sync]);
        is_filled(&mut daemon.client());
        daemon.kill();
        let daemon = Daemon::with_state(&folder, &[sync]);
        is_filled(&mut daemon.client());
        daemon.stop();

        // Without a file it begins empty, and leaves none.
        let daemon = Daemon::start(&folder, &[]);
        assert_eq!(daemon.client().ask(Read, "/kept/value|"), "ERROR ENOENT|");
        daemon.stop();
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}

#[test]
fn status_says_how_earlier_processes_ended() {
    let folder = Folder::new();
    let daemon = Daemon::with_state(&folder, &["--debug-crash"]);
    let mut client = daemon.client();
    client.ask(Write, "/x|1");
    assert_eq!(client.status("restarts-recorded"), 0);
    daemon.stop();
    let daemon = Daemon::with_state(&folder, &["--debug-crash"]);
    let mut client = daemon.client();
    assert_eq!(client.ask(Read, "/x|"), "1");
    // Nobody is told, because a socket ends with its process.
    client.send(Write, 0, "/x|xenstore-stubdom: crash now").unwrap();
    assert!(client.sees_the_end());
    drop(daemon);
    let daemon = Daemon::with_state(&folder, &[]);
    let mut client = daemon.client();
    assert_eq!(client.ask(Read, "/x|"), "1");
    let status = client.ask(Control, "status|");
    for (number, reason) in [(1, "stopped in order"), (2, "the process was ended")] {
        let line = status
            .lines()
            .find(|line| line.starts_with(&format!("restart-{number}: ")));
        assert!(line.is_some_and(|line| line.ends_with(reason)), "{status}");
    }
    let restarts = client.ask(Control, "status|restarts|");
    let in_hand =
        "request in hand: domain 0 WRITE request 2 transaction 0 length 30 \"/x\\x00xenstore-stubdom: crash now\"";
    assert!(restarts.contains(in_hand), "{restarts}");
    assert!(client.status("records") > 0 && client.status("extents-free") > 0);
    daemon.stop();
}

#[test]
fn a_process_that_is_stopped_and_started_all_day_is_no_loop() {
    let folder = Folder::new();
    for _ in 0..2 * xenstore_recovery::LIVES_BEFORE_GIVING_UP {
        Daemon::with_state(&folder, &[]).stop();
    }
}

#[test]
fn options_of_a_later_start_hold_over_what_was_kept() {
    let folder = Folder::new();
    let daemon = Daemon::with_state(&folder, &["--quota=nodes=5", "--quota=watches=6", "--debug-crash"]);
    daemon.client().ask(Control, "quota|set|watches|60|");
    daemon.stop();
    let daemon = Daemon::with_state(&folder, &["--quota=nodes=50", "--trace=io"]);
    let mut client = daemon.client();
    let quotas = client.ask(Control, "quota|");
    // Given now; given before and changed since.
    assert!(quotas.contains("nodes            :       50"), "{quotas}");
    assert!(quotas.contains("watches          :       60"), "{quotas}");
    assert!(client.ask(Control, "log|").contains("io      : on"));
    assert_eq!(client.ask(Control, "crash|panic|"), "ERROR EINVAL|");
    daemon.stop();
}

/// What one client of the load has done: request by request, so that after a kill a prefix of it must be there.
struct Plan {
    own: usize,
    sent: usize,
    answered: usize,
}

/// The nodes of a client after so many of its requests.
type Nodes = BTreeMap<String, String>;

/// Changes of one client, numbered from 0: writes, and a removal in each five.
fn request(own: usize, number: usize) -> (xenstore_wire::MessageType, String) {
    let slot = number % 17;
    if number % 5 == 4 {
        (Rm, format!("/load/{own}/{}|", (number * 3) % 17))
    } else {
        (Write, format!("/load/{own}/{slot}|{number}"))
    }
}

fn after(own: usize, count: usize) -> Nodes {
    let mut nodes = Nodes::new();
    for number in 0..count {
        let (kind, payload) = request(own, number);
        let (path, value) = payload.split_once('|').unwrap();
        if kind == Rm {
            nodes.remove(path);
        } else {
            nodes.insert(path.to_owned(), value.to_owned());
        }
    }
    nodes
}

fn found(client: &mut Client, own: usize) -> Nodes {
    let folder = format!("/load/{own}");
    let names = client.ask(Directory, &format!("{folder}|"));
    names
        .split('|')
        .filter(|name| !name.is_empty())
        .map(|name| {
            let path = format!("{folder}/{name}");
            let value = client.ask(Read, &format!("{path}|"));
            (path, value)
        })
        .collect()
}

/// Keeps up to `ahead` requests in flight until the server goes.
fn load(mut client: Client, own: usize, begin: usize, ahead: usize, answered_by_all: &AtomicUsize) -> Plan {
    let mut plan = Plan {
        own,
        sent: begin,
        answered: begin,
    };
    let mut work = || -> io::Result<()> {
        loop {
            while plan.sent - plan.answered < ahead {
                let (kind, payload) = request(own, plan.sent);
                // It may arrive even if this fails.
                plan.sent += 1;
                client.send(kind, 0, &payload)?;
            }
            let reply = client.reply()?;
            assert_eq!(reply.text(), "OK|");
            plan.answered += 1;
            answered_by_all.fetch_add(1, Ordering::Relaxed);
        }
    };
    let ended = work().unwrap_err();
    assert!(
        matches!(
            ended.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ),
        "{ended}"
    );
    plan
}

/// Ends a server under load, again and again, and looks each time whether what was answered is there once, and what was in
/// flight once or not at all.
fn end_under_load(kills: usize, options: &[&str], end: fn(Daemon)) {
    const CLIENTS: usize = 6;
    const AHEAD: usize = 12;
    let folder = Folder::new();
    let mut daemon = Daemon::with_state(&folder, options);
    let mut admin = daemon.client();
    for own in 0..CLIENTS {
        assert_eq!(admin.ask(Mkdir, &format!("/load/{own}|")), "OK|");
    }
    drop(admin);
    let mut begins = [0; CLIENTS];
    for kill in 0..kills {
        let mut admin = daemon.client();
        let requests = admin.status("requests");
        let answered = AtomicUsize::new(0);
        // All before any begins: on a busy machine the end may come before the last of them would have connected.
        let loads = begins.map(|begin| (daemon.client(), begin));
        let plans: Vec<Plan> = thread::scope(|scope| {
            let answered = &answered;
            let clients: Vec<_> = loads
                .into_iter()
                .enumerate()
                .map(|(own, (client, begin))| scope.spawn(move || load(client, own, begin, AHEAD, answered)))
                .collect();
            // Not always at the same point of the log and its checkpoints.
            while answered.load(Ordering::Relaxed) < 500 + kill * 331 % 3000 {
                thread::yield_now();
            }
            end(daemon);
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        daemon = Daemon::with_state(&folder, options);
        let mut admin = daemon.client();
        let counted = usize::try_from(admin.status("requests") - requests).unwrap();
        let (mut least, mut most) = (0, 0);
        for Plan { own, sent, answered } in plans {
            let there = found(&mut admin, own);
            // Some requests change nothing, so more than one number may fit.
            let fits = (answered..=sent).filter(|count| after(own, *count) == there);
            let fits: Vec<usize> = fits.collect();
            let (Some(first), Some(last)) = (fits.first(), fits.last()) else {
                panic!("end {kill}, client {own}: after {answered} answers to {sent} requests there is {there:?}");
            };
            least += first - begins[own];
            most += last - begins[own];
            begins[own] = *first;
        }
        // The server counts each request when it is done. One was the question before.
        let done = counted - 1;
        assert!(
            (least..=most).contains(&done),
            "end {kill}: {done} requests were done, and what is there is the work of {least} to {most}"
        );
        admin.ask(Control, "check|");
        daemon.hear("all accounts agree");
    }
    daemon.stop();
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_answered_and_repeats_nothing() {
    let kills = std::env::var("XENSTORE_KILLS").map_or(8, |number| number.parse().unwrap());
    end_under_load(kills, &[], Daemon::kill);
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_answered_and_repeats_nothing() {
    end_under_load(3, &[], Daemon::stop);
}

#[test]
fn a_kill_under_load_with_every_change_synced() {
    end_under_load(1, &["--sync=always"], Daemon::kill);
}

#[test]
fn a_store_grows_up_to_its_size_and_says_when_it_is_full() {
    let folder = Folder::new();
    let daemon = Daemon::with_state(&folder, &["--max-size=6M"]);
    let mut client = daemon.client();
    let value = "v".repeat(1500);
    let mut written = 0;
    let refusal = loop {
        let answer = client.ask(Write, &format!("/full/{written}|{value}"));
        if answer != "OK|" {
            break answer;
        }
        written += 1;
    };
    assert_eq!(refusal, "ERROR ENOSPC|");
    assert!(written > 1000, "{written}");
    let length = fs::metadata(folder.state()).unwrap().len();
    assert!((5 << 20..=(6 << 20) + 4096).contains(&length), "{length}");
    daemon.kill();
    // As many are there, and a smaller size does not cut the file.
    let daemon = Daemon::with_state(&folder, &["--max-size=1M"]);
    let mut client = daemon.client();
    assert_eq!(client.ask(Read, &format!("/full/{}|", written - 1)), value);
    assert_eq!(client.ask(Read, &format!("/full/{written}|")), "ERROR ENOENT|");
    assert_eq!(client.ask(Rm, "/full|"), "OK|");
    assert_eq!(client.ask(Write, "/again|x"), "OK|");
    daemon.stop();
}

/// A file that is refused: a line, exit status 1, no socket, and the file as it was.
fn refuses(folder: &Folder, expected: &str) {
    let before = fs::read(folder.state()).unwrap();
    let mut command = program();
    command
        .arg("--socket")
        .arg(folder.socket())
        .arg("--state")
        .arg(folder.state());
    let (code, said) = refused(&mut command);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("state") && said.contains(expected), "{expected}: {said}");
    assert!(!folder.socket().exists());
    assert!(
        fs::read(folder.state()).unwrap() == before,
        "the file was changed: {expected}"
    );
}

/// A folder with a state file that was closed in order.
fn closed() -> Folder {
    let folder = Folder::new();
    let daemon = Daemon::with_state(&folder, &[]);
    fill(&mut daemon.client());
    daemon.stop();
    folder
}

fn patch(folder: &Folder, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(folder.state()).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn two_servers_do_not_share_a_state_file() {
    let folder = Folder::new();
    let daemon = Daemon::with_state(&folder, &[]);
    let mut command = program();
    command.arg("--socket").arg(folder.0.join("other"));
    let (code, said) = refused(command.arg("--state").arg(folder.state()));
    assert_eq!(code, Some(1));
    assert!(said.contains("another server has the state file"), "{said}");
    assert_eq!(daemon.client().ask(Write, "/x|"), "OK|");
    daemon.stop();
}

#[test]
fn files_of_others_and_of_other_versions_are_refused() {
    let folder = Folder::new();
    fs::write(folder.state(), "some notes of mine, in a file that is called state").unwrap();
    refuses(&folder, "was not written by xenstored-unix");
    let folder = closed();
    patch(&folder, 0, b"xenstored-unix state 2\n");
    refuses(&folder, "has a layout of version 2");
    // The version of the pages, behind their magic.
    let folder = closed();
    patch(&folder, 4096 + 8, &[99]);
    refuses(&folder, "its pages have another layout");
}

#[test]
fn damaged_files_are_refused() {
    let folder = closed();
    patch(&folder, 4096, b"torn");
    refuses(&folder, "is damaged: it holds no store");

    let folder = closed();
    patch(&folder, (4096 + xenstore_recovery::DIRECTORY + 8) as u64, &[0x77]);
    refuses(&folder, "is damaged: its directory contradicts itself");

    let folder = closed();
    let file = OpenOptions::new().write(true).open(folder.state()).unwrap();
    file.set_len(1 << 20).unwrap();
    refuses(
        &folder,
        "is damaged: its directory contradicts itself, or it was cut short",
    );

    // Everything behind the directory is overwritten.
    let folder = closed();
    let length = fs::metadata(folder.state()).unwrap().len() - 4096 - (32 << 10);
    patch(
        &folder,
        4096 + (32 << 10),
        &vec![0xa5; usize::try_from(length).unwrap()],
    );
    refuses(&folder, "is damaged: its checkpoints or its tree do not verify");
}

#[test]
fn records_that_are_missing_at_the_end_of_a_closed_file_are_noticed() {
    // Wherever a byte of the records or the tree differs, the file is refused or what it holds is the same.
    let folder = closed();
    let whole = fs::read(folder.state()).unwrap();
    let used: Vec<usize> = (4096 + (32 << 10)..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut refused = 0;
    for at in used.iter().step_by(used.len() / 60) {
        fs::write(folder.state(), &whole).unwrap();
        patch(&folder, *at as u64, &[whole[*at] ^ 0x40]);
        let mut command = program();
        command
            .arg("--socket")
            .arg(folder.socket())
            .arg("--state")
            .arg(folder.state());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let outcome = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Err(status);
            }
            if let Ok(client) = Client::try_connect(&folder.socket()) {
                break Ok(client);
            }
            thread::yield_now();
        };
        match outcome {
            Err(status) => {
                assert_eq!(status.code(), Some(1), "byte {at}");
                refused += 1;
            }
            Ok(mut client) => {
                is_filled(&mut client);
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn a_file_that_was_in_use_when_the_host_went_down_is_refused_unless_it_was_synced() {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let another = "0".repeat(boot.trim().len());
    for (sync, refused) in [("--sync=never", true), ("--sync=always", false)] {
        let folder = Folder::new();
        let daemon = Daemon::with_state(&folder, &[sync]);
        fill(&mut daemon.client());
        daemon.kill();
        let head = fs::read(folder.state()).unwrap()[..4096].to_vec();
        let head = String::from_utf8(head).unwrap().replace(boot.trim(), &another);
        patch(&folder, 0, head.as_bytes());
        if refused {
            // The killed one left its socket.
            fs::remove_file(folder.socket()).unwrap();
            refuses(&folder, "was in use when the host went down");
        } else {
            let daemon = Daemon::with_state(&folder, &[sync]);
            is_filled(&mut daemon.client());
            daemon.stop();
        }
    }
    // Closed in order, it may come from anywhere.
    let folder = closed();
    let head = fs::read(folder.state()).unwrap()[..4096].to_vec();
    let head = String::from_utf8(head).unwrap().replace(boot.trim(), &another);
    patch(&folder, 0, head.as_bytes());
    let daemon = Daemon::with_state(&folder, &[]);
    is_filled(&mut daemon.client());
    daemon.stop();
}

#[test]
fn a_file_that_was_being_made_is_made_anew() {
    let folder = Folder::new();
    // Touched by an administrator, say, or killed before there was anything in it.
    fs::write(folder.state(), "").unwrap();
    Daemon::with_state(&folder, &[]).kill();
    let mut head = fs::read(folder.state()).unwrap()[..4096].to_vec();
    let at = head.windows(7).position(|word| word == b"running").unwrap();
    head.splice(at..at + 7, *b"new");
    patch(&folder, 0, &head[..4092]);
    let daemon = Daemon::with_state(&folder, &[]);
    fill(&mut daemon.client());
    daemon.signal(Signal::INT);
    let mut daemon = daemon;
    assert_eq!(daemon.wait().code(), Some(0));
    let daemon = Daemon::with_state(&folder, &[]);
    is_filled(&mut daemon.client());
    daemon.stop();
}
