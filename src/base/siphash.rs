//! SipHash with a 128-bit result (Aumasson and Bernstein, 2012): who does not know the key cannot make two inputs
//! collide.
//!
//! *Owns*: the function, with one round per word and three at the end, as hash tables use it. *Never*: chooses a key.
//! *Runs on*: every core.

/// The secret of one table.
#[derive(Clone, Copy, Debug)]
pub struct HashKey(pub [u64; 2]);

/// SipHash-1-3.
pub fn siphash(key: HashKey, bytes: &[u8]) -> [u64; 2] {
    hash::<1, 3>(key, bytes)
}

#[inline(always)]
fn hash<const WORD_ROUNDS: usize, const LAST_ROUNDS: usize>(HashKey([k0, k1]): HashKey, bytes: &[u8]) -> [u64; 2] {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    for word in words.map(|word| word.try_into().expect("a chunk has its size")).chain([last]) {
        let word = u64::from_le_bytes(word);
        v[3] ^= word;
        rounds::<WORD_ROUNDS>(&mut v);
        v[0] ^= word;
    }
    let fold = |v: &[u64; 4]| v[0] ^ v[1] ^ v[2] ^ v[3];
    v[2] ^= 0xee;
    rounds::<LAST_ROUNDS>(&mut v);
    let first = fold(&v);
    v[1] ^= 0xdd;
    rounds::<LAST_ROUNDS>(&mut v);
    [first, fold(&v)]
}

#[inline(always)]
fn rounds<const COUNT: usize>(v: &mut [u64; 4]) {
    for _ in 0..COUNT {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors that its authors publish, which are of SipHash-2-4.
    #[test]
    fn the_published_vectors_hold() {
        let key = HashKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let check = |len: u8, expect: [u8; 16]| {
            let input: Vec<u8> = (0..len).collect();
            let words = hash::<2, 4>(key, &input);
            assert_eq!(words.map(u64::to_le_bytes).concat(), expect, "{len} bytes");
        };
        check(0, [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]);
        check(1, [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45]);
    }

    #[test]
    fn every_length_and_key_counts() {
        let mut seen = std::collections::BTreeSet::new();
        for k in 0..3 {
            for len in 0..40 {
                assert!(seen.insert(siphash(HashKey([k, 7]), &vec![0; len])));
            }
        }
    }
}
