//! What a client of the socket sees, and what other clients' conduct does to it: nothing.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::thread;

use crate::bed::{Client, Daemon, Folder, bytes, raise_file_limit};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::{HEADER_SIZE, Header};
use xenstored_unix::Settings;

#[test]
fn requests_may_come_in_pieces_or_many_at_once() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let mut client = daemon.client();
    for byte in bytes(Write, 7, 0, "/pieces|one by one") {
        client.stream.write_all(&[byte]).unwrap();
    }
    let reply = client.reply().unwrap();
    assert_eq!((reply.text().as_str(), reply.request), ("OK|", 7));

    let mut many = Vec::new();
    for number in 0..500 {
        many.extend(bytes(Write, number, 0, &format!("/many/{number}|{number}")));
        many.extend(bytes(Read, 1000 + number, 0, &format!("/many/{number}|")));
    }
    // Cut at places that are no borders of messages. Replies wait for nobody here: they are below what may pile up.
    for piece in many.chunks(1777) {
        client.stream.write_all(piece).unwrap();
    }
    for number in 0..500 {
        let (written, read) = (client.reply().unwrap(), client.reply().unwrap());
        assert_eq!((written.text().as_str(), written.request), ("OK|", number));
        assert_eq!((read.text(), read.request), (number.to_string(), 1000 + number));
    }
    daemon.stop();
}

#[test]
fn the_library_serves_in_this_process() {
    let folder = Folder::new();
    let mut daemon = xenstored_unix::Daemon::start(&Settings::at(folder.socket())).unwrap();
    let stopper = daemon.stopper();
    thread::scope(|scope| {
        scope.spawn(move || {
            daemon.run();
            daemon.finish().unwrap();
        });
        let mut client = Client::connect(&folder.socket());
        assert_eq!(client.ask(Write, "/here|yes"), "OK|");
        stopper.stop().unwrap();
        assert!(client.sees_the_end());
    });
    assert!(!folder.socket().exists());
}

#[test]
fn a_message_that_is_too_long_ends_its_connection_and_no_other() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let (mut bad, mut good) = (daemon.client(), daemon.client());
    assert_eq!(bad.ask(Watch, "/|bad|"), "OK|");
    assert_eq!(bad.ask(TransactionStart, "|"), "1|");
    assert_eq!(good.status("watches"), 1);
    let header = Header {
        kind: Write as u32,
        request_id: 1,
        transaction_id: 0,
        length: 4097,
    };
    bad.stream.write_all(&header.emit()).unwrap();
    assert!(bad.sees_the_end());
    assert_eq!(good.ask(Write, "/still|here"), "OK|");
    for (name, wanted) in [("watches", 0), ("transactions", 0), ("clients", 1)] {
        good.await_status(name, wanted);
    }
    daemon.stop();
}

#[test]
fn three_thousand_clients_at_once() {
    const CLIENTS: usize = 3000;
    raise_file_limit(CLIENTS as u64 + 100);
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let mut admin = daemon.client();
    let idle = daemon.memory();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| daemon.client()).collect();
    // Everyone first asks, then everyone reads: all are in work at the same time.
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(Write, 0, &format!("/crowd/{number}|{number}")).unwrap();
        client.send(Watch, 0, "/bell|token|").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.reply().unwrap().text(), "OK|");
        assert_eq!(client.reply().unwrap().text(), "OK|");
        assert_eq!(client.event(), "/bell|token|");
    }
    assert_eq!(admin.status("clients"), CLIENTS as u64 + 1);
    assert_eq!(admin.status("watches"), CLIENTS as u64);
    let each = (daemon.memory() - idle) / CLIENTS;
    println!("{each} bytes of memory for each client");
    assert!(each < 16 * 1024, "{each} bytes of memory for each client");

    assert_eq!(admin.ask(Write, "/bell|rings"), "OK|");
    for client in &mut clients {
        assert_eq!(client.event(), "/bell|token|");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(Read, &format!("/crowd/{number}|")), number.to_string());
    }
    // Half go without a word, some of them in the middle of a message.
    for mut client in clients.drain(..CLIENTS / 2) {
        let _half_said = client.stream.write_all(&bytes(Write, 1, 0, "/half|")[..20]);
    }
    admin.await_status("clients", CLIENTS as u64 / 2 + 1);
    assert_eq!(admin.status("watches"), CLIENTS as u64 / 2);
    assert_eq!(admin.ask(Write, "/bell|again"), "OK|");
    for client in &mut clients {
        assert_eq!(client.event(), "/bell|token|");
    }
    daemon.stop();
}

#[test]
fn one_too_many_is_turned_away_and_may_come_later() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &["--max-clients=2"]);
    let (mut first, mut second) = (daemon.client(), daemon.client());
    assert_eq!(second.ask(Write, "/x|"), "OK|");
    let mut third = daemon.client();
    assert!(third.sees_the_end());
    daemon.hear("2 clients are connected, others are turned away");
    drop(second);
    first.await_status("clients", 1);
    assert_eq!(daemon.client().ask(Read, "/x|"), "");
    daemon.stop();
}

