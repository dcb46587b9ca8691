//! Maps a teacher's distributions to the vocabulary of a student with another tokenizer.

use std::collections::{BTreeMap, HashMap};
use trine_backend::Batch;
use trine_text::{EncodeOptions, Tokenizer};

/// The lower bound of mapped probabilities, so that their logarithms are finite.
const MIN_PROBABILITY: f32 = 1e-7;

/// A map between vocabularies, estimated from texts.
///
/// Teacher and student read the same text, each in its own tokens. Where tokens of both end at the same byte, both predict what comes next. The
/// probability of a teacher's token is distributed over the student's tokens that follow in texts at such places: after `didn` a teacher may
/// predict `'`, for which the student has `'t`. At other positions, the student is trained on the text alone.
pub struct VocabMap {
    teacher: Tokenizer,
    student: Tokenizer,
    /// For each token of the teacher, the student's tokens.
    shares: Vec<Shares>,
    /// The same after a given token of the student, by that token and the teacher's next, if there are several.
    shares_after: HashMap<(u32, u32), Shares>,
    /// The last batch, in the teacher's tokens.
    batch: Batch,
}

/// Tokens of the student with shares that sum to 1.
type Shares = Vec<(u32, f32)>;

/// A text in the teacher's tokens.
struct Retokenized {
    ids: Vec<u32>,
    /// Indices of tokens of the student and of the teacher that end at the same byte.
    pairs: Vec<(usize, usize)>,
}

impl VocabMap {
    /// Estimates the map from texts in the student's tokens.
    pub fn new(teacher: Tokenizer, student: Tokenizer, texts: impl Iterator<Item = Vec<u32>>) -> VocabMap {
        let pieces: HashMap<&[u8], u32> =
            (0..student.len() as u32).rev().filter_map(|id| Some((student.piece(id)?, id))).collect();
        // For tokens of the teacher that are in no text.
        let counterpart = |id: u32| {
            if teacher.is_eog(id) {
                return student.eos();
            }
            let piece = teacher.piece(id).filter(|piece| !piece.is_empty() && !teacher.is_control(id))?;
            let first = || student.encode(str::from_utf8(piece).ok()?, EncodeOptions::default()).first().copied();
            pieces.get(piece).copied().or_else(first)
        };
        let mut shares: Vec<Shares> =
            (0..teacher.len() as u32).map(|id| counterpart(id).map(|to| (to, 1.0)).into_iter().collect()).collect();
        let mut counts: BTreeMap<u32, TokenCounts> = BTreeMap::new();
        let mut counts_after: HashMap<(u32, u32), TokenCounts> = HashMap::new();
        for ids in texts {
            let Some(retokenized) = retokenize(&teacher, &student, &ids) else { continue };
            for (ours, theirs) in retokenized.pairs {
                if let (Some(&to), Some(&from)) = (ids.get(ours + 1), retokenized.ids.get(theirs + 1)) {
                    counts.entry(from).or_default().add(to);
                    counts_after.entry((ids[ours], from)).or_default().add(to);
                }
            }
        }
        for (&from, counts) in &counts {
            shares[from as usize] = counts.shares();
        }
        let shares_after = counts_after
            .into_iter()
            .filter(|((_, from), _)| shares[*from as usize].len() > 1)
            .map(|(key, counts)| (key, counts.shares()))
            .collect();
        VocabMap { teacher, student, shares, shares_after, batch: Batch::new() }
    }

    pub fn student(&self) -> &Tokenizer {
        &self.student
    }

    /// The last batch, in the teacher's tokens.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Makes the batch of the same texts in the teacher's tokens. Returns pairs of rows of the student's batch and of this one that end at the same byte,
    /// and the number of KV blocks of `block` tokens. Texts of more than `context` tokens are left out.
    pub fn retokenize(&mut self, batch: &Batch, context: usize, block: usize) -> (Vec<(u32, u32)>, usize) {
        self.batch.clear();
        let (mut pairs, mut blocks, mut first) = (Vec::new(), 0, 0);
        for span in batch.spans() {
            let ids = &batch.tokens()[span.row..span.row + span.tokens];
            let retokenized = retokenize(&self.teacher, &self.student, ids).filter(|text| text.ids.len() <= context);
            let Some(Retokenized { ids, pairs: ends }) = retokenized else { continue };
            let len = ids.len();
            pairs.extend(ends.into_iter().map(|(ours, theirs)| ((span.row + ours) as u32, (first + theirs) as u32)));
            let own_blocks: Vec<u32> = (blocks as u32..).take(len.div_ceil(block)).collect();
            blocks += own_blocks.len();
            first += len;
            self.batch.push(&ids, 0, &own_blocks, len);
        }
        (pairs, blocks)
    }

