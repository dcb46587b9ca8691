//! Compiled normalization rules of SentencePiece.

/// Rules that replace characters. The format: the size of a double array in bytes (u32); the array, which maps text to offsets of
/// replacements (darts-clone, S. Yata 2011); and the replacements, each with a final zero byte.
#[derive(Debug)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

/// The number of units in a block, which has all children of a node.
const BLOCK: usize = 256;

impl Charsmap {
    /// Parses and checks the rules, so that a lookup cannot fail.
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

    /// Visits all nodes.
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
                // Two parents share a child only in a malformed array.
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

    /// The length of the longest prefix of a text that a rule replaces, in bytes, and the replacement.
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
            // Rules that would split a character are ignored.
            if has_value(unit) && text.is_char_boundary(at + 1) {
                found = Some((at + 1, self.units[node] & !VALUE));
            }
        }
        let (len, value) = found?;
        let text = &self.replacements[value as usize..];
        Some((len, &text[..text.find('\0')?]))
    }
}

/// Set in a unit that is a value.
const VALUE: u32 = 1 << 31;
/// The mask of a unit's label, the byte that leads to it. The high bit excludes values.
const LABEL: u32 = VALUE | 0xFF;

/// The XOR of a node's index and that of its children, of which the one at 0 is its value.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

fn has_value(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}
