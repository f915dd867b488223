//! The views of one index that are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::file::Moment;
use super::view::{self, Kind, View};

/// States of the feed that are kept for readers that are a little late.
const VIEWS: usize = 8;

/// By the number of their change.
pub struct Views<K: Kind>(Mutex<VecDeque<Arc<View<K>>>>);

impl<K: Kind> Default for Views<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Views<K> {
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The view of exactly that state.
    pub fn at(&self, head: Moment) -> Option<Arc<View<K>>> {
        self.0.lock().iter().rev().find(|view| view.head == head && view.since.0 <= head.0).cloned()
    }

    /// The latest that a reader of that state may begin from.
    pub fn before(&self, head: Moment) -> Option<Arc<View<K>>> {
        let views = self.0.lock();
        views.iter().rev().find(|view| view.head.0 <= head.0 && view.since.0 <= head.0).cloned()
    }

    /// Adds one where it belongs.
    pub fn keep(&self, view: Arc<View<K>>) {
        let mut views = self.0.lock();
        let place = views.iter().rposition(|other| other.head.0 <= view.head.0).map_or(0, |place| place + 1);
        views.insert(place, view);
        while views.len() > VIEWS {
            views.pop_front();
        }
    }

    /// The latest view.
    pub fn latest(&self) -> Option<Arc<View<K>>> {
        self.0.lock().back().cloned()
    }

    /// Bytes of the heap of all views, of which each part counts once.
    pub fn held(&self) -> usize {
        view::held(self.0.lock().iter().map(Arc::as_ref))
    }

    /// Lets go of the views that are kept for late readers, whom SQLite answers.
    pub fn thin(&self) {
        let mut views = self.0.lock();
        let older = views.len().saturating_sub(1);
        views.drain(..older);
    }

    /// Forgets every view.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// Forgets the others.
    pub fn replace(&self, view: View<K>) {
        let mut views = self.0.lock();
        views.clear();
        views.push_back(Arc::new(view));
    }
}
