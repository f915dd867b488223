use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a raw key.
const RAW: usize = 32;

/// What encrypts a store. It shows nothing of itself, and its memory is wiped when the last clone is dropped.
#[derive(Clone)]
pub struct Key(Arc<Secret>);

/// What is inside a [`Key`], for the backend that uses it.
pub enum Secret {
    /// To be stretched. As it was given: nothing is normalised.
    Passphrase(Zeroizing<Vec<u8>>),
    /// Used as it is.
    Raw(Zeroizing<[u8; RAW]>),
}

impl Key {
    /// A key made from a passphrase.
    ///
    /// # Errors
    /// `Argument` when it is empty, or is written as SQLCipher writes raw keys, which other tools would not stretch.
    pub fn passphrase(text: Zeroizing<String>) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(
                ErrorKind::Argument,
                "key is an empty passphrase; give one, 32 raw bytes, or None for a store that is not encrypted",
            ));
        }
        if is_raw_notation(&text) {
            return Err(Error::new(
                ErrorKind::Argument,
                "key is a text like SQLCipher's notation of raw keys, x'...' with hexadecimal digits; give the 32 bytes of \
                 the key as bytes",
            ));
        }
        Ok(Self(Arc::new(Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec())))))
    }

    /// A key that is used as it is.
    ///
    /// # Errors
    /// `Argument` unless it has 32 bytes.
    pub fn raw(bytes: &[u8]) -> Result<Self> {
        let mut raw = Zeroizing::new([0; RAW]);
        if bytes.len() != RAW {
            return Err(Error::new(
                ErrorKind::Argument,
                format!(
                    "key has {} bytes; a raw key has exactly {RAW}, of a random source; give a passphrase as text",
                    bytes.len()
                ),
            ));
        }
        raw.copy_from_slice(bytes);
        Ok(Self(Arc::new(Secret::Raw(raw))))
    }

    /// What it holds.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// SQLCipher takes `x'` and 64, 96 or 160 digits for a key, for one with its salt, and for two with their salt.
fn is_raw_notation(text: &str) -> bool {
    let digits = text.strip_prefix(['x', 'X']).and_then(|rest| rest.strip_prefix('\'')?.strip_suffix('\''));
    digits.is_some_and(|digits| {
        matches!(digits.len(), 64 | 96 | 160) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Result<Key> {
        Key::passphrase(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn it_shows_nothing() {
        for key in [passphrase("hunter2").unwrap(), Key::raw(&[7; 32]).unwrap()] {
            assert_eq!(format!("{key:?} {:?}", Some(&key)), "Key(..) Some(Key(..))");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for digits in [64, 96, 160] {
            let text = format!("x'{}'", "aF".repeat(digits / 2));
            assert_eq!(passphrase(&text).unwrap_err().kind(), ErrorKind::Argument);
        }
        for text in ["", &format!("X'{}'", "0".repeat(64))] {
            assert_eq!(passphrase(text).unwrap_err().kind(), ErrorKind::Argument);
        }
        for text in ["x'12'", "'", "\0", "x'zz'", &"f".repeat(64)] {
            passphrase(text).unwrap();
        }
        for length in [0, 16, 31, 33, 64] {
            let error = Key::raw(&vec![1; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            assert!(error.message().contains(&format!("{length} bytes")), "{error}");
        }
    }
}
