use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, Expr, Spanned, Stmt};

use super::super::lexer::{Lexed, Token};
use super::{Parser, constant, emit, operator, scope, set, variable};
use crate::Result;

/// Parameters that a macro has if it reads them, in the order in which it gets them.
pub(in super::super) const SPECIAL: [&str; 3] = ["caller", "kwargs", "varargs"];

/// The variable of the macro that is the body of a call block, which no template can name.
pub(super) const CALLER: &str = "call block";

/// The parameters of a macro, of which the last have defaults.
#[derive(Default)]
struct Signature<'a> {
    params: Vec<&'a str>,
    defaults: Vec<Expr<'a>>,
}

impl<'a> Parser<'a> {
    fn signature(&mut self) -> Result<Signature<'a>> {
        let mut signature = Signature::default();
        self.expect("(")?;
        while !self.skip(")") {
            if !signature.params.is_empty() {
                self.expect(",")?;
            }
            signature.params.push(self.assignable_name()?);
            if self.skip("=") {
                signature.defaults.push(self.expression()?);
            } else if !signature.defaults.is_empty() {
                return self.unexpected("`=`, as the parameter before has a default");
            }
        }
        Ok(signature)
    }

    pub(super) fn macro_(&mut self, from: usize) -> Result<Vec<Stmt<'a>>> {
        let name = self.assignable_name()?;
        let signature = self.signature()?;
        self.defined(name, signature, "endmacro", from)
    }

    /// The body of a macro, up to its end, and the statements that define it.
    ///
    /// The engine's macro gets all its arguments by position, from [`super::super::macros::Macro`], which takes its name and
    /// binds arguments as Python does.
    fn defined(
        &mut self,
        name: &'a str,
        Signature { params, defaults }: Signature<'a>,
        end: &'static str,
        from: usize,
    ) -> Result<Vec<Stmt<'a>>> {
        let span = self.span(from);
        let (loops, outer) = (std::mem::take(&mut self.loops), std::mem::take(&mut self.special));
        let parsed = self.closed(&[end])?;
        let read = std::mem::replace(&mut self.special, outer);
        self.loops = loops;
        self.special.extend(&read);
        let special = SPECIAL.into_iter().filter(|name| read.contains(name) && !params.contains(name));
        let special: Vec<&str> = special.collect();

        let first = params.len() - defaults.len();
        let spec = [name].iter().chain(&params).map(|&name| Value::from(name)).collect::<Vec<Value>>();
        let spec = [
            constant(spec, span),
            constant(defaults.len(), span),
            constant(special.iter().map(|&name| Value::from(name)).collect::<Vec<Value>>(), span),
        ];
        let mut body: Vec<Stmt<'a>> =
            params[first..].iter().zip(defaults).map(|(param, value)| default(param, value, span)).collect();
        body.extend(parsed);
        let args = params.iter().chain(&special).map(|param| variable(param, span)).collect();
        let inner = ast::Macro { name, args, defaults: Vec::new(), body };
        let bound = operator("macro", variable(name, span), spec, span);
        Ok(vec![Stmt::Macro(Spanned::new(inner, span)), set(variable(name, span), bound, span)])
    }

    /// Writes one more argument into the call that ends this tag: `caller`, by name.
    fn pass_caller(&mut self) -> Result<()> {
        let end = self.tokens[self.at..].iter().position(|lexed| lexed.token == Token::BlockEnd);
        let close = (self.at + end.unwrap_or(0)).saturating_sub(1);
        if self.tokens[close].token != Token::Operator(")") || close <= self.at {
            return self.unexpected("a call");
        }
        let first = matches!(self.tokens[close - 1].token, Token::Operator("(" | ","));
        let comma = (!first).then_some(Token::Operator(","));
        let Lexed { line, start, end, .. } = self.tokens[close];
        let more = [Token::Name("caller"), Token::Operator("="), Token::Name(CALLER)];
        let more = comma.into_iter().chain(more).map(|token| Lexed { token, line, start, end });
        self.tokens.splice(close..close, more.collect::<Vec<_>>());
        Ok(())
    }

    /// A call with its body as a macro, `caller`.
    pub(super) fn call_block(&mut self, from: usize) -> Result<Stmt<'a>> {
        let signature = if self.is("(") { self.signature()? } else { Signature::default() };
        self.pass_caller()?;
        let call = self.expression()?;
        if !matches!(&call, Expr::Call(_)) && !matches!(&call, Expr::Filter(filter) if filter.name == "()") {
            return Err(self.error("expected a call, found another expression"));
        }
        let span = self.span(from);
        let mut body = self.defined(CALLER, signature, "endcall", from)?;
        body.push(emit(call, span));
        Ok(scope(Vec::new(), body, span))
    }
}

/// Sets a parameter to its default if no argument was given.
fn default<'a>(param: &'a str, value: Expr<'a>, span: Span) -> Stmt<'a> {
    let node = ast::IfCond {
        expr: operator("unset", variable(param, span), [], span),
        true_body: vec![set(variable(param, span), value, span)],
        false_body: Vec::new(),
    };
    Stmt::IfCond(Spanned::new(node, span))
}