/// Sends a message again and again until the socket takes no more; `sent` counts the bytes of all calls. False if it took none.
fn send_until_full(mut stream: &UnixStream, message: &[u8], sent: &mut usize) -> bool {
    stream.set_nonblocking(true).unwrap();
    let before = *sent;
    loop {
        match stream.write(&message[*sent % message.len()..]) {
            Ok(count) => *sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return *sent > before,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
}

#[test]
fn who_asks_and_does_not_read_is_not_read_from_and_loses_nothing() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let (mut greedy, mut other) = (daemon.client(), daemon.client());
    assert_eq!(other.ask(Write, &format!("/long|{}", "x".repeat(4000))), "OK|");
    let before = daemon.memory();
    let request = bytes(Read, 5, 0, "/long|");
    // Its requests fill the socket once the server has stopped reading; the server goes on with others meanwhile.
    let mut sent = 0;
    while send_until_full(&greedy.stream, &request, &mut sent) {
        for _ in 0..200 {
            assert_eq!(other.ask(Write, "/other|x"), "OK|");
        }
    }
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes for {sent} bytes of requests");
    // Now it reads: every request that arrived whole has its answer.
    greedy.stream.set_nonblocking(false).unwrap();
    let whole = sent / request.len();
    assert!(whole > 100, "{whole}");
    for _ in 0..whole {
        let reply = greedy.reply().unwrap();
        assert_eq!((reply.kind, reply.payload.len()), (Read as u32, 4000));
    }
    daemon.stop();
}

#[test]
fn who_watches_and_does_not_read_is_cut_off() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let (mut sleeper, mut busy) = (daemon.client(), daemon.client());
    assert_eq!(sleeper.ask(Watch, "/|token|"), "OK|");
    let name = "n".repeat(900);
    assert_eq!(busy.ask(Write, "/warm|"), "OK|");
    let before = daemon.memory();
    let mut written = 0;
    // Every path is another, so that no event stands for two.
    while busy.status("clients") == 2 {
        for _ in 0..100 {
            assert_eq!(busy.ask(Write, &format!("/{name}{written}|")), "OK|");
            assert_eq!(busy.ask(Rm, &format!("/{name}{written}|")), "OK|");
            written += 1;
        }
        assert!(written < 20_000, "it is never cut off");
    }
    daemon.hear("is cut off: it left more than 1024 KiB of replies and events unread");
    assert_eq!(busy.status("watches"), 0);
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    // What had gone out before can be read, then comes the end.
    assert!(sleeper.sees_the_end());
    daemon.stop();
}

#[test]
fn what_a_client_that_hung_up_had_asked_for_is_done_and_what_it_held_is_let_go() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let mut stays = daemon.client();
    let mut goes = daemon.client();
    assert_eq!(goes.ask(Watch, "/a|token|"), "OK|");
    assert_eq!(goes.ask(TransactionStart, "|"), "1|");
    assert_eq!(goes.ask_in(1, Write, "/a|never seen"), "OK|");
    for number in 0..50 {
        goes.send(Write, 0, &format!("/last/{number}|")).unwrap();
    }
    drop(goes);
    stays.await_status("clients", 1);
    assert_eq!((stays.status("watches"), stays.status("transactions")), (0, 0));
    assert_eq!(stays.ask(Read, "/a|"), "ERROR ENOENT|");
    assert_eq!(stays.ask(Directory, "/last|").matches('|').count(), 50);
    daemon.stop();
}

#[test]
fn there_are_no_domains_and_that_is_said() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let mut client = daemon.client();
    let answers: [(MessageType, &str, &str); 11] = [
        (Introduce, "1|1|1|", "ERROR EINVAL|"),
        (Introduce, "0|1|1|", "ERROR EINVAL|"),
        (Release, "1|", "ERROR ENOENT|"),
        (Release, "0|", "ERROR EINVAL|"),
        (Resume, "1|", "ERROR ENOENT|"),
        (SetTarget, "1|2|", "ERROR ENOENT|"),
        (IsDomainIntroduced, "1|", "F|"),
        (GetDomainPath, "1|", "/local/domain/1|"),
        (SetPerms, "/tool|b1|", "ERROR ENOENT|"),
        (SetPerms, "/tool|b0|", "OK|"),
        (GetPerms, "/tool|", "b0|"),
    ];
    for (kind, payload, answer) in answers {
        assert_eq!(client.ask(kind, payload), answer, "{kind:?} {payload}");
    }
    // A path without a slash is one of dom0's own, whose folder was never made.
    assert_eq!(client.ask(Write, "mine|x"), "OK|");
    assert_eq!(client.ask(Read, "/local/domain/0/mine|"), "x");
    daemon.stop();
}

#[test]
fn only_the_owner_reaches_the_socket_unless_told_otherwise() {
    for (options, mode) in [
        (&[][..], 0o600),
        (&["--socket-mode=660"], 0o660),
        (&["--socket-mode=666"], 0o666),
    ] {
        let folder = Folder::new();
        let daemon = Daemon::start(&folder, options);
        let found = std::fs::metadata(folder.socket()).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode);
        daemon.stop();
    }
}

#[test]
fn a_header_is_sixteen_bytes_and_half_of_one_is_waited_for() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder, &[]);
    let mut client = daemon.client();
    let message = bytes(Write, 9, 0, "/late|x");
    client.stream.write_all(&message[..HEADER_SIZE / 2]).unwrap();
    let mut other = daemon.client();
    // The half is in the server, and changes nothing.
    assert_eq!(other.ask(Read, "/late|"), "ERROR ENOENT|");
    client.stream.write_all(&message[HEADER_SIZE / 2..]).unwrap();
    assert_eq!(client.reply().unwrap().text(), "OK|");
    assert_eq!(other.ask(Read, "/late|"), "x");
    daemon.stop();
}
