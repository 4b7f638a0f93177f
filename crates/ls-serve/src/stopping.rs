//! [`Stopping`]: that a service was asked to end, as all who answer hear it.

use tokio::sync::watch;

/// Whether a service was asked to end. What it took before is answered.
#[derive(Default)]
pub(crate) struct Stopping(watch::Sender<bool>);

impl Stopping {
    /// Asks for it, which cannot be taken back.
    pub(crate) fn ask(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked for.
    pub(crate) async fn asked(&self) {
        // The sender is here for as long as this waits.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}
