//! From the tokens of a teacher to those of its pupil.

use std::collections::{BTreeMap, HashMap};
use trine_backend::Batch;
use trine_text::{EncodeOptions, Tokenizer};

/// What a probability is at least: none is infinitely surprising.
const LEAST: f32 = 1e-7;

/// Both read the same pieces of text, each in its own tokens; where a token of both ends at the same byte, both say what comes next. What the
/// teacher says of one of its tokens counts for the tokens of the pupil with which texts go on where it stands, in their shares: behind
/// `didn` a teacher may say `'`, for which the pupil has `'t`. Elsewhere the pupil learns from the text alone.
pub struct Bridge {
    own: Tokenizer,
    pupil: Tokenizer,
    /// For each token of the teacher, what the pupil says instead.
    shares: Vec<Shares>,
    /// The same behind a token of the pupil, by that token and the teacher's, where it makes a difference.
    behind: HashMap<(u32, u32), Shares>,
    /// Room for a batch in the teacher's tokens.
    batch: Batch,
}

/// Tokens of the pupil, and the share of each; all shares together are 1.
type Shares = Vec<(u32, f32)>;

/// A text in the teacher's tokens.
struct Translated {
    ids: Vec<u32>,
    /// Which of the pupil's tokens ends where which of the teacher's does.
    pairs: Vec<(usize, usize)>,
}

impl Bridge {
    /// Learns how texts go on from some, which are in the pupil's tokens.
    pub fn new(own: Tokenizer, pupil: Tokenizer, texts: impl Iterator<Item = Vec<u32>>) -> Bridge {
        let pieces: HashMap<&[u8], u32> =
            (0..pupil.len() as u32).rev().filter_map(|id| Some((pupil.piece(id)?, id))).collect();
        // What to say for a token that no text has.
        let counterpart = |id: u32| {
            if own.is_eog(id) {
                return pupil.eos();
            }
            let piece = own.piece(id).filter(|piece| !piece.is_empty() && !own.is_control(id))?;
            let first = || pupil.encode(str::from_utf8(piece).ok()?, EncodeOptions::default()).first().copied();
            pieces.get(piece).copied().or_else(first)
        };
        let mut shares: Vec<Shares> =
            (0..own.len() as u32).map(|id| counterpart(id).map(|to| (to, 1.0)).into_iter().collect()).collect();
        let mut counts: BTreeMap<u32, Counts> = BTreeMap::new();
        let mut counts_behind: HashMap<(u32, u32), Counts> = HashMap::new();
        for ids in texts {
            let Some(translated) = translate(&own, &pupil, &ids) else { continue };
            for (ours, theirs) in translated.pairs {
                if let (Some(&to), Some(&from)) = (ids.get(ours + 1), translated.ids.get(theirs + 1)) {
                    counts.entry(from).or_default().add(to);
                    counts_behind.entry((ids[ours], from)).or_default().add(to);
                }
            }
        }
        for (&from, counts) in &counts {
            shares[from as usize] = counts.shares();
        }
        let behind = counts_behind
            .into_iter()
            .filter(|((_, from), _)| shares[*from as usize].len() > 1)
            .map(|(key, counts)| (key, counts.shares()))
            .collect();
        Bridge { own, pupil, shares, behind, batch: Batch::new() }
    }

    /// The pupil's tokens.
    pub fn pupil(&self) -> &Tokenizer {
        &self.pupil
    }

