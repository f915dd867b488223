use std::sync::LazyLock;

use parking_lot::Mutex;
use ulid::{Generator, Ulid};

use crate::error::{Error, ErrorKind, Result};
use crate::limits;

static GENERATOR: LazyLock<Mutex<Generator>> = LazyLock::new(|| Mutex::new(Generator::new()));

/// A ULID. Those of one process ascend, so that their index grows at its end.
pub fn new_id() -> String {
    // Within one millisecond the generator counts up, and only after 2^80 steps fails: any ULID is unique then.
    GENERATOR.lock().generate().unwrap_or_else(|_| Ulid::generate()).to_string()
}

/// Refuses an id that is empty or over [`limits::ID_BYTES`]; `what` names it in the message.
pub fn check_id(what: &str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::new(
            ErrorKind::Argument,
            format!("{what} is an empty string; give a non-empty string, or leave it out to get a ULID"),
        ));
    }
    check_length(what, id, limits::ID_BYTES)
}

/// Refuses a name that is empty or over [`limits::NAME_BYTES`].
pub fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorKind::Argument, format!("{what} is an empty string; give a non-empty one")));
    }
    check_length(what, name, limits::NAME_BYTES)
}

/// Refuses a key of a state value over [`limits::ID_BYTES`]; it may be empty.
pub fn check_key(what: &str, key: &str) -> Result<()> {
    check_length(what, key, limits::ID_BYTES)
}

fn check_length(what: &str, text: &str, limit: usize) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::Argument, format!("{what} {text:?} holds a NUL character; remove it")));
    }
    if text.len() > limit {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("{what} has {} bytes of UTF-8; at most {limit} are allowed: shorten or hash it", text.len()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_process_ascend() {
        let ids: Vec<String> = (0..10_000).map(|_| new_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(check_id("id", "").unwrap_err().kind(), ErrorKind::Argument);
        assert_eq!(check_id("id", "a\0b").unwrap_err().kind(), ErrorKind::Argument);
        assert_eq!(check_id("id", &"x".repeat(513)).unwrap_err().kind(), ErrorKind::Limit);
        assert!(check_id("id", &"x".repeat(512)).is_ok());
    }
}
