//! What happens inside a store that nobody asked about, for whoever logs. No event carries what a user stored.

use std::sync::{OnceLock, PoisonError, RwLock};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The write-ahead log passed [`crate::limits::LOG_WARNING_BYTES`], since these processes read what it must keep.
    LogGrew { bytes: u64, readers: Vec<u32> },
}

/// Gets events on the thread where they happen: it must return soon and not call the store.
pub type Sink = Box<dyn Fn(&Event) + Send + Sync>;

fn sink() -> &'static RwLock<Option<Sink>> {
    static SINK: OnceLock<RwLock<Option<Sink>>> = OnceLock::new();
    SINK.get_or_init(RwLock::default)
}

/// Installs what gets events from now on, of every store of this process.
pub fn set_sink(new: Option<Sink>) {
    *sink().write().unwrap_or_else(PoisonError::into_inner) = new;
}

/// Tells of an event.
pub fn emit(event: &Event) {
    if let Some(sink) = &*sink().read().unwrap_or_else(PoisonError::into_inner) {
        sink(event);
    }
}
