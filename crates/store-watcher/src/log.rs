//! Where lines go: standard error, which systemd puts into the journal with the priority before each line; without systemd also
//! to syslog, because nobody reads a daemon's standard error.

use std::os::unix::net::UnixDatagram;

const SYSLOG: &str = "/dev/log";
const NAME: &str = "xenstore-stubdom-watcher";

/// Facility "daemon" of RFC 5424, in the place where a priority has it.
const DAEMON: u8 = 3 << 3;

/// Something has gone wrong.
pub fn error(line: &str) {
    write(3, line);
}

/// A line for the record.
pub fn info(line: &str) {
    write(6, line);
}

fn write(severity: u8, line: &str) {
    // Set by systemd for a service whose standard error is the journal.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        eprintln!("<{severity}>{line}");
        return;
    }
    eprintln!("{NAME}: {line}");
    // There may be no syslog, and then standard error has to do.
    let _ = UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(format!("<{}>{NAME}: {line}", DAEMON | severity).as_bytes(), SYSLOG));
}
