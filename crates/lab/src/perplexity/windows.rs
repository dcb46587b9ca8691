//! How a long text is cut into what a model reads at once.

use std::ops::Range;

/// How documents are cut. A context counts the tokens that the model reads, BOS included; every window begins with BOS where the model
/// wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// Each window begins `stride` tokens after the one before and scores what was not scored yet: every token once, and all but a
    /// document's first window with at least `context - stride + 1` tokens in front.
    Sliding {
        /// Most tokens that the model reads at once.
        context: usize,
        /// Between the beginnings of windows; at most what `context` leaves after BOS.
        stride: usize,
    },
    /// As llama.cpp's `llama-perplexity`: windows of `context` tokens side by side, BOS in place of the first token of each, of which the
    /// second half is scored. What does not fill a window is left out.
    SecondHalf {
        /// Tokens of a window.
        context: usize,
    },
}

impl Windows {
    /// Most tokens that the model reads at once.
    pub fn context(self) -> usize {
        match self {
            Windows::Sliding { context, .. } | Windows::SecondHalf { context } => context,
        }
    }

    /// The most that a stride may be, in a model that wants BOS or does not; zero where there is no room for anything.
    pub fn longest_stride(context: usize, bos: bool) -> usize {
        context - usize::from(bos).min(context)
    }
}

/// Tokens that a model reads together, those of a document from `start` to the last but one of `scored`, after BOS if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub document: usize,
    pub start: usize,
    /// The tokens whose surprise counts.
    pub scored: Range<usize>,
}

/// The windows of a document of `len` tokens, after BOS or not.
pub(super) fn windows(how: Windows, document: usize, len: usize, bos: bool) -> Vec<Window> {
    let front = usize::from(bos);
    let mut all = Vec::new();
    match how {
        Windows::Sliding { context, stride } => {
            let room = Windows::longest_stride(context, bos);
            let (mut start, mut done) = (0, 1 - front);
            while done < len {
                let end = len.min(start + room + 1);
                all.push(Window { document, start, scored: done..end });
                (start, done) = (start + stride, end);
            }
        }
        Windows::SecondHalf { context } => {
            // Positions are those of a text that has BOS as its token 0.
            for first in (0..(len + front) / context).map(|i| i * context) {
                let scored = first + context / 2 + 1 - front..first + context - front;
                all.push(Window { document, start: first, scored });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over all small lengths, contexts and strides.
    #[test]
    fn sliding_windows_score_every_token_once_with_all_the_context_they_may() {
        for (bos, context, stride, len) in [false, true].into_iter().flat_map(|bos| {
            (1 + usize::from(bos)..9).flat_map(move |context| {
                (1..=Windows::longest_stride(context, bos))
                    .flat_map(move |stride| (0..30).map(move |len| (bos, context, stride, len)))
            })
        }) {
            let front = usize::from(bos);
            let case = format!("BOS {bos}, context {context}, stride {stride}, {len} tokens");
            let all = windows(Windows::Sliding { context, stride }, 7, len, bos);
            let scored: Vec<usize> = all.iter().flat_map(|window| window.scored.clone()).collect();
            assert_eq!(scored, (1 - front..len).collect::<Vec<_>>(), "{case}");
            for Window { document, start, scored } in all {
                let inputs = front + scored.end - 1 - start;
                assert!(document == 7 && inputs <= context && !scored.is_empty(), "{case}");
                for token in scored {
                    let before = front + token - start;
                    assert!(before >= 1 && (before > context - stride || start == 0), "{case}: {token} has {before}");
                }
            }
        }
    }

    /// By llama.cpp's words: chunk `i` is `tokens[i * n_ctx..]`, its first token becomes BOS, and the logits of positions `n_ctx / 2` to
    /// `n_ctx - 2` meet the tokens after them.
    #[test]
    fn second_halves_are_llama_cpps() {
        for (bos, context, len) in [false, true]
            .into_iter()
            .flat_map(|bos| (3..12).flat_map(move |context| (0..40).map(move |len| (bos, context, len))))
        {
            let tokens: Vec<Option<usize>> = bos.then_some(None).into_iter().chain((0..len).map(Some)).collect();
            let mut expected = Vec::new();
            for chunk in tokens.chunks_exact(context) {
                let (from, to) = (context / 2 + 1, context);
                let scored = chunk[from..to].iter().map(|token| token.unwrap()).collect::<Vec<_>>();
                let first = chunk[usize::from(bos)].unwrap();
                expected.push((first, scored));
            }
            let found: Vec<_> = windows(Windows::SecondHalf { context }, 0, len, bos)
                .into_iter()
                .map(|window| (window.start, window.scored.collect::<Vec<_>>()))
                .collect();
            assert_eq!(found, expected, "BOS {bos}, context {context}, {len} tokens");
        }
    }
}
