//! Where bars are drawn.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::Term;
use indicatif::TermLike;
use ls_files::Stderr;

/// Where bars are drawn: a terminal, or a file or a pipe for whoever asks for them there. It takes
/// everything, and loses what the system does not take: indicatif panics in the middle of a line
/// where a terminal has gone.
#[derive(Debug, Default)]
pub struct Canvas {
    /// What is drawn since it was last handed on.
    drawn: Mutex<String>,
}

/// Rows and columns where nobody says how many there are.
const SIZE: (u16, u16) = (24, 80);

impl Canvas {
    fn drawn(&self) -> MutexGuard<'_, String> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, count: usize, way: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            _ => self.write_str(&format!("\x1b[{count}{way}")),
        }
    }

    /// Rows and columns of the terminal; of a file, as many columns as `COLUMNS` says.
    fn size() -> (u16, u16) {
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
        Term::stderr().size_checked().unwrap_or_else(|| {
            let columns = columns().filter(|columns| *columns > 0);
            (SIZE.0, columns.unwrap_or(SIZE.1))
        })
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        Self::size().1
    }

    fn height(&self) -> u16 {
        Self::size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.drawn().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn());
        Stderr.write_all(drawn.as_bytes())
    }
}