    /// Maps `weights`, softmax numerators over the teacher's vocabulary at this temperature, to logits over the student's, after its token `last`.
    pub fn map(&self, last: u32, weights: &[f32], temperature: f32, out: &mut [f32]) {
        out.fill(0.0);
        let mut total = 0.0;
        for ((from, &weight), shares) in weights.iter().enumerate().zip(&self.shares) {
            let shares = match shares.len() {
                0 => continue,
                1 => shares,
                _ => self.shares_after.get(&(last, from as u32)).unwrap_or(shares),
            };
            for &(to, share) in shares {
                out[to as usize] += weight * share;
            }
            total += weight;
        }
        let min = libm::logf(MIN_PROBABILITY);
        for x in out {
            let probability = *x / total;
            *x = temperature * if probability > MIN_PROBABILITY { libm::logf(probability) } else { min };
        }
    }
}

/// Occurrences of the student's tokens.
#[derive(Default)]
struct TokenCounts(BTreeMap<u32, u32>);

impl TokenCounts {
    fn add(&mut self, id: u32) {
        *self.0.entry(id).or_default() += 1;
    }

    fn shares(&self) -> Shares {
        let total = self.0.values().sum::<u32>() as f32;
        self.0.iter().map(|(&id, &count)| (id, count as f32 / total)).collect()
    }
}

