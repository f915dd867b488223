//! What rusqlite does not wrap: starting sqlite-vec on a connection, what the operating system said, FTS5's own tokenizers,
//! the file under a connection, and SQLCipher's keys.

#![allow(unsafe_code)]

#[cfg(feature = "encryption")]
use std::ffi::CStr;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::ptr;
use std::sync::LazyLock;

use parking_lot::Mutex;
use rusqlite::{Connection, ffi};

use crate::error::{Error, ErrorKind, Result};
use crate::events::{self, Event};

type ExtensionInit = unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const c_void) -> c_int;

/// Registers vec0 on one connection. Not an auto-extension: those belong to the whole process.
pub fn register_vec0(conn: &Connection) -> Result<()> {
    // SAFETY: sqlite3_vec_init has the signature of every SQLite extension entry point; its crate declares it without.
    let init: ExtensionInit = unsafe { std::mem::transmute(sqlite_vec::sqlite3_vec_init as *const ()) };
    // SAFETY: the handle is open for as long as `conn` is borrowed. Linked statically, the extension takes no API table.
    let code = unsafe { init(conn.handle(), ptr::null_mut(), ptr::null()) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(Error::internal(format!("sqlite-vec did not start: code {code}"))) }
}

/// A file that a connection has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Database,
    /// The write-ahead log.
    Log,
}

/// Calls a method of SQLite's own descriptor: one of ours would drop SQLite's locks when it closes. `None` where that file
/// is not open.
fn with_file(
    conn: &Connection,
    part: Part,
    call: impl FnOnce(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods) -> c_int,
) -> Result<Option<c_int>> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let opcode = match part {
        Part::Database => ffi::SQLITE_FCNTL_FILE_POINTER,
        Part::Log => ffi::SQLITE_FCNTL_JOURNAL_POINTER,
    };
    // SAFETY: the handle is open while `conn` is borrowed, and these opcodes write one pointer, to a file that lives as
    // long as the connection is not used otherwise.
    let code = unsafe {
        let target = (&raw mut file).cast::<c_void>();
        let code = ffi::sqlite3_file_control(conn.handle(), c"main".as_ptr(), opcode, target);
        match file.as_ref().and_then(|file| file.pMethods.as_ref()) {
            Some(methods) if code == ffi::SQLITE_OK => call(file, methods),
            _ => return Ok(None),
        }
    };
    match code {
        ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(Some(code)),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()),
    }
}

/// Reads a file of the connection from a byte on. What lies behind its end is zeros; says whether there was enough.
pub fn read_at(conn: &Connection, part: Part, at: u64, out: &mut [u8]) -> Result<bool> {
    let far = || Error::internal("more of a file is asked for than SQLite reads");
    let (length, at) = (c_int::try_from(out.len()).map_err(|_| far())?, i64::try_from(at).map_err(|_| far())?);
    let code = with_file(conn, part, |file, methods| match methods.xRead {
        // SAFETY: the file is the method's own, and `out` has `length` bytes.
        Some(read) => unsafe { read(file, out.as_mut_ptr().cast::<c_void>(), length, at) },
        None => ffi::SQLITE_MISUSE,
    })?;
    Ok(code == Some(ffi::SQLITE_OK))
}

