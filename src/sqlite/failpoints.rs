//! Sites at which this library's own tests have it panic. Elsewhere nothing of them is compiled.

/// Where a panic may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Site {
    /// The writer, between two rows.
    Rows = 1,
    /// The writer, all rows written.
    BeforeCommit,
    /// The writer, before it acknowledges.
    AfterCommit,
    /// The writer, after it acknowledged.
    TendLog,
    /// The writer, in an operation.
    MoveLog,
    /// A search, on its caller's thread.
    Search,
    /// The keyword leg of a hybrid search, on a thread of its own.
    Keywords,
    /// A long read, on a thread of its own.
    Watched,
    /// A backup, on a thread of its own.
    Backup,
}

/// Goes on.
#[cfg(not(test))]
#[inline(always)]
pub fn reach(_site: Site) {}

#[cfg(test)]
pub use tests::reach;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    static ARMED: AtomicU8 = AtomicU8::new(0);

    /// Panics once, where it was asked for.
    pub fn reach(site: Site) {
        if ARMED.compare_exchange(site as u8, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            panic!("asked for at {site:?}");
        }
    }

    #[cfg(target_os = "linux")]
    mod panics {
        use std::panic::{AssertUnwindSafe, catch_unwind};

        use super::*;
        use crate::contract;
        use crate::error::{ErrorKind, Result};
        use crate::model::{Embeddings, Matrix, Status};
        use crate::request::{Backup, Check, Checkpoint, DEFAULT_SPACE, Fusion, Mode, Open, Operation, Search, Syntax};
        use crate::sqlite::SqliteStore;
        use crate::sqlite::fork::tests::alone;
        use crate::store::{Store, Uninterrupted, Unwatched};

        fn add(store: &SqliteStore, id: &str) -> Result<()> {
            let rows = Arc::new(Matrix::new(vec![1.0, 2.0], 2).unwrap());
            contract::add_with(store, id, Embeddings::new(rows).unwrap()).map(drop)
        }

        fn search(store: &SqliteStore, mode: Mode) -> Result<()> {
            store.search(&Search::new("c", mode, 3), Arc::new(Uninterrupted)).map(drop)
        }

        /// What is called to come to the site.
        fn call(store: &SqliteStore, site: Site) -> Result<()> {
            let (text, space) = ("text".to_owned(), DEFAULT_SPACE.to_owned());
            match site {
                Site::Rows | Site::BeforeCommit | Site::AfterCommit | Site::TendLog => add(store, "new"),
                Site::MoveLog => store.operate(Operation::Checkpoint(Checkpoint::Full), &mut Unwatched),
                Site::Search => search(store, Mode::Keyword { text, syntax: Syntax::Natural, space }),
                Site::Keywords => {
                    let (vector, fusion) = (vec![1.0, 2.0], Fusion::default());
                    search(store, Mode::Hybrid { text, vector, space, fusion, candidates: None })
                }
                Site::Watched => store.check(&Check::default(), &mut Unwatched).map(drop),
                Site::Backup => {
                    let path = store.path().unwrap().with_extension("copy");
                    store.backup(&Backup { path }, &mut Unwatched)
                }
            }
        }

        /// Each site runs in a process of its own, so that no other test comes to it.
        #[test]
        fn a_panic_loses_nothing_and_harms_nobody() {
            alone("sqlite::failpoints::tests::panics::each_site");
        }

        #[test]
        #[ignore = "run by its namesake, alone"]
        fn each_site() {
            use Site::{AfterCommit, Backup, BeforeCommit, Keywords, MoveLog, Rows, Search, TendLog, Watched};
            for site in [Rows, BeforeCommit, AfterCommit, TendLog, MoveLog, Search, Keywords, Watched, Backup] {
                let folder = tempfile::tempdir().unwrap();
                let open = |name: &str| SqliteStore::open(&Open::file(folder.path().join(name))).unwrap();
                for name in ["a.db", "b.db"] {
                    let store = open(name);
                    contract::fill(&store, 3);
                    // Its writer would come to a site after what it was asked for.
                    store.close().unwrap();
                }
                let (store, neighbour, elsewhere) = (open("a.db"), open("a.db"), open("b.db"));

                ARMED.store(site as u8, Ordering::SeqCst);
                // A binding catches what comes to its caller.
                let outcome = catch_unwind(AssertUnwindSafe(|| call(&store, site)));
                let by_writer = !matches!(site, Search | Keywords | Watched | Backup);
                match outcome {
                    Ok(Ok(())) => assert_eq!(site, TendLog),
                    Ok(Err(error)) => {
                        assert!(by_writer || site == Backup, "{site:?}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Internal, "{site:?}: {error}");
                        // What is said to be not stored is not, and only that.
                        let undone = matches!(site, Rows | BeforeCommit);
                        assert_eq!(error.message().contains("nothing of the call was stored"), undone, "{error}");
                    }
                    Err(_) => assert!(matches!(site, Search | Keywords | Watched), "{site:?}"),
                }
                let stored = if matches!(site, AfterCommit | TendLog) { 4 } else { 3 };
                assert_eq!(store.count("c", None).unwrap(), stored, "{site:?}");

                // Only the writer that panicked is refused; neighbours, in the file or not, go on.
                if by_writer {
                    for refused in [add(&store, "refused"), store.operate(Operation::Vacuum, &mut Unwatched)] {
                        let error = refused.unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Internal, "{site:?}: {error}");
                        assert!(error.message().contains(&format!("asked for at {site:?}")), "{error}");
                    }
                    assert_eq!(store.health().unwrap().status, Status::Unhealthy);
                } else {
                    add(&store, "after it").unwrap();
                    assert_eq!(store.health().unwrap().status, Status::Healthy);
                }
                add(&elsewhere, "elsewhere").unwrap();
                add(&neighbour, "beside it").unwrap();
                let stored = stored + if by_writer { 1 } else { 2 };
                assert_eq!(store.count("c", None).unwrap(), stored, "{site:?}");
                // No read was left open.
                neighbour.operate(Operation::Checkpoint(Checkpoint::Truncate), &mut Unwatched).unwrap();
                neighbour.close().unwrap();
                store.close().unwrap();

                let again = open("a.db");
                assert_eq!(again.count("c", None).unwrap(), stored, "{site:?}");
                add(&again, "again").unwrap();
                assert!(again.check(&Check::default(), &mut Unwatched).unwrap().ok(), "{site:?}");
                again.close().unwrap();
                let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
                let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
                assert!(left.is_empty(), "{site:?}: {left:?}");
            }
        }
    }
}
