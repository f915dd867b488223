//! Keys of encrypted batches.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use parking_lot::Mutex;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::damaged;
use crate::error::{Error, Result};
use crate::request::{Key, Secret};

/// Of PBKDF2-HMAC-SHA512, as for the file of a store.
const ROUNDS: u32 = 256_000;
/// Salts of which the key is kept: a folder has as many as peers began it at the same time.
const KEPT: usize = 16;

/// The key that a passphrase becomes with a salt.
type Derived = ([u8; 16], Zeroizing<[u8; 32]>);

/// What a batch is encrypted with. A passphrase takes some tenths of a second to become a key, once for each salt.
pub struct BatchKey {
    key: Key,
    derived: Mutex<Vec<Derived>>,
}

impl BatchKey {
    /// Of the key that the stores share.
    pub fn new(key: Key) -> Self {
        Self { key, derived: Mutex::default() }
    }

    /// The cipher of one batch: its key is of this one, the salt and the batch's random id, so that no two batches share
    /// a nonce. With it what tells a wrong key from a damaged batch.
    pub(super) fn cipher(&self, salt: [u8; 16], batch: [u8; 16]) -> (Cipher, [u8; 16]) {
        let mut material = Zeroizing::new([0; 48]);
        material[..32].copy_from_slice(&*self.derive(salt));
        material[32..].copy_from_slice(&batch);
        let key = Zeroizing::new(blake3::derive_key("ragstore sync batch 1 encryption", &*material));
        let check = blake3::derive_key("ragstore sync batch 1 key check", &*material);
        let mut short = [0; 16];
        short.copy_from_slice(&check[..16]);
        (Cipher(ChaCha20Poly1305::new((&*key).into())), short)
    }

    fn derive(&self, salt: [u8; 16]) -> Zeroizing<[u8; 32]> {
        match self.key.secret() {
            Secret::Raw(bytes) => bytes.clone(),
            Secret::Passphrase(text) => {
                let mut derived = self.derived.lock();
                if let Some((_, key)) = derived.iter().find(|(known, _)| *known == salt) {
                    return key.clone();
                }
                let mut key = Zeroizing::new([0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha512>(text, &salt, ROUNDS, &mut *key);
                if derived.len() == KEPT {
                    derived.remove(0);
                }
                derived.push((salt, key.clone()));
                key
            }
        }
    }
}

impl fmt::Debug for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchKey(..)")
    }
}

/// Seals the frames of one batch. The nonce of a frame is its number.
pub(super) struct Cipher(ChaCha20Poly1305);

impl Cipher {
    pub(super) fn seal(&self, number: u64, text: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let sealed = self.0.encrypt(&nonce(number), Payload { msg: text, aad });
        sealed.map_err(|_| Error::internal("a frame was not encrypted"))
    }

    pub(super) fn open(&self, number: u64, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let text = self.0.decrypt(&nonce(number), Payload { msg: sealed, aad });
        text.map_err(|_| damaged(format_args!("frame {number} is not what was encrypted")))
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_batch_has_its_own_key() {
        let key = BatchKey::new(Key::raw(&[7; 32]).unwrap());
        let ((one, check), (other, another)) = (key.cipher([1; 16], [1; 16]), key.cipher([1; 16], [2; 16]));
        assert_ne!(check, another);
        let sealed = one.seal(0, b"text", b"aad").unwrap();
        assert_eq!(one.open(0, &sealed, b"aad").unwrap(), b"text");
        for wrong in [one.open(1, &sealed, b"aad"), one.open(0, &sealed, b"other"), other.open(0, &sealed, b"aad")] {
            assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Sync);
        }
    }

    #[test]
    fn a_passphrase_is_what_pbkdf2_makes_of_it() {
        let key = BatchKey::new(Key::passphrase("secret".to_owned().into()).unwrap());
        assert_eq!(format!("{key:?}"), "BatchKey(..)");
        let mut expected = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha512>(b"secret", &[3; 16], ROUNDS, &mut expected);
        assert_eq!(*key.derive([3; 16]), expected);
        assert_eq!(*key.derive([3; 16]), expected);
        assert_ne!(*key.derive([4; 16]), expected);
    }
}