/// Bytes of a file of the connection; none where it is not open.
pub fn length(conn: &Connection, part: Part) -> Result<u64> {
    let mut bytes: ffi::sqlite3_int64 = 0;
    with_file(conn, part, |file, methods| match methods.xFileSize {
        // SAFETY: the file is the method's own, which writes one number.
        Some(size) => unsafe { size(file, &raw mut bytes) },
        None => ffi::SQLITE_MISUSE,
    })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Whether the file that the connection has open is no longer the one at its path.
pub fn has_moved(conn: &Connection) -> bool {
    let mut moved: c_int = 0;
    // SAFETY: the handle is open while `conn` is borrowed; this opcode writes one int. Where it is not known, it is left as it is.
    unsafe {
        let target = (&raw mut moved).cast::<c_void>();
        ffi::sqlite3_file_control(conn.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_HAS_MOVED, target);
    }
    moved != 0
}

/// Gives a database of the connection its key.
#[cfg(feature = "encryption")]
pub fn key(conn: &Connection, database: &CStr, key: &[u8]) -> Result<()> {
    let length = c_int::try_from(key.len()).map_err(|_| Error::internal("a key is too long for SQLCipher"))?;
    // SAFETY: the handle is open while `conn` is borrowed; SQLCipher copies `length` bytes of the key during the call.
    let code = unsafe { ffi::sqlite3_key_v2(conn.handle(), database.as_ptr(), key.as_ptr().cast::<c_void>(), length) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(Error::internal(format!("SQLCipher took no key: code {code}"))) }
}

/// PBKDF2 with HMAC-SHA512.
#[cfg(feature = "encryption")]
pub fn stretch(passphrase: &[u8], salt: &[u8], rounds: c_int, out: &mut [u8]) -> Result<()> {
    let failed = || Error::internal("OpenSSL did not stretch the passphrase");
    let [text, salted, length] = [passphrase.len(), salt.len(), out.len()].map(c_int::try_from);
    // SAFETY: each pointer goes with the length of the same slice; the digest is a constant of OpenSSL.
    let done = unsafe {
        openssl_sys::PKCS5_PBKDF2_HMAC(
            passphrase.as_ptr().cast::<c_char>(),
            text.map_err(|_| failed())?,
            salt.as_ptr(),
            salted.map_err(|_| failed())?,
            rounds,
            openssl_sys::EVP_sha512(),
            length.map_err(|_| failed())?,
            out.as_mut_ptr(),
        )
    };
    if done == 1 { Ok(()) } else { Err(failed()) }
}

/// What the operating system said when a call of this connection last failed because of it.
pub fn system_error(conn: &Connection) -> Option<io::Error> {
    // SAFETY: the handle is open for as long as `conn` is borrowed.
    let code = unsafe { ffi::sqlite3_system_errno(conn.handle()) };
    (code != 0).then(|| io::Error::from_raw_os_error(code))
}

/// Has SQLite's own log told as events. To be called once, before anything else of SQLite is used.
pub fn tell_log() {
    // SAFETY: nothing of SQLite runs yet, which the caller sees to; `told` calls nothing of SQLite and may be called on
    // any thread.
    // Failing, it is too late: another user of this SQLite was there first. Nothing but the log is missing then.
    let _ = unsafe { rusqlite::trace::config_log(Some(told)) };
}

/// The message names files, so of it only a number is kept.
fn told(code: c_int, message: &str) {
    match code {
        ffi::SQLITE_NOTICE_RECOVER_WAL => {
            let frames = message.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_default();
            events::tell(Event::Recovered { frames });
        }
        code if matches!(code & 0xff, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_IOERR) => {
            events::tell(Event::Damaged { code });
        }
        _ => {}
    }
}

/// How often a connection found a page in its cache and how often it had to read one, since it was last asked.
pub fn take_cache_counts(conn: &Connection) -> (u64, u64) {
    let count = |what: c_int| {
        let (mut now, mut peak) = (0, 0);
        // SAFETY: the handle is open and used by nobody else while `conn` is borrowed; both numbers are written before
        // the call returns.
        let code = unsafe { ffi::sqlite3_db_status(conn.handle(), what, &raw mut now, &raw mut peak, 1) };
        if code == ffi::SQLITE_OK { u64::try_from(now).unwrap_or(0) } else { 0 }
    };
    (count(ffi::SQLITE_DBSTATUS_CACHE_HIT), count(ffi::SQLITE_DBSTATUS_CACHE_MISS))
}

/// Whether the connection loads extensions; with `allow`, has it load them or not.
pub fn extensions(conn: &Connection, allow: Option<bool>) -> Result<bool> {
    let mut now: c_int = 0;
    let asked: c_int = allow.map_or(-1, c_int::from);
    // SAFETY: the handle is open while `conn` is borrowed. This option takes an int, which when negative changes nothing,
    // and a pointer to the int that it writes.
    let code = unsafe {
        ffi::sqlite3_db_config(conn.handle(), ffi::SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, asked, &raw mut now)
    };
    if code == ffi::SQLITE_OK {
        Ok(now != 0)
    } else {
        Err(Error::internal(format!("SQLite took no option: code {code}")))
    }
}

/// Who looks on while SQLite works, and what it saw at first.
struct Onlooker<'o> {
    conn: *mut ffi::sqlite3,
    before: u64,
    look: &'o mut dyn FnMut(u64) -> bool,
}

