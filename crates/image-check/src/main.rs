//! `image-check FILE [--write-pv OUT]`: says whether Xen can start FILE, and writes the copy of it that starts as PV.
//! Status 0: good; 1: problems, one line each; 2: wrong use, or a file that cannot be read or written.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::process::ExitCode;

const USAGE: &str = "usage: image-check FILE [--write-pv OUT]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (path, pv) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path] => (path.to_owned(), None),
        [path, "--write-pv", pv] => (path.to_owned(), Some(pv.to_owned())),
        _ => return complain(USAGE),
    };
    let file = match fs::read(&path) {
        Ok(file) => file,
        Err(error) => return complain(&format!("{path}: {error}")),
    };
    match image_check::check(&file) {
        Ok(report) => println!("{path}: {report}"),
        Err(problems) => {
            for problem in problems {
                eprintln!("{path}: {problem}");
            }
            return ExitCode::from(1);
        }
    }
    let Some(pv) = pv else { return ExitCode::SUCCESS };
    match image_check::without_pvh_entry(&file) {
        Ok(copy) => match fs::write(&pv, copy) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("{pv}: {error}")),
        },
        Err(problem) => complain(&format!("{path}: {problem}")),
    }
}

fn complain(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(2)
}
