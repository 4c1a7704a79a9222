//! The bench itself runs to its end and measures each row: with our server alone, and on sockets, where they are started in another way than
//! in their own tests, with the peers.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("store-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _stays = std::fs::remove_dir_all(&self.0);
    }
}

/// What the bench measures with these options.
fn measured(folder: &Path, options: &[&str]) -> Value {
    let json = folder.join("bench.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_store-bench"));
    bench.args(["--servers", "ours", "--seconds", "0.01"]).args(options);
    bench.arg("--json").arg(&json).arg("--charts").arg(folder);
    let output = bench.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
}

#[test]
fn every_row_is_measured_and_no_transaction_of_ours_conflicts() {
    let folder = Folder::new("rings");
    let options = [
        "--parts",
        "rings",
        "--domains",
        "1,3",
        "--watches",
        "0,11",
        "--storm",
        "4",
    ];
    let results = measured(&folder.0, &options);
    let rows = results["rows"].as_array().unwrap();
    // Eight operations, lone and pipelined, with each number of domains and of watches.
    assert_eq!(rows.len(), 8 * 2 * 2 * 2);
    for row in rows {
        assert!(row["requests"].as_u64() >= Some(400), "{row}");
        assert!(row["cpu_us"].as_f64() > Some(0.0), "{row}");
        assert_eq!(row["conflicts"], 0, "{row}");
    }
    for storm in ["storms", "shared_reads"] {
        let storm = &results[storm][0];
        assert_eq!(
            (&storm["conflicts"], &storm["requests"], &storm["finished"]),
            (&Value::from(0), &storm["minimum"], &Value::from(true))
        );
    }
    assert!(folder.0.join("read-11-watches.svg").is_file());
}

#[test]
fn each_request_is_measured_in_process_with_and_without_durable_pages() {
    let folder = Folder::new("process");
    let options = [
        "--parts",
        "process",
        "--nodes",
        "100,1000",
        "--share",
        "0.01",
        "--no-instructions",
    ];
    let results = measured(&folder.0, &options);
    let rows = results["inside"].as_array().unwrap();
    let of = |wanted: &dyn Fn(&Value) -> bool| rows.iter().filter(|row| wanted(row)).count();
    // Thirteen kinds of work and three without durable pages in each store; watches; two more widths; open transactions.
    assert_eq!(
        of(&|row| row["open"] == 0 && row["watches"] == 0 && row["wide"] == 1000),
        2 * 16
    );
    assert_eq!(of(&|row| row["watches"] == 10_000), 6);
    assert_eq!(of(&|row| row["wide"] != 1000), 2 * 3);
    assert_eq!(of(&|row| row["open"] != 0), 2 * 4);
    assert!(rows.iter().all(|row| row["ns"].as_f64() > Some(0.0)));
    let weights = results["weights"].as_array().unwrap();
    assert!(weights.len() >= 7 && weights.iter().all(|weight| weight["bytes"].as_u64() > Some(0)));
    assert!(folder.0.join("in-process-against-nodes.svg").is_file());
}

#[test]
fn debians_servers_serve_sockets_of_their_own_and_not_the_hosts() {
    let folder = Folder::new("sockets");
    let hosts = Path::new("/var/run/xenstored");
    let before = hosts.exists();
    let json = folder.0.join("bench.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_store-bench"));
    bench.args(["--parts", "socket", "--servers", "c,oxenstored"]);
    bench
        .args(["--clients", "3", "--seconds", "0.01"])
        .arg("--json")
        .arg(&json);
    let output = bench.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(results["refused"], Value::Array(Vec::new()));
    let rows = results["crowds"].as_array().unwrap();
    // Three operations, lone and pipelined, of both.
    assert_eq!(rows.len(), 3 * 2 * 2);
    for row in rows {
        assert!(row["requests"].as_u64() >= Some(400), "{row}");
        assert!(row["cpu_us"].as_f64() > Some(0.0), "{row}");
    }
    assert_eq!(hosts.exists(), before);
}
