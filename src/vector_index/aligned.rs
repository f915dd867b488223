//! Bytes on the heap that start where a cache line does.

/// Where a line begins: a multiple of this.
const LINE: usize = 64;

/// A fixed number of bytes, the first of them at a multiple of 64.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many times `byte`.
    pub fn new(byte: u8, len: usize) -> Self {
        let bytes = vec![byte; len + LINE - 1];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE - 1);
        Self { bytes, start, len }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_with_a_line() {
        for len in [0, 1, 63, 64, 1000, 1 << 20] {
            let mut aligned = Aligned::new(7, len);
            assert_eq!(aligned.as_slice(), vec![7; len]);
            assert_eq!(aligned.as_mut_slice().as_ptr() as usize % 64, 0);
        }
    }
}
