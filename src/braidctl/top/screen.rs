//! The terminal, and who sits at it. However it ends, the terminal is left as it was.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::source::Source;
use super::view;
use super::watch::{Poll, Watch};

/// How long a key, a signal or an answer may have to wait.
const TICK: Duration = Duration::from_millis(50);

/// Shows an end until whoever sits there has seen enough.
///
/// # Errors
/// What is wrong with the terminal.
pub(super) fn show(mut watch: Watch, source: Source) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&stop));
        registered.map_err(|error| format!("signals cannot be taken: {error}"))?;
    }
    let answers = Answers::of(source)?;
    let mut screen = Screen::open().map_err(|error| explain(&error))?;
    attend(&mut watch, &answers, &mut screen.0, &stop).map_err(|error| explain(&error))
}

fn explain(error: &io::Error) -> String {
    format!("the terminal cannot be used: {error}: add --once for text")
}

/// A terminal that shows nothing else; dropped, it is as it was.
struct Screen(DefaultTerminal);

impl Screen {
    /// In a panic, too, the terminal is restored before anything is said of that.
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is no other terminal to tell it to.
        let _ = ratatui::try_restore();
    }
}

/// Asks in a thread of its own: an end that does not answer must not keep keys waiting.
struct Answers {
    questions: Sender<()>,
    answers: Receiver<Result<Poll, String>>,
}

impl Answers {
    fn of(mut source: Source) -> Result<Self, String> {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        let ask = move || {
            while asked.recv().is_ok() && answer.send(source.ask()).is_ok() {}
        };
        let thread = thread::Builder::new().name("ask".to_owned()).spawn(ask);
        thread.map_err(|error| format!("no thread can be had: {error}"))?;
        Ok(Self { questions, answers })
    }

    fn gone() -> io::Error {
        io::Error::other("what asks the end has stopped")
    }
}

/// Draws, asks and obeys keys, in turn.
fn attend(watch: &mut Watch, answers: &Answers, terminal: &mut DefaultTerminal, stop: &AtomicBool) -> io::Result<()> {
    let mut asked = Instant::now();
    let mut is_asking = false;
    while !stop.load(Ordering::Relaxed) {
        terminal.draw(|frame| view::draw(frame, watch, true))?;
        if !is_asking && !watch.is_paused && asked.elapsed() >= watch.interval {
            answers.questions.send(()).map_err(|_| Answers::gone())?;
            (asked, is_asking) = (Instant::now(), true);
        }
        match answers.answers.try_recv() {
            Ok(answer) => {
                watch.take(answer);
                is_asking = false;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(Answers::gone()),
        }
        if wait_for_key(TICK)?.is_some_and(|key| !obey(watch, key)) {
            break;
        }
    }
    Ok(())
}

fn wait_for_key(patience: Duration) -> io::Result<Option<KeyEvent>> {
    let polled = match event::poll(patience) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
        polled => polled?,
    };
    if !polled {
        return Ok(None);
    }
    match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Ok(Some(key)),
        // What else there is (another size) shows at the next drawing.
        _ => Ok(None),
    }
}

/// Does what a key means, and tells whether to go on.
fn obey(watch: &mut Watch, key: KeyEvent) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if is_control => return false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('p' | ' ') => watch.is_paused = !watch.is_paused,
        KeyCode::Char('+' | '=') => watch.slow_down(true),
        KeyCode::Char('-') => watch.slow_down(false),
        KeyCode::Tab | KeyCode::Right => watch.turn(true),
        KeyCode::BackTab | KeyCode::Left => watch.turn(false),
        KeyCode::Down | KeyCode::Char('j') => watch.scroll(true),
        KeyCode::Up | KeyCode::Char('k') => watch.scroll(false),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::sample;

    #[test]
    fn keys_do_what_the_last_line_says() {
        let mut watch = Watch::new(Duration::from_secs(1));
        let tunnels = ["van1", "van2"].map(|tap| sample::status(tap, 3)).to_vec();
        watch.take(Ok(Poll { tunnels, events: vec![] }));
        let mut press = |code, modifiers| {
            let goes_on = obey(&mut watch, KeyEvent::new(code, modifiers));
            (goes_on, watch.selected, watch.scrolled, watch.is_paused, watch.interval.as_millis())
        };
        let mut plain = |code| press(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Tab), (true, 1, 0, false, 1_000));
        assert_eq!(plain(KeyCode::Right), (true, 0, 0, false, 1_000));
        assert_eq!(plain(KeyCode::Left), (true, 1, 0, false, 1_000));
        assert_eq!(plain(KeyCode::Down), (true, 1, 1, false, 1_000));
        assert_eq!(plain(KeyCode::Up), (true, 1, 0, false, 1_000));
        assert_eq!(plain(KeyCode::Char('p')), (true, 1, 0, true, 1_000));
        assert_eq!(plain(KeyCode::Char('+')), (true, 1, 0, true, 2_000));
        assert_eq!(plain(KeyCode::Char('-')), (true, 1, 0, true, 1_000));
        assert!(plain(KeyCode::Char('c')).0 && plain(KeyCode::Char('x')).0);
        assert!(!plain(KeyCode::Char('q')).0);
        assert!(!press(KeyCode::Char('c'), KeyModifiers::CONTROL).0);
    }

    /// Runs itself once more, on a terminal of its own by script(1).
    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        const ON_A_TERMINAL: &str = "BRAID_TEST_PANICS_ON_A_TERMINAL";
        if std::env::var_os(ON_A_TERMINAL).is_some() {
            let _screen = Screen::open().expect("a terminal");
            panic!("on purpose");
        }
        let program = std::env::current_exe().expect("a program");
        let name = "braidctl::top::screen::tests::a_panic_leaves_the_terminal_as_it_was";
        let command = format!("{} --exact --nocapture {name}", program.display());
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).stdin(std::process::Stdio::null());
        let output = script.env("TERM", "xterm").env(ON_A_TERMINAL, "1").output().expect("script(1) is there");
        let text = String::from_utf8_lossy(&output.stdout);
        let places = ["\x1b[?1049h", "\x1b[?1049l", "on purpose"].map(|told| text.find(told));
        assert!(!output.status.success() && places.is_sorted() && !places.contains(&None), "{places:?}: {text}");
    }
}