    /// What was translated last.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Makes the batch of the same texts in the teacher's tokens; returns which rows of the pupil's batch go with which of it, and how many blocks
    /// of `block` tokens it lies in. Texts of more than `context` tokens are left out.
    pub fn translate(&mut self, batch: &Batch, context: usize, block: usize) -> (Vec<(u32, u32)>, usize) {
        self.batch.clear();
        let (mut pairs, mut blocks, mut first) = (Vec::new(), 0, 0);
        for span in batch.spans() {
            let ids = &batch.tokens()[span.row..span.row + span.tokens];
            let translated =
                translate(&self.own, &self.pupil, ids).filter(|translated| translated.ids.len() <= context);
            let Some(translated) = translated else { continue };
            let len = translated.ids.len();
            pairs.extend(
                translated.pairs.iter().map(|(ours, theirs)| ((span.row + ours) as u32, (first + theirs) as u32)),
            );
            let own_blocks: Vec<u32> = (blocks as u32..).take(len.div_ceil(block)).collect();
            blocks += own_blocks.len();
            first += len;
            self.batch.push(&translated.ids, 0, &own_blocks, len);
        }
        (pairs, blocks)
    }

    /// What the teacher's tokens weigh as logits over the pupil's behind its token `last`, at this temperature.
    pub fn carry(&self, last: u32, weights: &[f32], temperature: f32, out: &mut [f32]) {
        out.fill(0.0);
        let mut total = 0.0;
        for ((from, &weight), shares) in weights.iter().enumerate().zip(&self.shares) {
            let shares = match shares.len() {
                0 => continue,
                1 => shares,
                _ => self.behind.get(&(last, from as u32)).unwrap_or(shares),
            };
            for &(to, share) in shares {
                out[to as usize] += weight * share;
            }
            total += weight;
        }
        let least = libm::logf(LEAST);
        for x in out {
            let probability = *x / total;
            *x = temperature * if probability > LEAST { libm::logf(probability) } else { least };
        }
    }
}

/// How often each token of the pupil was seen.
#[derive(Default)]
struct Counts(BTreeMap<u32, u32>);

impl Counts {
    fn add(&mut self, id: u32) {
        *self.0.entry(id).or_default() += 1;
    }

    fn shares(&self) -> Shares {
        let total = self.0.values().sum::<u32>() as f32;
        self.0.iter().map(|(&id, &count)| (id, count as f32 / total)).collect()
    }
}

