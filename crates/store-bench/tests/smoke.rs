//! The bench itself runs to its end and measures each row, with our server alone: the peers have their own tests of being there.
#![forbid(unsafe_code)]

use std::process::Command;

use serde_json::Value;

#[test]
fn every_row_is_measured_and_no_transaction_of_ours_conflicts() {
    let folder = std::env::temp_dir().join(format!("store-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let json = folder.join("bench.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_store-bench"));
    bench.args(["--servers", "ours", "--domains", "1,3", "--watches", "0,11"]);
    bench.args(["--storm", "4", "--seconds", "0.01"]);
    bench.arg("--json").arg(&json).arg("--charts").arg(&folder);
    let output = bench.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
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
    assert!(folder.join("read-11-watches.svg").is_file());
    std::fs::remove_dir_all(&folder).unwrap();
}
