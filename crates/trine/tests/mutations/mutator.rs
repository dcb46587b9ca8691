//! Changes that know where a file keeps its counts, lengths, types and offsets.

/// Numbers that a linear congruential generator gives (Knuth's MMIX).
pub struct Random(pub u64);

impl Random {
    /// A number below `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n.max(1)
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Integers that overflow, wrap, are negative, or just too many.
const INTEGERS: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    9,
    31,
    32,
    255,
    256,
    65535,
    65536,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    (1 << 42) + 1,
    1 << 59,
    1 << 60,
    1 << 61,
    (1 << 61) + 1,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];

const FLOATS: &[f32] =
    &[0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, 65504.0];

/// What stands for a number or a value in JSON.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "1e999",
    "1.5",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "4294967296",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "NaN",
    "\"BPE\"",
    "\"Unigram\"",
    "\"Sequence\"",
];

/// Makes mutants of `seeds`.
pub struct Mutator<'a> {
    pub random: Random,
    pub seeds: &'a [Vec<u8>],
}

impl Mutator<'_> {
    /// One of the seeds with one to four changes, most often one.
    pub fn next(&mut self) -> Vec<u8> {
        let seed = self.random.below(self.seeds.len());
        let mut bytes = self.seeds[seed].clone();
        let fields = fields(&bytes);
        let more = self.random.below(6).saturating_sub(2);
        for _ in 0..1 + more {
            self.change(&mut bytes, &fields);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, fields: &[(usize, usize)]) {
        let random = &mut self.random;
        if bytes.is_empty() {
            return bytes.push(random.below(256) as u8);
        }
        // Most of a file is weights, of which every value is fine: what comes before them is hit more often.
        let header = fields.last().map_or(bytes.len(), |&(at, width)| (at + width).min(bytes.len()));
        let end = if random.below(4) == 0 { bytes.len() } else { header };
        let at = random.below(end);
        match random.below(if fields.is_empty() { 10 } else { 20 }) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.below(256) as u8,
            3 | 4 => {
                let other = &self.seeds[random.below(self.seeds.len())];
                let from = random.below(other.len());
                let piece = other[from..(from + random.below(64)).min(other.len())].to_vec();
                bytes.splice(at..(at + piece.len()).min(bytes.len()), piece);
            }
            5 => {
                let (from, len) = (random.below(bytes.len()), random.below(64));
                let piece = bytes[from..(from + len).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => drop(bytes.drain(at..(at + random.below(32)).min(bytes.len()))),
            7 => bytes.truncate(at),
            // What JSON has for a field: a number, or any byte.
            8 | 9 => {
                let digits = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |skip| at + skip);
                let behind = bytes[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(digits..digits + behind, random.of(WORDS).bytes());
            }
            10 | 11 => {
                let at = at & !3;
                if let Some(four) = bytes.get_mut(at..at + 4) {
                    four.copy_from_slice(&random.of(FLOATS).to_le_bytes());
                }
            }
            12 => {
                let ((a, width), (b, other)) = (random.of(fields), random.of(fields));
                if width == other && a.max(b) + width <= bytes.len() {
                    let copy = bytes[a..a + width].to_vec();
                    bytes.copy_within(b..b + width, a);
                    bytes[b..b + width].copy_from_slice(&copy);
                }
            }
            _ => {
                let (at, width) = random.of(fields);
                let Some(field) = bytes.get_mut(at..at + width) else { return };
                let mut old = [0; 8];
                old[..width].copy_from_slice(field);
                let old = u64::from_le_bytes(old);
                let new = match random.below(3) {
                    0 => random.of(INTEGERS),
                    1 => old.wrapping_add(random.below(5) as u64).wrapping_sub(2),
                    _ => old ^ 1 << random.below(8 * width),
                };
                field.copy_from_slice(&new.to_le_bytes()[..width]);
            }
        }
    }
}

/// Where a file has a count, length, type or offset, and how many bytes it takes: as far as a GGUF header can be followed, or the length of
/// a safetensors header.
fn fields(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut walk = Walk { bytes, at: 4, fields: Vec::new(), word: 8 };
    if bytes.starts_with(b"GGUF") {
        walk.gguf();
    } else if bytes.get(8) == Some(&b'{') {
        walk.fields.push((0, 8));
    }
    walk.fields
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<(usize, usize)>,
    /// Bytes of a count.
    word: usize,
}

impl Walk<'_> {
    fn gguf(&mut self) -> Option<()> {
        if self.number(4)? == 1 {
            self.word = 4;
        }
        let (tensors, keys) = (self.number(self.word)?, self.number(self.word)?);
        for _ in 0..keys {
            self.string()?;
            let kind = self.number(4)?;
            self.value(kind)?;
        }
        for _ in 0..tensors {
            self.string()?;
            for _ in 0..self.number(4)? {
                self.number(self.word)?;
            }
            self.number(4)?;
            self.number(8)?;
        }
        Some(())
    }

    /// A number, which becomes a field.
    fn number(&mut self, width: usize) -> Option<u64> {
        let mut number = [0; 8];
        number[..width].copy_from_slice(self.bytes.get(self.at..self.at + width)?);
        self.fields.push((self.at, width));
        self.at += width;
        Some(u64::from_le_bytes(number))
    }

    fn string(&mut self) -> Option<()> {
        let len = usize::try_from(self.number(self.word)?).ok()?;
        self.at = self.at.checked_add(len)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn value(&mut self, kind: u64) -> Option<()> {
        match kind {
            0 | 1 | 7 => self.number(1).map(drop),
            2 | 3 => self.number(2).map(drop),
            4..=6 => self.number(4).map(drop),
            8 => self.string(),
            9 => {
                let (kind, len) = (self.number(4)?, self.number(self.word)?);
                (0..len).try_for_each(|_| self.value(kind))
            }
            10..=12 => self.number(8).map(drop),
            _ => None,
        }
    }
}
