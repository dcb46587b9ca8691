//! Jinja's grammar, as its parser in Python has it, to the engine's syntax tree.
//!
//! Operators, attributes, subscripts, methods, filters and tests become calls of [`super::operators`], which have names that no
//! template can spell, and text between tags is printed like any value. So everything that reads or builds much passes the
//! budget, and the engine folds no constants.

mod expressions;
mod macros;
mod statements;

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, CallArg, Expr, Spanned, Stmt};
use std::fmt::Display;

use super::lexer::{Lexed, Token, at_line, lex};
use crate::{Error, Result};

/// Maximum number of expressions and tags inside each other. Python allows about as many.
const DEPTH: usize = 200;

/// Parses a normalized source.
pub(super) fn parse(source: &str) -> Result<Stmt<'_>> {
    let mut parser =
        Parser { tokens: lex(source)?, at: 0, depth: 0, loops: 0, blocks: Vec::new(), special: Vec::new() };
    let (children, _) = parser.body(None)?;
    Ok(Stmt::Template(Spanned::new(ast::Template { children }, Span::default())))
}

struct Parser<'a> {
    tokens: Vec<Lexed<'a>>,
    at: usize,
    depth: usize,
    /// Loops around, within the macro.
    loops: usize,
    /// Names of blocks so far.
    blocks: Vec<&'a str>,
    /// Those of [`macros::SPECIAL`] that are read so far, within the outermost macro.
    special: Vec<&'static str>,
}

impl<'a> Parser<'a> {
    fn token(&self) -> &Token<'a> {
        &self.tokens[self.at].token
    }

    fn next_token(&self) -> &Token<'a> {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    /// Goes on by one token, but not beyond the last.
    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn error(&self, problem: impl Display) -> Error {
        at_line(self.tokens[self.at].line, problem)
    }

    fn unexpected<T>(&self, expected: impl Display) -> Result<T> {
        Err(self.error(format!("expected {expected}, found {}", self.token())))
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token(), Token::Operator(found) if *found == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.token(), Token::Name(found) if *found == name)
    }

    fn skip(&mut self, operator: &str) -> bool {
        let found = self.is(operator);
        if found {
            self.advance();
        }
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, operator: &'static str) -> Result<()> {
        if self.skip(operator) { Ok(()) } else { self.unexpected(format!("`{operator}`")) }
    }

    fn expect_name(&mut self, name: &str) -> Result<()> {
        if self.skip_name(name) { Ok(()) } else { self.unexpected(format!("`{name}`")) }
    }

    fn expect_token(&mut self, token: Token<'a>) -> Result<()> {
        if *self.token() != token {
            return self.unexpected(token);
        }
        self.advance();
        Ok(())
    }

    fn name(&mut self) -> Result<&'a str> {
        let &Token::Name(name) = self.token() else { return self.unexpected("a name") };
        self.advance();
        Ok(name)
    }

    /// Where an expression that began with token `from` is in the source.
    fn span(&self, from: usize) -> Span {
        let (first, last) = (&self.tokens[from], &self.tokens[self.at.max(from + 1) - 1]);
        let line = |line: usize| u16::try_from(line).unwrap_or(u16::MAX);
        let offset = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Span {
            start_line: line(first.line),
            end_line: line(last.line),
            start_offset: offset(first.start),
            end_offset: offset(last.end),
            ..Span::default()
        }
    }

    /// Parses something that may be inside of itself.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH {
            return Err(self.error(format!("more than {DEPTH} expressions and tags are inside each other")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }
}

fn constant<'a>(value: impl Into<Value>, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(ast::Const { value: value.into() }, span))
}

fn variable(id: &str, span: Span) -> Expr<'_> {
    Expr::Var(Spanned::new(ast::Var { id }, span))
}

/// A call of one of [`super::operators`].
fn operator<'a, const N: usize>(name: &'a str, left: Expr<'a>, right: [Expr<'a>; N], span: Span) -> Expr<'a> {
    with_args(name, Some(left), right.into_iter().map(CallArg::Pos).collect(), span)
}

fn with_args<'a>(name: &'a str, expr: Option<Expr<'a>>, args: Vec<CallArg<'a>>, span: Span) -> Expr<'a> {
    Expr::Filter(Spanned::new(ast::Filter { name, expr, args }, span))
}

/// What several values are assigned to.
fn list<'a>(items: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    Expr::List(Spanned::new(ast::List { items }, span))
}

fn tuple<'a>(items: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    Expr::Tuple(Spanned::new(ast::Tuple { items }, span))
}

fn set<'a>(target: Expr<'a>, expr: Expr<'a>, span: Span) -> Stmt<'a> {
    Stmt::Set(Spanned::new(ast::Set { target, expr }, span))
}

fn emit<'a>(expr: Expr<'a>, span: Span) -> Stmt<'a> {
    Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr }, span))
}

/// Statements with variables of their own.
fn scope<'a>(assignments: Vec<(Expr<'a>, Expr<'a>)>, body: Vec<Stmt<'a>>, span: Span) -> Stmt<'a> {
    Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body }, span))
}
