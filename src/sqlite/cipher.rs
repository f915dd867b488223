//! The key of a file, and what tells an encrypted file from others.
//!
//! An encrypted file begins with its salt, 16 random bytes, in place of SQLite's magic. A passphrase is stretched over the
//! salt once for each store; each connection then gets the result with the salt, in SQLCipher's notation of raw keys. So
//! the file is the one that SQLCipher itself makes of the same passphrase.

use rusqlite::Connection;

use super::ffi::{self, Part};
use crate::error::{Error, ErrorKind, Result};

#[cfg(not(feature = "encryption"))]
pub use plain::Cipher;
#[cfg(feature = "encryption")]
pub use sqlcipher::Cipher;

/// Bytes at a file's beginning that are its salt.
const SALT: usize = 16;
const MAGIC: &[u8; SALT] = b"SQLite format 3\0";
/// Of a file's beginning, to judge whether it is encrypted: 256 values that are equally likely leave some 220 of them in
/// so many bytes, and text or tables fewer than half.
const SAMPLE: usize = 512;
const DISTINCT: usize = 150;

/// Says so where a file that is opened without a key is likely to be encrypted. SQLite's own word would be that it is no
/// database.
pub fn check_plain(conn: &Connection) -> Result<()> {
    let mut sample = [0; SAMPLE];
    if ffi::read_at(conn, Part::Database, 0, &mut sample)? && !sample.starts_with(MAGIC) && looks_random(&sample) {
        return Err(Error::new(
            ErrorKind::WrongKey,
            "it is encrypted, or damaged in its first page, or no store at all, and no key is given; open it with key=",
        ));
    }
    Ok(())
}

fn looks_random(sample: &[u8; SAMPLE]) -> bool {
    let mut seen = [false; 256];
    sample.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() >= DISTINCT
}

#[cfg(feature = "encryption")]
mod sqlcipher {
    use std::ffi::{CStr, c_int};

    use parking_lot::Mutex;
    use rusqlite::ErrorCode;
    use zeroize::Zeroizing;

    use super::*;
    use crate::request::{Key, Secret};
    use crate::sqlite::readers::closed;
    use crate::sqlite::tables::meta;

    /// SQLCipher's defaults, so that any tool built on it opens the file with the passphrase alone.
    const ROUNDS: c_int = 256_000;
    const RAW: usize = 32;

    /// The key of one file.
    pub struct Cipher(Mutex<State>);

    struct State {
        /// `None` once it is forgotten.
        key: Option<Key>,
        stretched: Option<Stretched>,
    }

    struct Stretched {
        salt: [u8; SALT],
        /// `x'<key><salt>'`, as SQLCipher takes it.
        notation: Zeroizing<Vec<u8>>,
    }

    impl Cipher {
        /// Stretches nothing yet.
        #[allow(clippy::unnecessary_wraps)]
        pub fn new(key: &Key) -> Result<Self> {
            Ok(Self(Mutex::new(State { key: Some(key.clone()), stretched: None })))
        }

        /// Wipes the key: the store is closed, and its callers may hold it for long.
        pub fn forget(&self) {
            *self.0.lock() = State { key: None, stretched: None };
        }