/// Tokenizes a text in the student's tokens with the teacher's tokenizer. None if it is not UTF-8, or the teacher's tokens do not spell it.
fn retokenize(teacher: &Tokenizer, student: &Tokenizer, ids: &[u32]) -> Option<Retokenized> {
    let length = |tokenizer: &Tokenizer, id: u32| match tokenizer.is_control(id) {
        true => 0,
        false => tokenizer.piece(id).map_or(0, <[u8]>::len),
    };
    let text = ids.iter().filter(|&&id| !student.is_control(id));
    let bytes: Vec<u8> = text.flat_map(|&id| student.piece(id).unwrap_or(&[])).copied().collect();
    let mut theirs: Vec<u32> = teacher.bos().into_iter().collect();
    theirs.extend(teacher.encode(str::from_utf8(&bytes).ok()?, EncodeOptions::default()));
    let total: usize = theirs.iter().map(|&id| length(teacher, id)).sum();
    // The teacher's tokenizer may add a space before a text.
    let shift @ 0..=1 = total.checked_sub(bytes.len())? else { return None };
    let mut ends = HashMap::new();
    let mut end = 0;
    for (row, &id) in theirs.iter().enumerate() {
        end += length(teacher, id);
        if let Some(end) = end.checked_sub(shift) {
            ends.insert(end, row);
        }
    }
    let mut end = 0;
    let mut pairs = Vec::new();
    for (row, &id) in ids.iter().enumerate() {
        end += length(student, id);
        pairs.extend(ends.get(&end).map(|&theirs| (row, theirs)));
    }
    Some(Retokenized { ids: theirs, pairs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use trine_model::Language;
    use trine_text::BpeOptions;

    fn tokenizer(name: &str) -> Tokenizer {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name);
        Language::open(&path).unwrap().tokenizer
    }

    fn batch(ids: &[u32]) -> Batch {
        let mut batch = Batch::new();
        batch.push(ids, 0, &(0..ids.len().div_ceil(16) as u32).collect::<Vec<_>>(), ids.len());
        batch
    }

    #[test]
    fn with_the_same_tokens_a_map_changes_nothing() {
        let (teacher, student) = (tokenizer("qwen2/model.gguf"), tokenizer("qwen2/model.gguf"));
        let mut ids: Vec<u32> = teacher.bos().into_iter().collect();
        ids.extend(teacher.encode("The miller counted 17 pear trees.", EncodeOptions::default()));
        let mut map = VocabMap::new(teacher, student, [ids.clone()].into_iter());
        let (pairs, _) = map.retokenize(&batch(&ids), 64, 16);
        assert!(pairs.iter().all(|(ours, theirs)| ours == theirs) && pairs.len() == ids.len());
        let logits: Vec<f32> = (0..map.teacher.len()).map(|i| (i * 7 % 13) as f32 / 3.0).collect();
        let weights: Vec<f32> = logits.iter().map(|x| (x / 2.0).exp()).collect();
        let mut out = vec![0.0; map.student.len()];
        map.map(ids[0], &weights, 2.0, &mut out);
        // Several tokens that end a text map to one.
        let goes_to = |from: usize, to: usize| map.shares[from] == [(to as u32, 1.0)];
        let alone = |i: &usize| (0..out.len()).filter(|&from| goes_to(from, *i)).count() == 1;
        let mapped: Vec<usize> = (0..out.len()).filter(|&i| goes_to(i, i)).filter(alone).collect();
        let shift = out[mapped[0]] - logits[mapped[0]];
        assert!(mapped.len() * 10 > out.len() * 9, "{} of {}", mapped.len(), out.len());
        assert!(mapped.into_iter().all(|i| (out[i] - logits[i] - shift).abs() < 1e-3));
    }

    #[test]
    fn other_tokens_are_paired_where_both_end() {
        // SentencePiece and byte-level BPE: other tokens, and a space before the text.
        let (teacher, student) = (tokenizer("llama/model.gguf"), tokenizer("qwen2/model.gguf"));
        let text = "The miller counted 17 pear trees, and then he counted them again.";
        let ids = student.encode(text, EncodeOptions::default());
        let mut map = VocabMap::new(teacher, student, [].into_iter());
        let (pairs, _) = map.retokenize(&batch(&ids), 64, 16);
        let theirs = map.batch.tokens();
        assert!(!pairs.is_empty());
        for (row, their_row) in pairs {
            let (ours, theirs) = (&ids[..=row as usize], &theirs[..=their_row as usize]);
            assert_eq!(map.student.decode(ours), map.teacher.decode(theirs));
        }
    }

    #[test]
    fn what_a_teacher_begins_continues_as_texts_do() {
        let text = "Lily's mom didn't see. Ben's dog didn't run. 'Lily!' said Ben. ".repeat(9);
        let json = BpeOptions { vocab_size: 320, ..BpeOptions::default() };
        let json = json.train([Ok::<_, trine_text::Error>(text.clone())].into_iter()).unwrap();
        let student = Tokenizer::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
        let (teacher, ids) = (tokenizer("llama/model.gguf"), student.encode(&text, EncodeOptions::default()));
        let apostrophe = teacher
            .encode("Lily's", EncodeOptions::default())
            .into_iter()
            .find(|&id| teacher.piece(id) == Some(b"'"))
            .unwrap();
        let map = VocabMap::new(teacher, student, [ids.clone()].into_iter());
        let mut weights = vec![0.0; map.teacher.len()];
        weights[apostrophe as usize] = 1.0;
        let predicted = |last: u32| {
            let mut out = vec![0.0; map.student.len()];
            map.map(last, &weights, 1.0, &mut out);
            let probability = |piece: &[u8]| {
                let id = (0..out.len() as u32).find(|&id| map.student.piece(id) == Some(piece)).unwrap();
                out[id as usize].exp()
            };
            [probability(b"'t"), probability(b"'s"), probability(b"'")]
        };
        let mut next = ids.windows(2).map(|pair| (pair[0], map.student.piece(pair[1]).unwrap()));
        let didnt = next.find(|(_, piece)| piece == b"'t").unwrap().0;
        assert_eq!(predicted(didnt).map(|p| p > 0.99), [true, false, false]);
        // After a token with which no text has an apostrophe: what follows in all texts.
        let all = predicted(map.student.bos().unwrap());
        assert!(all[0] > 0.2 && all[1] > 0.2 && all[2] < 0.2, "{all:?}");
    }
}
