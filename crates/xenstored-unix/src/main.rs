//! The program: command line, signals, systemd. Everything else is in the library.
#![forbid(unsafe_code)]

mod command_line;

use std::process::ExitCode;
use std::thread;

use clap::Parser as _;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use xenstored_unix::{Daemon, Failure, Stopper};

use command_line::Options;

fn main() -> ExitCode {
    let settings = match Options::parse().settings() {
        Ok(settings) => settings,
        Err(wrong) => wrong.exit(),
    };
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xenstored-unix: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &xenstored_unix::Settings) -> Result<(), Failure> {
    // Before the socket is there: a signal that comes from now on is not lost.
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::Signals)?;
    let mut daemon = Daemon::start(settings)?;
    stop_on(signals, daemon.stopper());
    tell_systemd(NotifyState::Ready);
    daemon.run();
    tell_systemd(NotifyState::Stopping);
    daemon.finish()
}

/// The first signal stops the server in order; it needs no second one, because nothing waits for a client.
fn stop_on(mut signals: Signals, stopper: Stopper) {
    thread::spawn(move || {
        for _ in signals.forever() {
            let _stops_already = stopper.stop();
        }
    });
}

/// Does nothing where no systemd waits for it.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        eprintln!("xenstored-unix: systemd cannot be told: {error}");
    }
}
