//! Asks an end how it is, again and again.

use crate::braidctl::{Client, EndArguments, status};
use crate::control::{Answer, Command};

use super::watch::Poll;

/// An end that is asked.
pub(super) struct Source {
    end: EndArguments,
    client: Option<Client>,
    /// The number of the last event that is known, of the process with the second number.
    newest: (u64, u32),
    /// For how long it had run then.
    uptime_s: f64,
}

impl Source {
    /// The end that is meant.
    pub(super) fn new(end: &EndArguments) -> Self {
        Self { end: end.clone(), client: None, newest: (0, 0), uptime_s: 0.0 }
    }

    /// How it is now, and what has happened since it was asked before.
    ///
    /// # Errors
    /// Why that is not known. It is looked for anew the next time.
    pub(super) fn ask(&mut self) -> Result<Poll, String> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.end.connect()?,
        };
        self.ask_by(client)
    }

    fn ask_by(&mut self, mut client: Client) -> Result<Poll, String> {
        let tunnels = status::fetch(&mut client)?;
        let pid = tunnels.first().map_or(self.newest.1, |tunnel| tunnel.process.pid);
        let uptime_s = tunnels.first().map_or(0.0, |tunnel| tunnel.process.uptime_s);
        // One that was started anew counts anew; in a container it may have the same number.
        let is_same = pid == self.newest.1 && uptime_s >= self.uptime_s;
        let after = if is_same { self.newest.0 } else { 0 };
        self.uptime_s = uptime_s;
        let (answers, _) = client.ask(Command::Events { after })?;
        let events: Vec<_> = answers
            .into_iter()
            .filter_map(|answer| match answer {
                Answer::Event(event) => Some(event),
                _ => None,
            })
            .collect();
        self.newest = (events.iter().map(|event| event.number).fold(after, u64::max), pid);
        self.client = Some(client);
        Ok(Poll { tunnels, events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::sample::{self, End};

    /// An end of that process, in which two things have happened.
    fn answers(pid: u32) -> impl Fn(&Command) -> Vec<Answer> + Send + Sync + 'static {
        move |command| match command {
            Command::Status => {
                let mut status = sample::status("braid0", 1);
                status.process.pid = pid;
                vec![Answer::Status(Box::new(status))]
            }
            Command::Events { after } => {
                (after + 1..=2).map(|number| Answer::Event(sample::event(number, "braid0", false, "it"))).collect()
            }
            _ => vec![Answer::Error("what?".to_owned())],
        }
    }

    #[test]
    fn events_are_told_once_and_those_of_a_new_process_from_the_first() {
        let end = End::start(answers(1));
        let mut source = Source::new(&EndArguments { control: Some(end.path()), tap: None });
        assert_eq!(source.ask().expect("an answer").events.len(), 2);
        assert_eq!(source.ask().expect("an answer").events.len(), 0);
        end.vanish();
        assert!(source.ask().expect_err("it is gone").contains("still run"));
        assert!(source.ask().expect_err("it stays away").contains("no such socket"));
        end.come(answers(2));
        assert_eq!(source.ask().expect("an answer").events.len(), 2);
        assert_eq!(source.ask().expect("an answer").events.len(), 0);
    }

    #[test]
    fn an_end_that_refuses_is_looked_for_anew() {
        let end = End::start(|_| vec![Answer::Error("not now".to_owned())]);
        let mut source = Source::new(&EndArguments { control: Some(end.path()), tap: None });
        assert_eq!(source.ask().expect_err("refused"), "not now");
        end.vanish();
        end.come(answers(1));
        assert_eq!(source.ask().expect("an answer").tunnels.len(), 1);
    }
}