        /// Gives a new connection its key, and reads a page with it.
        pub fn unlock(&self, conn: &Connection) -> Result<()> {
            let salt = salt(conn)?;
            if salt.as_ref() == Some(MAGIC) {
                return Err(Error::new(
                    ErrorKind::WrongKey,
                    "a key is given, and the file is not encrypted; open it without key=, then encrypt it with rekey(key)",
                ));
            }
            self.apply(conn, c"main", salt)?;
            match conn.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0)) {
                Ok(_) => Ok(()),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                    if salt.is_none() {
                        self.check_salt(conn)?;
                    }
                    Err(Error::new(
                        ErrorKind::WrongKey,
                        "the key does not open it: it is most likely another key, or else the first page is damaged, or \
                         it is no store at all; nothing was changed; give the key that it was made with",
                    ))
                }
                Err(error) => Err(error.into()),
            }
        }

        /// Gives an attached database, which is empty, its key.
        pub fn unlock_new(&self, conn: &Connection, database: &CStr) -> Result<()> {
            self.apply(conn, database, None)
        }

        fn apply(&self, conn: &Connection, database: &CStr, salt: Option<[u8; SALT]>) -> Result<()> {
            // Else a wrong key is told to stderr. It is one setting for the process, and needs no key.
            conn.query_row("PRAGMA cipher_log_level = NONE", [], |_| Ok(()))?;
            // Another library, linked by mistake, knows no such setting; it would write what it is given.
            let version: Option<String> = conn.query_row("PRAGMA cipher_version", [], |row| row.get(0)).ok();
            if version.is_none_or(|version| version.is_empty()) {
                return Err(Error::internal(
                    "a key is given, and this build of SQLite does not encrypt; nothing is stored",
                ));
            }
            ffi::key(conn, database, &self.notation(salt)?)
        }

        /// The key for a file with this salt, or for a new one.
        fn notation(&self, salt: Option<[u8; SALT]>) -> Result<Zeroizing<Vec<u8>>> {
            let mut state = self.0.lock();
            if let Some(known) = &state.stretched
                && salt.is_none_or(|salt| salt == known.salt)
            {
                return Ok(known.notation.clone());
            }
            let salt = match salt {
                Some(salt) => salt,
                None => meta::random()?,
            };
            let mut raw = Zeroizing::new([0; RAW]);
            match state.key.as_ref().ok_or_else(closed)?.secret() {
                Secret::Raw(key) => raw.copy_from_slice(&**key),
                Secret::Passphrase(text) => ffi::stretch(text, &salt, ROUNDS, &mut *raw)?,
            }
            // Made once in its full length: growing would leave copies.
            let mut notation = Zeroizing::new(Vec::with_capacity(2 * (RAW + SALT) + 3));
            notation.extend_from_slice(b"x'");
            for byte in raw.iter().chain(&salt) {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                notation.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            notation.push(b'\'');
            Ok(state.stretched.insert(Stretched { salt, notation }).notation.clone())
        }

        /// Where the stretched key lies: another place is another stretching.
        #[cfg(test)]
        pub fn notation_at(&self) -> *const u8 {
            self.0.lock().stretched.as_ref().map_or(std::ptr::null(), |stretched| stretched.notation.as_ptr())
        }

        /// Holds the file's beginning against the key that the connection has: a new file may have become another
        /// process's, which is worth another attempt, and must not have become a plain one.
        pub fn check_salt(&self, conn: &Connection) -> Result<()> {
            let known = self.0.lock().stretched.as_ref().map(|stretched| stretched.salt);
            match salt(conn)? {
                found if found == known => Ok(()),
                Some(found) if found == *MAGIC => {
                    Err(Error::internal("the file is plain although a key was given; nothing more is written to it"))
                }
                _ => Err(Error::new(ErrorKind::Locked, "another process makes the file")),
            }
        }
    }

    /// `None` for a file with nothing in it.
    fn salt(conn: &Connection) -> Result<Option<[u8; SALT]>> {
        let mut start = [0; SALT];
        Ok(ffi::read_at(conn, Part::Database, 0, &mut start)?.then_some(start))
    }
}

#[cfg(not(feature = "encryption"))]
mod plain {
    use super::*;
    use crate::request::Key;

    /// There is none: this build does not encrypt.
    pub enum Cipher {}

    impl Cipher {
        /// Fails.
        pub fn new(_key: &Key) -> Result<Self> {
            Err(Error::new(
                ErrorKind::Argument,
                "a key is given, and this build of ragstore does not encrypt; build it with the Cargo feature \
                 \"encryption\", which the wheels have; nothing was opened",
            ))
        }

        /// Cannot be called.
        pub fn forget(&self) {
            match *self {}
        }

        /// Cannot be called.
        pub fn unlock(&self, _conn: &Connection) -> Result<()> {
            match *self {}
        }

        /// Cannot be called.
        pub fn unlock_new(&self, _conn: &Connection, _database: &std::ffi::CStr) -> Result<()> {
            match *self {}
        }

        /// Cannot be called.
        pub fn check_salt(&self, _conn: &Connection) -> Result<()> {
            match *self {}
        }
    }
}

#[cfg(all(test, not(feature = "encryption")))]
mod tests {
    use crate::error::ErrorKind;
    use crate::request::{Key, Open};
    use crate::sqlite::SqliteStore;

