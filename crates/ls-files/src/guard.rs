//! Code of others that may panic on a damaged file: the panic becomes an error and prints nothing.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What a panic said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged, or of a form that its reader does not know ({message})")]
pub struct Panicked {
    /// The panic's message, in one line.
    pub message: String,
    /// Where it came from, `FILE:LINE:COLUMN` of the source, where that is known.
    pub place: Option<String>,
}

thread_local! {
    /// Where the last panic in a guard of this thread came from.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    /// How many guards this thread stands in.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
}

/// Runs `work`, code of others on bytes that anybody may have written. Where it panics, that is an
/// error, and nothing of it is printed.
///
/// The panic of another thread that `work` starts is printed: let each thread guard its own work.
/// What `work` was changing is lost with it, so it must be something that is not used afterwards.
///
/// ```
/// let parsed = ls_files::guarded(|| "x".parse::<u32>().unwrap());
/// assert!(parsed.unwrap_err().message.contains("InvalidDigit"));
/// assert_eq!(ls_files::guarded(|| 1), Ok(1));
/// ```
///
/// # Errors
///
/// [`Panicked`] with what the panic said.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    silence();
    GUARDS.set(GUARDS.get() + 1);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDS.set(GUARDS.get() - 1);
    done.map_err(|panic| Panicked {
        message: message_of(&*panic),
        place: PLACE.take(),
    })
}

/// What a panic said, in one line.
pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts a hook before the one that there is, which keeps quiet in a thread that stands in a guard.
fn silence() {
    static ONCE: Once = Once::new();
    // A hook cannot be set while this thread unwinds.
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending has no such value any more.
            if GUARDS.try_with(Cell::get).unwrap_or(0) == 0 {
                before(info);
            } else {
                let place = info.location().map(ToString::to_string);
                let _ = PLACE.try_with(|last| last.replace(place));
            }
        }));
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_panic_inside_is_an_error_and_one_outside_is_still_reported() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        // Before the first guard, as a program sets its hook.
        panic::set_hook(Box::new(|_| {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }));
        let damaged = guarded(|| -> u8 { panic!("page\n  {}", 7) });
        assert_eq!(damaged.unwrap_err().message, "page 7");
        assert_eq!(guarded(|| panic!("plain")).unwrap_err().message, "plain");
        let inner = guarded(|| {
            let inner = guarded(|| panic!("inner"));
            assert!(inner.is_err());
            panic!("outer")
        });
        assert_eq!(inner.unwrap_err().message, "outer");
        assert_eq!(SEEN.load(Ordering::Relaxed), 0);
        assert!(std::thread::spawn(|| panic!("outside")).join().is_err());
        assert_eq!(SEEN.load(Ordering::Relaxed), 1);
        let odd = guarded(|| panic::panic_any(7)).unwrap_err();
        assert_eq!(odd.message, "no message");
    }
}
