use crate::Stop;
use llguidance::api::ParserLimits;

/// What a constraint may take. They count work, not time, so that the same request always gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a schema, regular expression or grammar, or of all choices together.
    pub bytes: usize,
    /// Levels of nesting: of schemas, through references too, and of groups in a regular expression or grammar.
    pub depth: usize,
    /// Lines of a grammar.
    pub lines: usize,
    /// Schemas that a schema consists of once its references and alternatives are written out.
    pub schemas: usize,
    /// Symbols of a compiled grammar.
    pub symbols: usize,
    /// Expressions that compiling may construct: about 50,000 in a millisecond.
    pub compile_expressions: u64,
    /// Expressions that a mask may construct: about 14,000 in a millisecond.
    pub mask_expressions: u64,
    /// Items of the parser that a mask may make: about 20,000 in a millisecond.
    pub mask_items: usize,
    /// Items of the parser after one byte: the alternatives that a schema leaves open, four for each optional property that may come next.
    pub row_items: usize,
    /// The same of grammars in GBNF and Lark. These may be ambiguous, and then the time of a mask grows with the square of it: 14 ms with 300
    /// items, seconds with 2,000.
    pub ambiguous_row_items: usize,
    /// States of the lexer, of 1 or 2 kB each.
    pub states: usize,
    /// Ends the compilation early.
    pub stop: Stop,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 1 << 18,
            depth: 64,
            lines: 4_096,
            schemas: 20_000,
            symbols: 500_000,
            compile_expressions: 1_000_000,
            mask_expressions: 200_000,
            mask_items: 50_000,
            row_items: 3_000,
            ambiguous_row_items: 400,
            states: 100_000,
            stop: Stop::default(),
        }
    }
}

impl Limits {
    /// As the parser knows them.
    pub(crate) fn of_parser(&self) -> ParserLimits {
        ParserLimits {
            max_items_in_row: self.row_items,
            initial_lexer_fuel: self.compile_expressions,
            step_lexer_fuel: self.mask_expressions,
            step_max_items: self.mask_items,
            max_lexer_states: self.states,
            max_grammar_size: self.symbols,
            // It would run large lexemes over the whole vocabulary at once.
            precompute_large_lexemes: false,
            verbose_errors: false,
        }
    }
}
