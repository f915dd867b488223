//! Numbers in as few bits as they need, and read back without trust.

/// Numbers packed together.
pub(super) const BLOCK: usize = 128;
/// Number i of a block lies in lane i % 4, so that four are read at a time.
const LANES: usize = 4;
const ROWS: usize = BLOCK / LANES;
const MOST_BITS: u32 = 32;

/// The bits that the greatest of these takes.
pub(super) fn width(numbers: impl IntoIterator<Item = u32>) -> u32 {
    32 - numbers.into_iter().fold(0, |all, number| all | number).leading_zeros()
}

/// Bytes of a packed block.
pub(super) fn packed_bytes(bits: u32) -> usize {
    bits as usize * BLOCK / 8
}

/// Appends the numbers, each of at most so many bits.
pub(super) fn pack(numbers: &[u32; BLOCK], bits: u32, out: &mut Vec<u8>) {
    let bits = bits as usize;
    let mut words = [[0u32; LANES]; MOST_BITS as usize + 1];
    for (row, lanes) in numbers.chunks_exact(LANES).enumerate() {
        let (word, shift) = (row * bits / 32, row * bits % 32);
        for (lane, &number) in lanes.iter().enumerate() {
            let wide = u64::from(number) << shift;
            words[word][lane] |= wide as u32;
            words[word + 1][lane] |= (wide >> 32) as u32;
        }
    }
    for word in &words[..bits] {
        word.iter().for_each(|lane| out.extend_from_slice(&lane.to_le_bytes()));
    }
}

fn unpack_as<const BITS: usize>(bytes: &[u8], numbers: &mut [u32; BLOCK]) {
    let mut words = [[0u32; LANES]; MOST_BITS as usize + 1];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4 * LANES).take(BITS)) {
        for (lane, bytes) in word.iter_mut().zip(bytes.chunks_exact(4)) {
            *lane = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    let mask = ((1u64 << BITS) - 1) as u32;
    for row in 0..ROWS {
        let (word, shift) = (row * BITS / 32, row * BITS % 32);
        for lane in 0..LANES {
            let mut number = words[word][lane] >> shift;
            if shift + BITS > 32 {
                number |= words[word + 1][lane] << (32 - shift);
            }
            numbers[row * LANES + lane] = number & mask;
        }
    }
}

/// Reads a packed block of [`packed_bytes`]. `None` where there are fewer bytes, or more bits than a number has.
#[inline]
pub(super) fn unpack(bytes: &[u8], bits: u32, numbers: &mut [u32; BLOCK]) -> Option<()> {
    let bytes = bytes.get(..packed_bytes(bits))?;
    macro_rules! by_width {
        ($($bits:literal)*) => {
            match bits {
                0 => numbers.fill(0),
                $($bits => unpack_as::<$bits>(bytes, numbers),)*
                _ => return None,
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
    Some(())
}

/// Appends numbers of one width, one behind the other.
pub(super) fn pack_run(numbers: &[u32], bits: u32, out: &mut Vec<u8>) {
    let (mut buffer, mut filled) = (0u64, 0);
    for &number in numbers {
        buffer |= u64::from(number) << filled;
        filled += bits;
        while filled >= 8 {
            out.push(buffer as u8);
            buffer >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(buffer as u8);
    }
}

/// Number `index` of a run of numbers of `bits` bits. `None` beyond its end.
#[inline]
pub(super) fn in_run(bytes: &[u8], bits: u32, index: u64) -> Option<u32> {
    let at = index.checked_mul(u64::from(bits))?;
    let end = at.checked_add(u64::from(bits))?;
    if end > bytes.len() as u64 * 8 {
        return None;
    }
    let (first, shift) = ((at / 8) as usize, at % 8);
    let mut eight = [0; 8];
    match bytes.get(first..first + 8) {
        Some(whole) => eight.copy_from_slice(whole),
        None => {
            let rest = &bytes[first..];
            eight[..rest.len()].copy_from_slice(rest);
        }
    }
    Some((u64::from_le_bytes(eight) >> shift & ((1 << bits) - 1)) as u32)
}

/// Appends a number in groups of seven bits, the lowest first.
pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads such a number from the front.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Reads such a number of 32 bits.
#[inline]
pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take_varint(bytes)?.try_into().ok()
}

/// The little-endian number at a place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// The little-endian number at a place.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_every_width_come_back() {
        for bits in 0..=MOST_BITS {
            let numbers: [u32; BLOCK] =
                std::array::from_fn(|i| (i as u32 + 1).wrapping_mul(0x9E37_79B9) & ((1u64 << bits) - 1) as u32);
            let mut bytes = Vec::new();
            pack(&numbers, bits, &mut bytes);
            assert_eq!(bytes.len(), packed_bytes(bits));
            let mut back = [7; BLOCK];
            unpack(&bytes, bits, &mut back).unwrap();
            assert_eq!(back, numbers, "{bits}");
            assert!(bits == 0 || unpack(&bytes[1..], bits, &mut back).is_none());
        }
        assert!(unpack(&[0; 1024], MOST_BITS + 1, &mut [0; BLOCK]).is_none());
        assert_eq!((width([]), width([0]), width([1, 4]), width([u32::MAX])), (0, 0, 3, 32));
    }

    #[test]
    fn runs_are_read_anywhere_and_not_beyond() {
        for bits in 1..=32 {
            let numbers: Vec<u32> =
                (0..37u32).map(|i| i.wrapping_mul(0x9E37_79B9) & ((1u64 << bits) - 1) as u32).collect();
            let mut bytes = Vec::new();
            pack_run(&numbers, bits, &mut bytes);
            for (i, &number) in numbers.iter().enumerate() {
                assert_eq!(in_run(&bytes, bits, i as u64), Some(number), "{bits} {i}");
            }
            assert_eq!(in_run(&bytes, bits, (bytes.len() as u64 * 8).div_ceil(u64::from(bits))), None);
            assert_eq!(in_run(&bytes, bits, u64::MAX), None);
        }
    }

    #[test]
    fn varints_come_back_and_end() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), (1 << 63) - 1] {
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            assert_eq!(take_varint(&mut &bytes[..]), Some(number));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut &[0xff; 20][..]), None);
        assert_eq!(take_u32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
    }
}
