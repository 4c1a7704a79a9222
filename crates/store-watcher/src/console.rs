//! The last lines of the store domain's console, from the file that xenconsoled keeps.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes that are read from the end of the file: enough for 500 lines of 130 characters.
const TAIL: u64 = 64 << 10;

/// The last `count` lines of `file`.
pub fn last_lines(file: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(file)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(lines_of(&bytes, count))
}

/// A console's line may hold anything, guests' words included: what could act on a terminal is shown as a dot.
fn lines_of(bytes: &[u8], count: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(count);
    lines
        .into_iter()
        .skip(first)
        .map(|line| {
            line.trim_end()
                .chars()
                .map(|character| if character.is_control() { '.' } else { character })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_taken_and_made_harmless() {
        assert_eq!(lines_of(b"one\ntwo\r\n\nthree", 2), ["two", "three"]);
        assert_eq!(lines_of(b"\x1b[31mred\x00\n", 5), [".[31mred."]);
        assert!(lines_of(b"", 5).is_empty());
    }

    #[test]
    fn only_the_end_of_a_large_file_is_read() {
        let path = std::env::temp_dir().join(format!("store-watcher-console-{}", std::process::id()));
        let mut text = "x".repeat(200_000);
        text.push_str("\nlast\n");
        std::fs::write(&path, text).unwrap();
        let lines = last_lines(&path, 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines.unwrap(), ["last"]);
    }
}