/// Takes the onlooker away, also from what panics.
struct Unwatched(*mut ffi::sqlite3);

impl Drop for Unwatched {
    fn drop(&mut self) {
        // SAFETY: the handle is that of a connection that is borrowed for longer.
        unsafe { ffi::sqlite3_progress_handler(self.0, 0, None, ptr::null_mut()) };
    }
}

/// Calls `run`, and, every so many steps that SQLite's machine takes on this connection meanwhile, `look` with the pages
/// that the connection has read and written since, those of temporary databases too. Where that says false, what runs is
/// interrupted.
pub fn watch_pages<T>(
    conn: &Connection,
    steps: c_int,
    look: &mut dyn FnMut(u64) -> bool,
    run: impl FnOnce() -> T,
) -> T {
    // SAFETY: the handle is open while `conn` is borrowed.
    let handle = unsafe { conn.handle() };
    let mut onlooker = Onlooker { conn: handle, before: pages(handle), look };
    let _unwatched = Unwatched(handle);
    // SAFETY: the onlooker lives until `_unwatched` has had SQLite forget it, and SQLite calls `step` on this thread alone,
    // inside of `run`, which uses nothing of the onlooker.
    unsafe { ffi::sqlite3_progress_handler(handle, steps, Some(step), (&raw mut onlooker).cast::<c_void>()) };
    run()
}

