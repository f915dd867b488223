//! Products of int8 vectors at the width the processor has.
//!
//! A row holds bytes of `component + 128`, a query signed bytes; VNNI multiplies exactly these two kinds. Every kernel
//! gives the integer that the portable one gives.

use std::sync::OnceLock;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of which the length of a row is a multiple.
pub const WIDTH: usize = 64;
/// What a row's byte has for zero.
pub const ZERO: u8 = 128;
/// The greatest magnitude of a component.
pub const LARGEST: i8 = 127;

/// A query's components.
#[derive(Debug, Clone)]
pub struct Components {
    signed: Vec<i8>,
    /// What the rows' [`ZERO`] adds to every product.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    excess: i32,
}

impl Components {
    /// Those of a row.
    pub fn of_row(row: &[u8]) -> Self {
        let mut components = Self { signed: vec![0; row.len()], excess: 0 };
        components.turn_to(row);
        components
    }

    /// Becomes those of a row of the same length.
    pub fn turn_to(&mut self, row: &[u8]) {
        self.signed.iter_mut().zip(row).for_each(|(component, byte)| *component = (byte ^ ZERO) as i8);
        self.excess = i32::from(ZERO) * self.signed.iter().map(|&c| i32::from(c)).sum::<i32>();
    }

    /// Bytes of a row it is held against.
    pub fn stride(&self) -> usize {
        self.signed.len()
    }
}

/// What the processor can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    DotProduct,
}

