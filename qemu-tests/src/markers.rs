//! What dom0's scripts say to the harness, and the transcript of steps made of it.
//!
//! A mark is a serial line `@@ word …`; everything else between `begin` and `step` is the step's output. Pure: lines and times in,
//! steps out.

use std::time::Duration;

/// One mark. `dom0/lib.sh` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A step begins.
    Begin(String),
    /// A step has worked.
    Passed(String),
    /// A step has failed, and why.
    Failed(String, String),
    /// A line for a person: what comes next.
    Title(String),
    /// A command that is about to be run, as a person would type it.
    Command(String),
    /// A measured value: name and text.
    Value(String, String),
    /// dom0 has nothing more to do and powers off.
    Done,
}

impl Mark {
    /// Reads a serial line; `None` if it is not a mark.
    pub fn parse(line: &str) -> Option<Mark> {
        // The line may begin with the rest of something printed without a newline.
        let (_, mark) = line.split_once("@@ ")?;
        let (word, rest) = mark.trim_end().split_once(' ').unwrap_or((mark.trim_end(), ""));
        let rest = rest.trim();
        Some(match word {
            "begin" => Mark::Begin(rest.to_owned()),
            "title" => Mark::Title(rest.to_owned()),
            "command" => Mark::Command(rest.to_owned()),
            "done" => Mark::Done,
            "value" => {
                let (name, value) = rest.split_once(' ')?;
                Mark::Value(name.to_owned(), value.trim().to_owned())
            }
            "step" => match rest.split_once(' ')? {
                (name, "ok") => Mark::Passed(name.to_owned()),
                (name, outcome) => Mark::Failed(name.to_owned(), outcome.strip_prefix("FAIL")?.trim().to_owned()),
            },
            _ => return None,
        })
    }
}

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    /// `None` if it worked, else why it did not.
    pub failure: Option<String>,
    pub took: Duration,
    /// What was printed while it ran.
    pub output: Vec<String>,
}

/// The steps of one boot, in order.
#[derive(Debug, Default)]
pub struct Transcript {
    pub steps: Vec<Step>,
    /// Measured values, in order.
    pub values: Vec<(String, String)>,
    /// dom0 has said that it is done.
    pub done: bool,
    open: Option<(String, Duration)>,
    output: Vec<String>,
}

impl Transcript {
    /// Takes one serial line, read `at` this time since power on. Returns the mark that it is.
    pub fn line(&mut self, at: Duration, line: &str) -> Option<Mark> {
        let mark = Mark::parse(line);
        match &mark {
            None => self.output.push(line.to_owned()),
            Some(Mark::Begin(name)) => {
                self.output.clear();
                // The first step is the boot itself, which began with power on.
                let began = if self.steps.is_empty() { Duration::ZERO } else { at };
                self.open = Some((name.clone(), began));
            }
            Some(Mark::Passed(name)) => self.close(name, None, at),
            Some(Mark::Failed(name, why)) => self.close(name, Some(why.clone()), at),
            Some(Mark::Value(name, value)) => self.values.push((name.clone(), value.clone())),
            Some(Mark::Done) => self.done = true,
            Some(Mark::Title(_) | Mark::Command(_)) => {}
        }
        mark
    }

    /// The machine is off, `at` this time and because of `end`. A step that was under way, or a missing end, is a failure.
    pub fn end(&mut self, at: Duration, end: &str) {
        if let Some((name, _)) = self.open.clone() {
            self.close(&name, Some(end.to_owned()), at);
        } else if !self.done {
            let name = if self.steps.is_empty() { "dom0-boots" } else { "goes-on" };
            self.close(name, Some(end.to_owned()), at);
        }
    }

    /// A step has begun and not ended.
    pub fn is_within_a_step(&self) -> bool {
        self.open.is_some()
    }

    /// The output of the step called `name`.
    pub fn output_of(&self, name: &str) -> Option<&[String]> {
        self.steps
            .iter()
            .find(|step| step.name == name)
            .map(|step| step.output.as_slice())
    }

    /// Turns a step that its script took for good into a failure.
    pub fn reject(&mut self, name: &str, why: String) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            step.failure.get_or_insert(why);
        }
    }

    /// Whether something failed.
    pub fn failed(&self) -> bool {
        self.steps.iter().any(|step| step.failure.is_some())
    }

    fn close(&mut self, name: &str, failure: Option<String>, at: Duration) {
        let began = self
            .open
            .take()
            .filter(|(open, _)| open == name)
            .map_or(at, |(_, began)| began);
        let output = std::mem::take(&mut self.output);
        self.steps.push(Step {
            name: name.to_owned(),
            failure,
            took: at.saturating_sub(began),
            output,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn marks_are_recognised_also_behind_an_unfinished_line() {
        assert_eq!(
            Mark::parse("@@ begin store-starts"),
            Some(Mark::Begin("store-starts".into()))
        );
        assert_eq!(Mark::parse("# @@ step a ok "), Some(Mark::Passed("a".into())));
        assert_eq!(
            Mark::parse("@@ step a FAIL exit status 3"),
            Some(Mark::Failed("a".into(), "exit status 3".into()))
        );
        assert_eq!(
            Mark::parse("@@ value first-answer 12 ms"),
            Some(Mark::Value("first-answer".into(), "12 ms".into()))
        );
        assert_eq!(Mark::parse("@@ step a perhaps"), None);
        assert_eq!(Mark::parse("user@@host"), None);
    }

    #[test]
    fn a_step_has_its_own_output_and_time() {
        let mut transcript = Transcript::default();
        let lines = [
            "noise",
            "@@ begin a",
            "hello",
            "@@ step a ok",
            "@@ begin b",
            "world",
            "@@ step b ok",
            "@@ done",
        ];
        for (at, line) in (1..).zip(lines) {
            transcript.line(second(at), line);
        }
        transcript.end(second(9), "powered off");
        // The first step is the boot, so its time counts from power on.
        let step = |name: &str, took, line: &str| Step {
            name: name.into(),
            failure: None,
            took,
            output: vec![line.into()],
        };
        assert_eq!(
            transcript.steps,
            [step("a", second(4), "hello"), step("b", second(2), "world")]
        );
        assert!(!transcript.failed());
    }

    #[test]
    fn a_step_without_an_end_and_a_missing_done_are_failures() {
        let mut transcript = Transcript::default();
        transcript.line(second(1), "@@ begin a");
        transcript.end(second(9), "no output for 8 s");
        assert_eq!(transcript.steps[0].failure.as_deref(), Some("no output for 8 s"));
        assert_eq!(transcript.steps[0].took, second(9));

        let mut silent = Transcript::default();
        silent.end(second(9), "QEMU ended");
        assert_eq!((silent.steps[0].name.as_str(), silent.failed()), ("dom0-boots", true));
    }

    #[test]
    fn a_rejected_step_keeps_the_first_reason() {
        let mut transcript = Transcript::default();
        transcript.line(second(1), "@@ step a ok");
        transcript.reject("a", "one".into());
        transcript.reject("a", "two".into());
        assert_eq!(transcript.steps[0].failure.as_deref(), Some("one"));
    }
}
