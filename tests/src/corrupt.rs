//! Seeded damage to files.

/// A small generator of pseudo-random numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }
}

/// The file with one kind of damage, chosen by the seed: cut off, bits flipped, a run of bytes zeroed, set or
/// moved, a 32-bit number made huge.
pub fn damaged(whole: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = whole.to_vec();
    let at = random.below(bytes.len());
    let length = 1 + random.below(64.min(bytes.len() - at));
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => {
            for _ in 0..16 {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        3 => bytes[at..at + length].fill(0),
        4 => bytes[at..at + length].fill(0xFF),
        5 => {
            bytes.drain(at..at + length);
        }
        _ => {
            let number = [u32::MAX, 0x7FFF_FFFF, 0x8000_0000, 1 << 24][random.below(4)].to_be_bytes();
            for (byte, value) in bytes[at..].iter_mut().zip(number) {
                *byte = value;
            }
        }
    }
    bytes
}

/// A text in which a few numbers are replaced by ones that are likely to be wrong.
pub fn renumbered(text: &str, seed: u64) -> String {
    const NUMBERS: [&str; 9] = [
        "0",
        "1",
        "2",
        "7",
        "-1",
        "4096",
        "4294967295",
        "9223372036854775807",
        "99999999999999999999",
    ];
    let mut random = Random(seed);
    let mut text = text.to_owned();
    for _ in 0..1 + random.below(3) {
        let digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
        let bytes = text.as_bytes();
        let starts: Vec<usize> = (1..bytes.len())
            .filter(|&i| digit(bytes.get(i)) && !digit(bytes.get(i - 1)))
            .collect();
        let start = starts[random.below(starts.len())];
        let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        text.replace_range(start..start + length, NUMBERS[random.below(NUMBERS.len())]);
    }
    text
}