impl Kernel {
    /// The best that this processor has.
    pub fn detect() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::all().last().copied().unwrap_or(Kernel::Portable))
    }

    /// All that this processor has, the best last.
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Kernel::Avx2);
                if is_x86_feature_detected!("avxvnni") {
                    all.push(Kernel::AvxVnni);
                }
            }
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
                all.push(Kernel::Avx512Vnni);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            all.push(Kernel::DotProduct);
        }
        all
    }

    /// The product of the query with each of consecutive rows: `out` has one place for each.
    pub fn products(self, query: &Components, rows: &[u8], out: &mut [i32]) -> Result<()> {
        if !query.stride().is_multiple_of(WIDTH) || rows.len() != out.len() * query.stride() {
            return Err(outside());
        }
        match self {
            Kernel::Portable => portable(query, rows, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kernel exists only where `all` found its features.
            #[allow(unsafe_code)]
            Kernel::Avx2 => unsafe { x86::products_avx2(query, rows, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Kernel::AvxVnni => unsafe { x86::products_avxvnni(query, rows, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Kernel::Avx512Vnni => unsafe { x86::products_avx512(query, rows, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            #[allow(unsafe_code)]
            Kernel::DotProduct => unsafe { dot_product(query, rows, out) },
        }
        Ok(())
    }

    /// The product of the query with the rows at `positions` of `rows`, for which `out` has a place each.
    pub fn products_at(self, query: &Components, rows: &[u8], positions: &[u32], out: &mut [i32]) -> Result<()> {
        let stride = query.stride();
        let row = |position: u32| {
            let start = (position as usize).checked_mul(stride)?;
            rows.get(start..start.checked_add(stride)?)
        };
        for &position in positions.iter().take(AHEAD) {
            if let Some(row) = row(position) {
                prefetch(row);
            }
        }
        let (fours, last) = positions.as_chunks::<TOGETHER>();
        let (outs, last_out) = out.get_mut(..positions.len()).ok_or_else(outside)?.as_chunks_mut::<TOGETHER>();
        for ((place, four), out) in fours.iter().enumerate().zip(outs) {
            for &position in positions.iter().skip(place * TOGETHER + AHEAD).take(TOGETHER) {
                if let Some(next) = row(position) {
                    prefetch(next);
                }
            }
            let &[a, b, c, d] = four;
            let (Some(a), Some(b), Some(c), Some(d)) = (row(a), row(b), row(c), row(d)) else {
                return Err(outside());
            };
            self.four(query, [a, b, c, d], out)?;
        }
        for (&position, out) in last.iter().zip(last_out) {
            self.products(query, row(position).ok_or_else(outside)?, std::slice::from_mut(out))?;
        }
        Ok(())
    }

    /// The products of the query with four rows, each as long as it.
    fn four(self, query: &Components, rows: [&[u8]; TOGETHER], out: &mut [i32; TOGETHER]) -> Result<()> {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kernel exists only where `all` found its features.
            #[allow(unsafe_code)]
            Kernel::Avx512Vnni => unsafe { x86::four_avx512(query, rows, out) },
            _ => {
                for (row, out) in rows.into_iter().zip(out) {
                    self.products(query, row, std::slice::from_mut(out))?;
                }
            }
        }
        Ok(())
    }
}

/// Rows whose sums run side by side, so that no addition waits for the one before.
const TOGETHER: usize = 4;
/// Rows that are fetched before their turn, in a walk over rows far apart.
const AHEAD: usize = 4;

/// Asks for a row that will be read soon.
#[inline]
pub fn prefetch<T>(row: &[T]) {
    for line in (0..size_of_val(row)).step_by(WIDTH) {
        prefetch_line(row.as_ptr().cast::<u8>().wrapping_add(line));
    }
}

/// Asks for the cache line at an address, whatever is there.
#[inline]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which never faults. Later compilers need no such word.
        #[allow(unsafe_code, unused_unsafe)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

fn outside() -> Error {
    Error::new(ErrorKind::Corrupt, "a vector index names a row that it does not have; it is to be built anew")
}

#[inline(always)]
fn portable(query: &Components, rows: &[u8], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.stride()).zip(out) {
        let products = row.iter().zip(&query.signed).map(|(&r, &q)| i32::from((r ^ ZERO) as i8) * i32::from(q));
        *out = products.sum();
    }
}

/// The same, where the compiler has four products in one instruction.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
fn dot_product(query: &Components, rows: &[u8], out: &mut [i32]) {
    portable(query, rows, out);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Components, TOGETHER, WIDTH, ZERO, prefetch_line};

    const HALF: usize = WIDTH / 2;
    /// The processor fetches ahead by itself, but not beyond a page.
    const PAGE: usize = 4096;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn products_avx512(query: &Components, rows: &[u8], out: &mut [i32]) {
        let stride = query.stride();
        let steps = query.signed.as_chunks::<WIDTH>().0;
        let mut groups = rows.chunks_exact(TOGETHER * stride);
        let (outs, last) = out.as_chunks_mut::<TOGETHER>();
        for (rows, out) in (&mut groups).zip(outs) {
            let (first, second) = rows.split_at(2 * stride);
            let ((a, b), (c, d)) = (first.split_at(stride), second.split_at(stride));
            sums_512::<true>(query, [a, b, c, d], out);
        }
        for (row, out) in groups.remainder().chunks_exact(stride).zip(last) {
            let mut sums = [_mm512_setzero_si512(); 2];
            let (pairs, odd) = row.as_chunks::<WIDTH>().0.as_chunks::<2>();
            let (queries, odd_query) = steps.as_chunks::<2>();
            for ([a, b], [query_a, query_b]) in pairs.iter().zip(queries) {
                sums[0] = _mm512_dpbusd_epi32(sums[0], load_512(a), load_512(query_a));
                sums[1] = _mm512_dpbusd_epi32(sums[1], load_512(b), load_512(query_b));
            }
            for (row, query) in odd.iter().zip(odd_query) {
                sums[0] = _mm512_dpbusd_epi32(sums[0], load_512(row), load_512(query));
            }
            *out = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1])) - query.excess;
        }
    }

    /// Of rows anywhere.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn four_avx512(query: &Components, rows: [&[u8]; TOGETHER], out: &mut [i32; TOGETHER]) {
        sums_512::<false>(query, rows, out);
    }

    /// Where the rows are `CONSECUTIVE`, those of the next page are fetched.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn sums_512<const CONSECUTIVE: bool>(query: &Components, rows: [&[u8]; TOGETHER], out: &mut [i32; TOGETHER]) {
        // Each by itself: `map` is a call, for which all registers are cleared.
        let [a, b, c, d] = rows;
        let (a, b) = (a.as_chunks::<WIDTH>().0, b.as_chunks::<WIDTH>().0);
        let (c, d) = (c.as_chunks::<WIDTH>().0, d.as_chunks::<WIDTH>().0);
        let mut sums = [_mm512_setzero_si512(); TOGETHER];
        for ((((steps, a), b), c), d) in query.signed.as_chunks::<WIDTH>().0.iter().zip(a).zip(b).zip(c).zip(d) {
            let query = load_512(steps);
            if CONSECUTIVE {
                [a, b, c, d].into_iter().for_each(|row| prefetch_line(row.as_ptr().wrapping_add(PAGE)));
            }
            sums[0] = _mm512_dpbusd_epi32(sums[0], load_512(a), query);
            sums[1] = _mm512_dpbusd_epi32(sums[1], load_512(b), query);
            sums[2] = _mm512_dpbusd_epi32(sums[2], load_512(c), query);
            sums[3] = _mm512_dpbusd_epi32(sums[3], load_512(d), query);
        }
        let (first, second) = (pairs(sums[0], sums[1]), pairs(sums[2], sums[3]));
        let all = _mm512_add_epi32(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
        let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        let four = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        store_128(_mm_sub_epi32(four, _mm_set1_epi32(query.excess)), out);
    }

    /// Sums of two numbers of a, then of b, in turns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn pairs(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn products_avxvnni(query: &Components, rows: &[u8], out: &mut [i32]) {
        let steps = query.signed.as_chunks::<HALF>().0.as_chunks::<2>().0;
        for (row, out) in rows.chunks_exact(query.stride()).zip(out) {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (rows, queries) in row.as_chunks::<HALF>().0.as_chunks::<2>().0.iter().zip(steps) {
                sums[0] = _mm256_dpbusd_avx_epi32(sums[0], load_256(&rows[0]), load_256(&queries[0]));
                sums[1] = _mm256_dpbusd_avx_epi32(sums[1], load_256(&rows[1]), load_256(&queries[1]));
            }
            *out = sum_256(_mm256_add_epi32(sums[0], sums[1])) - query.excess;
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn products_avx2(query: &Components, rows: &[u8], out: &mut [i32]) {
        let (zero, ones) = (_mm256_set1_epi8(ZERO as i8), _mm256_set1_epi16(1));
        let add = |sum, row: &[u8; HALF], query: &[i8; HALF]| {
            let row = _mm256_xor_si256(load_256(row), zero);
            // |row| * (query with the row's sign): two products are at most 2 * 128 * 127, which 16 bits hold.
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(load_256(query), row));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones))
        };
        let steps = query.signed.as_chunks::<HALF>().0.as_chunks::<2>().0;
        for (row, out) in rows.chunks_exact(query.stride()).zip(out) {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (rows, queries) in row.as_chunks::<HALF>().0.as_chunks::<2>().0.iter().zip(steps) {
                sums[0] = add(sums[0], &rows[0], &queries[0]);
                sums[1] = add(sums[1], &rows[1], &queries[1]);
            }
            *out = sum_256(_mm256_add_epi32(sums[0], sums[1]));
        }
    }

    #[target_feature(enable = "avx2")]
    fn sum_256(sums: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b_01>(two)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_512<T: Byte>(bytes: &[T; WIDTH]) -> __m512i {
        // SAFETY: 64 bytes are there, and the load takes any alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_loadu_si512(bytes.as_ptr().cast())
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_256<T: Byte>(bytes: &[T; HALF]) -> __m256i {
        // SAFETY: 32 bytes are there, and the load takes any alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_loadu_si256(bytes.as_ptr().cast())
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn store_128(four: __m128i, out: &mut [i32; 4]) {
        // SAFETY: there is room for four, and the store takes any alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm_storeu_si128(out.as_mut_ptr().cast(), four);
        }
    }

    /// What has the size of one byte.
    trait Byte {}
    impl Byte for u8 {}
    impl Byte for i8 {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn every_kernel_gives_the_same_integers() {
        assert!(Kernel::all().contains(&Kernel::detect()));
        let mut random = Random::new(1);
        for dimension in [1usize, 2, 31, 63, 64, 65, 100, 128, 384, 1000, 8192] {
            let stride = dimension.next_multiple_of(WIDTH);
            for count in [0, 1, 2, 3, 4, 5, 8, 11] {
                for extreme in [false, true] {
                    let mut component = || if extreme { -127 } else { (random.below(255) as i32 - 127) as i8 };
                    let mut row = vec![ZERO; stride];
                    row[..dimension].iter_mut().for_each(|byte| *byte = (component() as u8) ^ ZERO);
                    let query = Components::of_row(&row);
                    let rows: Vec<u8> =
                        (0..count * stride).map(|_| if extreme { 255 } else { component() as u8 }).collect();
                    let expected: Vec<i64> = rows
                        .chunks_exact(stride)
                        .map(|row| {
                            row.iter().zip(&query.signed).map(|(&r, &q)| (i64::from(r) - 128) * i64::from(q)).sum()
                        })
                        .collect();
                    for kernel in Kernel::all() {
                        let mut out = vec![0; count];
                        kernel.products(&query, &rows, &mut out).unwrap();
                        let got: Vec<i64> = out.iter().map(|&p| i64::from(p)).collect();
                        assert_eq!(got, expected, "{kernel:?} {dimension} {count}");
                        let positions: Vec<u32> = (0..count as u32).rev().collect();
                        kernel.products_at(&query, &rows, &positions, &mut out).unwrap();
                        let got: Vec<i64> = out.iter().rev().map(|&p| i64::from(p)).collect();
                        assert_eq!(got, expected, "{kernel:?} {dimension} {count}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_a_query_too() {
        let mut random = Random::new(2);
        let rows: Vec<u8> = (0..3 * 128).map(|_| 1 + random.below(255) as u8).collect();
        let (mut out, mut back) = ([0; 3], [0; 3]);
        for kernel in Kernel::all() {
            kernel.products(&Components::of_row(&rows[..128]), &rows, &mut out).unwrap();
            for (row, back) in rows.chunks_exact(128).zip(&mut back) {
                kernel.products(&Components::of_row(row), &rows[..128], std::slice::from_mut(back)).unwrap();
            }
            assert_eq!(out, back, "{kernel:?}");
        }
    }

    #[test]
    fn rows_that_are_not_there_are_refused() {
        let query = Components::of_row(&[129; 64]);
        let rows = [128; 128];
        for kernel in Kernel::all() {
            assert!(kernel.products(&query, &rows, &mut [0; 3]).is_err());
            assert!(kernel.products_at(&query, &rows, &[1, 2], &mut [0; 2]).is_err());
            assert!(kernel.products_at(&query, &rows, &[u32::MAX], &mut [0; 1]).is_err());
            assert!(kernel.products_at(&query, &rows, &[0, 1, 0, 1, 0], &mut [0; 5]).is_ok());
            assert!(kernel.products_at(&query, &rows, &[0, 1, 2, 1], &mut [0; 4]).is_err());
            assert!(kernel.products_at(&query, &rows, &[0, 1], &mut [0; 1]).is_err());
        }
    }
}