    #[test]
    fn without_the_feature_a_key_is_refused_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.db");
        let request = Open { key: Some(Key::raw(&[1; 32]).unwrap()), ..Open::file(&path) };
        let error = SqliteStore::open(&request).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.message().contains("\"encryption\""), "{error}");
        assert!(!path.parent().unwrap().exists());
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::contract;
    use crate::request::{Key, Open};
    use crate::sqlite::open::{self, Caches};
    use crate::sqlite::{SqliteStore, migrate, sql};
    use crate::store::Store;

    fn passphrase(text: &str) -> Key {
        Key::passphrase(Zeroizing::new(text.to_owned())).unwrap()
    }

    fn open(path: &Path, key: Option<Key>) -> Result<SqliteStore> {
        SqliteStore::open(&Open { key, ..Open::file(path) })
    }

    fn kind(path: &Path, key: Option<Key>) -> ErrorKind {
        open(path, key).err().unwrap().kind()
    }

    #[test]
    fn an_encrypted_file_keeps_the_contract_and_no_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let next = AtomicUsize::new(0);
        let key = Key::raw(&[7; 32]).unwrap();
        let make = || -> Arc<dyn Store> {
            let name = format!("{}.db", next.fetch_add(1, Ordering::Relaxed));
            Arc::new(open(&folder.path().join(name), Some(key.clone())).unwrap())
        };
        contract::run(&make, &|store| {
            assert!(store.encrypted());
            let cipher = Cipher::new(&key).unwrap();
            let caches = Caches::of(&Open::ephemeral());
            let conn = open::reader(store.path().unwrap(), Some(&cipher), Duration::ZERO, caches).unwrap();
            crate::sqlite::tests::check(store);
            store.close().unwrap();
            let damage: Vec<String> =
                sql::query_all(&conn, "PRAGMA cipher_integrity_check", [], |row| row.get(0)).unwrap();
            assert!(damage.is_empty(), "{damage:?}");
        });
        assert!(next.into_inner() > 0);
    }

    #[test]
    fn an_ephemeral_store_with_a_key_keeps_the_contract() {
        let request = Open { key: Some(passphrase("p")), ..Open::ephemeral() };
        contract::run(&|| Arc::new(SqliteStore::open(&request).unwrap()), &|store| assert!(store.encrypted()));
    }

    #[test]
    fn stock_sqlcipher_opens_the_file_with_the_passphrase_and_ours_opens_its_file() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["correct horse", "it's \"quoted\" -- ;", "a\0b", "pässwörd 密码 🔑", "x'12'"] {
            let path = folder.path().join("a.db");
            let store = open(&path, Some(passphrase(text))).unwrap();
            contract::fill(&store, 3);
            store.close().unwrap();
            // SQLCipher stretches it by itself here.
            let conn = Connection::open(&path).unwrap();
            ffi::key(&conn, c"main", text.as_bytes()).unwrap();
            let rows: i64 = conn.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 3);
            drop(conn);
            std::fs::remove_file(&path).unwrap();

            let conn = Connection::open(&path).unwrap();
            ffi::key(&conn, c"main", text.as_bytes()).unwrap();
            conn.execute_batch("CREATE TABLE notes (x); DROP TABLE notes").unwrap();
            drop(conn);
            let store = open(&path, Some(passphrase(text))).unwrap();
            contract::fill(&store, 3);
            store.close().unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_raw_key_is_that_of_sqlcipher() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8 * 7);
        open(&path, Some(Key::raw(&bytes).unwrap())).unwrap().close().unwrap();
        let conn = Connection::open(&path).unwrap();
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        ffi::key(&conn, c"main", format!("x'{digits}'").as_bytes()).unwrap();
        let store: Vec<u8> =
            conn.query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get(0)).unwrap();
        assert_eq!(store.len(), 16);
    }

    #[test]
    fn a_wrong_a_missing_and_a_needless_key_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (encrypted, plain) = (folder.path().join("e.db"), folder.path().join("p.db"));
        open(&encrypted, Some(passphrase("right"))).unwrap().close().unwrap();
        open(&plain, None).unwrap().close().unwrap();
        let before = [&encrypted, &plain].map(|path| std::fs::read(path).unwrap());
        for key in [Some(passphrase("wrong")), Some(Key::raw(&[1; 32]).unwrap()), None] {
            assert_eq!(kind(&encrypted, key), ErrorKind::WrongKey);
        }
        assert_eq!(kind(&plain, Some(passphrase("right"))), ErrorKind::WrongKey);
        assert_eq!([&encrypted, &plain].map(|path| std::fs::read(path).unwrap()), before);
        open(&encrypted, Some(passphrase("right"))).unwrap().close().unwrap();
    }

    #[test]
    fn a_passphrase_is_stretched_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        open(&path, Some(passphrase("p"))).unwrap().close().unwrap();
        let cipher = Cipher::new(&passphrase("p")).unwrap();
        let caches = Caches::of(&Open::ephemeral());
        let at = |cipher: &Cipher| {
            let conn = open::reader(&path, Some(cipher), Duration::ZERO, caches).unwrap();
            cipher.check_salt(&conn).unwrap();
            cipher.notation_at()
        };
        assert_eq!(at(&cipher), at(&cipher));
    }

    #[test]
    fn a_damaged_page_is_found_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = open(&path, Some(Key::raw(&[7; 32]).unwrap())).unwrap();
        contract::fill(&store, 500);
        store.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let cipher = Cipher::new(&Key::raw(&[7; 32]).unwrap()).unwrap();
        let caches = Caches::of(&Open::ephemeral());
        let conn = open::reader(&path, Some(&cipher), Duration::ZERO, caches).unwrap();
        let text = "SELECT rootpage FROM sqlite_schema WHERE name = 'chunks'";
        let page: usize = conn.query_row(text, [], |row| row.get(0)).unwrap();
        drop(conn);
        bytes[(page - 1) * 4096 + 100] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let store = open(&path, Some(Key::raw(&[7; 32]).unwrap())).unwrap();
        let error = store.get_chunks("c", "fill3").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        // The connection that met it is of no more use to SQLCipher.
        assert_eq!(store.list_collections().unwrap().len(), 1);
    }

    #[test]
    fn what_a_migration_keeps_has_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = open(&path, Some(passphrase("p"))).unwrap();
        contract::fill(&store, 20);
        let cipher = Cipher::new(&passphrase("p")).unwrap();
        open::back_up(&path, Some(&cipher), 2, Caches::of(&Open::ephemeral())).unwrap();
        store.close().unwrap();
        let kept = folder.path().join("a.db.format-2.bak");
        assert_eq!(kind(&kept, None), ErrorKind::WrongKey);
        assert_eq!(kind(&kept, Some(passphrase("q"))), ErrorKind::WrongKey);
        assert_eq!(open(&kept, Some(passphrase("p"))).unwrap().count("c", None).unwrap(), 20);
    }

    #[test]
    fn an_older_file_is_upgraded_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        {
            let conn = Connection::open(&path).unwrap();
            ffi::key(&conn, c"main", b"p").unwrap();
            conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL").unwrap();
            migrate::make(&conn, 1).unwrap();
            conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        let read_only =
            || SqliteStore::open(&Open { read_only: true, key: Some(passphrase("p")), ..Open::file(&path) });
        assert_eq!(read_only().err().unwrap().kind(), ErrorKind::ReadOnly);
        assert_eq!(kind(&path, None), ErrorKind::WrongKey);
        let store = open(&path, Some(passphrase("p"))).unwrap();
        contract::fill(&store, 3);
        store.close().unwrap();
        assert_eq!(read_only().unwrap().count("c", None).unwrap(), 3);
    }

    #[test]
    fn an_encrypted_store_half_made_is_made_again_by_writing() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("from.db"), folder.path().join("a.db"));
        let conn = Connection::open(&from).unwrap();
        ffi::key(&conn, c"main", b"p").unwrap();
        conn.execute_batch("PRAGMA cache_size = 1; BEGIN; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))")
            .unwrap();
        for suffix in ["", "-journal"] {
            let copied = std::fs::copy(format!("{}{suffix}", from.display()), format!("{}{suffix}", path.display()));
            assert!(copied.unwrap() > 0);
        }
        let key = || Some(passphrase("p"));
        let refused = SqliteStore::open(&Open { read_only: true, key: key(), ..Open::file(&path) }).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
        let store = open(&path, key()).unwrap();
        contract::fill(&store, 3);
        store.close().unwrap();
        assert_eq!(kind(&path, None), ErrorKind::WrongKey);
        assert_eq!(open(&path, key()).unwrap().count("c", None).unwrap(), 3);
    }

    #[test]
    fn what_is_no_store_is_not_called_encrypted() {
        assert!(!looks_random(&[0; SAMPLE]));
        let text =
            b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt.".repeat(9);
        assert!(!looks_random(text[..SAMPLE].try_into().unwrap()));
        let random: [u8; SAMPLE] = crate::sqlite::tables::meta::random().unwrap();
        assert!(looks_random(&random));
    }
}
