//! SentencePiece's precompiled normalisation rules.

/// Rules that rewrite characters, as SentencePiece compiles them: the length of a double array in bytes (u32), the array, which maps
/// what is rewritten to an offset (darts-clone, S. Yata 2011), and there the replacements, each ending with a zero byte.
#[derive(Debug)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

/// Children of a node lie in one block of as many units.
const BLOCK: usize = 256;

impl Charsmap {
    /// Checks the rules, so that looking for one can not fail. The error is what is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Charsmap, String> {
        let (size, rest) = bytes.split_first_chunk().ok_or("expected at least 4 bytes")?;
        let size = u32::from_le_bytes(*size) as usize;
        let (array, replacements) =
            rest.split_at_checked(size).filter(|_| size > 0 && size.is_multiple_of(4 * BLOCK)).ok_or_else(|| {
                format!("expected an array of blocks of 1024 bytes in {}, found {size} bytes", rest.len())
            })?;
        let units = array.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements = str::from_utf8(replacements).map_err(|error| format!("replacements: {error}"))?.to_owned();
        let charsmap = Charsmap { units, replacements };
        charsmap.check()?;
        Ok(charsmap)
    }

    /// Walks to everything that is rewritten.
    fn check(&self) -> Result<(), String> {
        let mut seen = vec![false; self.units.len()];
        let mut nodes = vec![0];
        while let Some(node) = nodes.pop() {
            let children = node ^ offset(self.units[node]);
            if children >= self.units.len() {
                return Err(format!("unit {node}: expected children below {}, found {children}", self.units.len()));
            }
            for byte in 1..BLOCK {
                let child = children ^ byte;
                // Two parents share a child only where an array is damaged.
                if self.units[child] & LABEL == byte as u32 && !std::mem::replace(&mut seen[child], true) {
                    nodes.push(child);
                }
            }
            if node != 0 && has_value(self.units[node]) {
                let value = self.units[children];
                let at = (value & !VALUE) as usize;
                let text = self.replacements.get(at..).filter(|text| text.contains('\0'));
                if value & VALUE == 0 || text.is_none() {
                    let len = self.replacements.len();
                    return Err(format!("unit {children}: expected a replacement in {len} bytes, found {value:#x}"));
                }
            }
        }
        Ok(())
    }

    /// Bytes of the longest beginning of a text that a rule rewrites, and what takes their place.
    pub fn replace(&self, text: &str) -> Option<(usize, &str)> {
        let mut found = None;
        let mut node = offset(self.units[0]);
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            node ^= usize::from(byte);
            let unit = self.units[node];
            if byte == 0 || unit & LABEL != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            // A rule that would cut a character is none.
            if has_value(unit) && text.is_char_boundary(at + 1) {
                found = Some((at + 1, self.units[node] & !VALUE));
            }
        }
        let (len, value) = found?;
        let text = &self.replacements[value as usize..];
        Some((len, &text[..text.find('\0')?]))
    }
}

/// Set where a unit is a value.
const VALUE: u32 = 1 << 31;
/// The byte that leads to a unit; the high bit keeps values from looking like one.
const LABEL: u32 = VALUE | 0xFF;

/// What a node's place is combined with to find its children, the value among them at 0.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

fn has_value(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}
