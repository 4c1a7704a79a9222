//! Bytes of the serial line become lines.
//!
//! Xen and dom0 share the line: a message of Xen (`(XEN) …`) can come in the middle of a line of dom0's. It is moved out, and the two
//! halves are joined again, so that a mark is never torn apart.

const XEN: &str = "(XEN) ";

/// Puts lines together; holds what is unfinished.
#[derive(Default)]
pub struct LineAssembler {
    bytes: Vec<u8>,
    torn: String,
}

impl LineAssembler {
    /// Takes bytes and returns the lines that they complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.bytes).into_owned();
                    self.bytes.clear();
                    self.finish_line(&line, &mut lines);
                }
                b'\r' | 0 => {}
                other => self.bytes.push(*other),
            }
        }
        lines
    }

    /// What is left when the line goes dead.
    pub fn rest(&mut self) -> Option<String> {
        let mut line = std::mem::take(&mut self.torn);
        line.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.bytes)));
        (!line.is_empty()).then_some(line)
    }

    fn finish_line(&mut self, line: &str, lines: &mut Vec<String>) {
        match line.find(XEN) {
            Some(at) => {
                self.torn.push_str(&line[..at]);
                lines.push(line[at..].to_owned());
            }
            None => {
                let mut whole = std::mem::take(&mut self.torn);
                whole.push_str(line);
                lines.push(whole);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        let mut assembler = LineAssembler::default();
        assert!(assembler.take(b"@@ beg").is_empty());
        assert_eq!(assembler.take(b"in a\r\nnext"), ["@@ begin a"]);
        assert_eq!(assembler.rest().as_deref(), Some("next"));
        assert_eq!(assembler.rest(), None);
    }

    #[test]
    fn a_message_of_xen_does_not_tear_a_mark() {
        let mut assembler = LineAssembler::default();
        let lines = assembler.take(b"@@ step gu(XEN) d1v0 something\r\n(XEN) more\r\nest ok\r\n");
        assert_eq!(lines, ["(XEN) d1v0 something", "(XEN) more", "@@ step guest ok"]);
    }
}