unsafe extern "C" fn step(onlooker: *mut c_void) -> c_int {
    // SAFETY: it is what `watch_pages` gave, which lives and is used by nobody else.
    let onlooker = unsafe { &mut *onlooker.cast::<Onlooker<'_>>() };
    c_int::from(!(onlooker.look)(pages(onlooker.conn).saturating_sub(onlooker.before)))
}

/// Pages that an open connection has read and written.
fn pages(conn: *mut ffi::sqlite3) -> u64 {
    let count = |what: c_int| {
        let (mut now, mut peak) = (0, 0);
        // SAFETY: the callers have the connection open and use it on this thread; both numbers are written before the
        // call returns, and nothing of the connection is changed.
        let code = unsafe { ffi::sqlite3_db_status(conn, what, &raw mut now, &raw mut peak, 0) };
        if code == ffi::SQLITE_OK { u64::try_from(now).unwrap_or(0) } else { 0 }
    };
    count(ffi::SQLITE_DBSTATUS_CACHE_MISS) + count(ffi::SQLITE_DBSTATUS_CACHE_WRITE)
}

/// Where FTS5's tokenizers are found. The connection is never closed, so what it registered stays valid.
struct Host {
    _conn: Connection,
    api: *mut ffi::fts5_api,
}

// SAFETY: the pointer leads to memory that the connection owns and is used only under the lock of HOST.
unsafe impl Send for Host {}

static HOST: LazyLock<std::result::Result<Mutex<Host>, String>> = LazyLock::new(|| {
    let conn = Connection::open_in_memory().map_err(|e| e.to_string())?;
    let mut api: *mut ffi::fts5_api = ptr::null_mut();
    let sql = c"SELECT fts5(?1)";
    let mut statement = ptr::null_mut();
    // SAFETY: the handle is open, the SQL is a literal, the statement is finalised below on every path, and `api`
    // outlives the step that writes it. "fts5_api_ptr" is the type name that FTS5 documents for this pointer.
    unsafe {
        ffi::sqlite3_prepare_v2(conn.handle(), sql.as_ptr(), -1, &raw mut statement, ptr::null_mut());
        let target = (&raw mut api).cast::<c_void>();
        ffi::sqlite3_bind_pointer(statement, 1, target, c"fts5_api_ptr".as_ptr(), None);
        ffi::sqlite3_step(statement);
        ffi::sqlite3_finalize(statement);
    }
    if api.is_null() {
        return Err("FTS5 gave no API".to_owned());
    }
    Ok(Mutex::new(Host { _conn: conn, api }))
});

/// One of FTS5's tokenizers. It may move between threads, not be shared.
pub struct Fts5Tokenizer {
    methods: ffi::fts5_tokenizer,
    instance: *mut ffi::Fts5Tokenizer,
}

impl Fts5Tokenizer {
    /// Makes the tokenizer that `args` names: its name, then its options.
    ///
    /// # Errors
    /// `Argument` when FTS5 refuses the name or an option.
    pub fn create(args: &[String]) -> Result<Self> {
        let refused = || {
            Error::new(
                ErrorKind::Argument,
                format!("tokenizer {:?} is not one that FTS5 accepts, or an option of it is wrong", args.join(" ")),
            )
        };
        let texts: Vec<CString> =
            args.iter().map(|arg| CString::new(arg.as_str()).map_err(|_| refused())).collect::<Result<_>>()?;
        let (name, options) = texts.split_first().ok_or_else(refused)?;
        let mut options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(options.len()).map_err(|_| refused())?;

        let host = HOST.as_ref().map_err(Error::internal)?.lock();
        let mut context = ptr::null_mut();
        let mut methods = ffi::fts5_tokenizer { xCreate: None, xDelete: None, xTokenize: None };
        // SAFETY: the API table lives as long as HOST and its function is set in every version since 3.9.
        let found = unsafe {
            (*host.api).xFindTokenizer.map(|find| find(host.api, name.as_ptr(), &raw mut context, &raw mut methods))
        };
        if found != Some(ffi::SQLITE_OK) {
            return Err(refused());
        }
        let create = methods.xCreate.ok_or_else(|| Error::internal("an FTS5 tokenizer cannot be created"))?;
        let mut instance = ptr::null_mut();
        // SAFETY: context and methods come from the look-up above; the option strings live to the end of the call.
        let code = unsafe { create(context, options.as_mut_ptr(), count, &raw mut instance) };
        if code != ffi::SQLITE_OK || instance.is_null() {
            return Err(refused());
        }
        Ok(Self { methods, instance })
    }

    /// Calls `token` with the bytes of each token and with where it stands in `text`, in order.
    pub fn tokenize(&self, text: &str, token: &mut dyn FnMut(&[u8], usize, usize)) -> Result<()> {
        const FTS5_TOKENIZE_AUX: c_int = 0x0008;
        type Sink<'a> = &'a mut dyn FnMut(&[u8], usize, usize);

        unsafe extern "C" fn receive(
            context: *mut c_void,
            _flags: c_int,
            token: *const c_char,
            length: c_int,
            start: c_int,
            end: c_int,
        ) -> c_int {
            let (Ok(length), Ok(start), Ok(end)) =
                (usize::try_from(length), usize::try_from(start), usize::try_from(end))
            else {
                return ffi::SQLITE_ERROR;
            };
            // SAFETY: context is the `sink` below, alive during the call; token has `length` readable bytes. The
            // closures given here only push to vectors; nothing unwinds through C.
            unsafe {
                let sink = &mut *context.cast::<Sink<'_>>();
                sink(std::slice::from_raw_parts(token.cast::<u8>(), length), start, end);
            }
            ffi::SQLITE_OK
        }

        let mut sink: Sink<'_> = token;
        let length = c_int::try_from(text.len()).map_err(|_| {
            Error::new(ErrorKind::Limit, format!("text has {} bytes, too many to tokenize", text.len()))
        })?;
        let run = self.methods.xTokenize.ok_or_else(|| Error::internal("an FTS5 tokenizer cannot run"))?;
        // SAFETY: instance was made by these methods; the text pointer and its length belong together.
        let code = unsafe {
            run(
                self.instance,
                (&raw mut sink).cast::<c_void>(),
                FTS5_TOKENIZE_AUX,
                text.as_ptr().cast::<c_char>(),
                length,
                Some(receive),
            )
        };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(Error::internal(format!("tokenizing failed: code {code}"))) }
    }
}

impl Drop for Fts5Tokenizer {
    fn drop(&mut self) {
        if let Some(delete) = self.methods.xDelete {
            // SAFETY: made by the same methods, dropped once.
            unsafe { delete(self.instance) }
        }
    }
}
