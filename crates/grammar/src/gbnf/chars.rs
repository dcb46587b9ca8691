use std::fmt::Write;

/// A set of characters, as ranges in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chars(Vec<(u32, u32)>);

/// The ranges of all characters, between which are the surrogates of UTF-16.
const ALL: [(u32, u32); 2] = [(0, 0xD7FF), (0xE000, 0x10_FFFF)];

impl Chars {
    pub fn one(c: char) -> Chars {
        Chars(vec![(c.into(), c.into())])
    }

    pub fn all() -> Chars {
        Chars(ALL.to_vec())
    }

    /// The characters of these ranges.
    pub fn of(ranges: &[(char, char)]) -> Chars {
        let mut chars = Chars::default();
        for &(first, last) in ranges {
            chars.add(&Chars(vec![(first.into(), last.into())]));
        }
        chars.without_surrogates()
    }

    fn without_surrogates(&self) -> Chars {
        let both = |&(first, last): &(u32, u32)| {
            ALL.iter().map(move |&(low, high)| (first.max(low), last.min(high))).filter(|(first, last)| first <= last)
        };
        Chars(self.0.iter().flat_map(both).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a set; whether there are more now.
    pub fn add(&mut self, other: &Chars) -> bool {
        if other.0.iter().all(|&(first, last)| self.0.iter().any(|&(a, b)| a <= first && last <= b)) {
            return false;
        }
        let mut ranges: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        ranges.sort_unstable();
        self.0.clear();
        for (first, last) in ranges {
            match self.0.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => self.0.push((first, last)),
            }
        }
        true
    }

    pub fn others(&self) -> Chars {
        let (mut others, mut next) = (Vec::new(), 0);
        for &(first, last) in &self.0 {
            if next < first {
                others.push((next, first - 1));
            }
            next = last + 1;
        }
        others.push((next, 0x10_FFFF));
        Chars(others).without_surrogates()
    }

    pub fn meets(&self, other: &Chars) -> bool {
        self.0.iter().any(|&(first, last)| other.0.iter().any(|&(a, b)| first <= b && a <= last))
    }

    /// A class of a regular expression.
    pub fn regex(&self) -> String {
        let mut class = "[".to_owned();
        for (first, last) in &self.0 {
            let _ = write!(class, "\\x{{{first:X}}}-\\x{{{last:X}}}");
        }
        class + "]"
    }
}