/// A text in the tokens of both; none when the pupil's are no text, or the teacher's are of another.
fn translate(own: &Tokenizer, pupil: &Tokenizer, ids: &[u32]) -> Option<Translated> {
    let length = |tokenizer: &Tokenizer, id: u32| match tokenizer.is_control(id) {
        true => 0,
        false => tokenizer.piece(id).map_or(0, <[u8]>::len),
    };
    let said = ids.iter().filter(|&&id| !pupil.is_control(id));
    let bytes: Vec<u8> = said.flat_map(|&id| pupil.piece(id).unwrap_or(&[])).copied().collect();
    let mut theirs: Vec<u32> = own.bos().into_iter().collect();
    theirs.extend(own.encode(str::from_utf8(&bytes).ok()?, EncodeOptions::default()));
    let total: usize = theirs.iter().map(|&id| length(own, id)).sum();
    // A teacher may put a space before a text.
    let shift @ 0..=1 = total.checked_sub(bytes.len())? else { return None };
    let mut ends = HashMap::new();
    let mut end = 0;
    for (row, &id) in theirs.iter().enumerate() {
        end += length(own, id);
        if let Some(end) = end.checked_sub(shift) {
            ends.insert(end, row);
        }
    }
    let mut end = 0;
    let mut pairs = Vec::new();
    for (row, &id) in ids.iter().enumerate() {
        end += length(pupil, id);
        pairs.extend(ends.get(&end).map(|&theirs| (row, theirs)));
    }
    Some(Translated { ids: theirs, pairs })
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
    fn with_the_same_tokens_a_bridge_changes_nothing() {
        let (own, pupil) = (tokenizer("qwen2/model.gguf"), tokenizer("qwen2/model.gguf"));
        let mut ids: Vec<u32> = own.bos().into_iter().collect();
        ids.extend(own.encode("The miller counted 17 pear trees.", EncodeOptions::default()));
        let mut bridge = Bridge::new(own, pupil, [ids.clone()].into_iter());
        let (pairs, _) = bridge.translate(&batch(&ids), 64, 16);
        assert!(pairs.iter().all(|(ours, theirs)| ours == theirs) && pairs.len() == ids.len());
        let logits: Vec<f32> = (0..bridge.own.len()).map(|i| (i * 7 % 13) as f32 / 3.0).collect();
        let weights: Vec<f32> = logits.iter().map(|x| (x / 2.0).exp()).collect();
        let mut out = vec![0.0; bridge.pupil.len()];
        bridge.carry(ids[0], &weights, 2.0, &mut out);
        // Ends of a text count together for one.
        let goes_to = |from: usize, to: usize| bridge.shares[from] == [(to as u32, 1.0)];
        let alone = |i: &usize| (0..out.len()).filter(|&from| goes_to(from, *i)).count() == 1;
        let mapped: Vec<usize> = (0..out.len()).filter(|&i| goes_to(i, i)).filter(alone).collect();
        let shift = out[mapped[0]] - logits[mapped[0]];
        assert!(mapped.len() * 10 > out.len() * 9, "{} of {}", mapped.len(), out.len());
        assert!(mapped.into_iter().all(|i| (out[i] - logits[i] - shift).abs() < 1e-3));
    }

    #[test]
    fn other_tokens_meet_where_both_end() {
        // SentencePiece beside byte-level BPE: other tokens, and a space before the text.
        let (own, pupil) = (tokenizer("llama/model.gguf"), tokenizer("qwen2/model.gguf"));
        let text = "The miller counted 17 pear trees, and then he counted them again.";
        let ids = pupil.encode(text, EncodeOptions::default());
        let mut bridge = Bridge::new(own, pupil, [].into_iter());
        let (pairs, _) = bridge.translate(&batch(&ids), 64, 16);
        let theirs = bridge.batch.tokens();
        assert!(!pairs.is_empty());
        for (row, their_row) in pairs {
            let (ours, theirs) = (&ids[..=row as usize], &theirs[..=their_row as usize]);
            assert_eq!(bridge.pupil.decode(ours), bridge.own.decode(theirs));
        }
    }

    #[test]
    fn what_a_teacher_begins_goes_on_as_texts_do() {
        let text = "Lily's mom didn't see. Ben's dog didn't run. 'Lily!' said Ben. ".repeat(9);
        let json = BpeOptions { vocab_size: 320, ..BpeOptions::default() };
        let json = json.train([Ok::<_, trine_text::Error>(text.clone())].into_iter()).unwrap();
        let pupil = Tokenizer::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
        let (own, ids) = (tokenizer("llama/model.gguf"), pupil.encode(&text, EncodeOptions::default()));
        let apostrophe =
            own.encode("Lily's", EncodeOptions::default()).into_iter().find(|&id| own.piece(id) == Some(b"'")).unwrap();
        let bridge = Bridge::new(own, pupil, [ids.clone()].into_iter());
        let mut weights = vec![0.0; bridge.own.len()];
        weights[apostrophe as usize] = 1.0;
        let said = |last: u32| {
            let mut out = vec![0.0; bridge.pupil.len()];
            bridge.carry(last, &weights, 1.0, &mut out);
            let probability = |piece: &[u8]| {
                let id = (0..out.len() as u32).find(|&id| bridge.pupil.piece(id) == Some(piece)).unwrap();
                out[id as usize].exp()
            };
            [probability(b"'t"), probability(b"'s"), probability(b"'")]
        };
        let mut behind = ids.windows(2).map(|pair| (pair[0], bridge.pupil.piece(pair[1]).unwrap()));
        let didnt = behind.find(|(_, piece)| piece == b"'t").unwrap().0;
        assert_eq!(said(didnt).map(|p| p > 0.99), [true, false, false]);
        // Where no text has an apostrophe, all that texts have.
        let all = said(bridge.pupil.bos().unwrap());
        assert!(all[0] > 0.2 && all[1] > 0.2 && all[2] < 0.2, "{all:?}");
    }
}
