use minijinja::Value;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, UnaryOpKind};

use super::super::lexer::Token;
use super::super::methods::is_attribute;
use super::{Parser, constant, list, macros, operator, tuple, variable, with_args};
use crate::Result;

type Parse<'a> = fn(&mut Parser<'a>) -> Result<Expr<'a>>;

/// Comparisons, and what the engine calls them.
const COMPARISONS: [(&str, CompareOpKind); 6] = [
    ("==", CompareOpKind::Eq),
    ("!=", CompareOpKind::Ne),
    ("<", CompareOpKind::Lt),
    ("<=", CompareOpKind::Lte),
    (">", CompareOpKind::Gt),
    (">=", CompareOpKind::Gte),
];

impl<'a> Parser<'a> {
    pub(super) fn expression(&mut self) -> Result<Expr<'a>> {
        self.nested(Self::conditional)
    }

    /// An expression or several, which make a tuple, up to the end of the tag, `)`, or the name `end`.
    pub(super) fn tuple(&mut self, item: Parse<'a>, end: &str, parenthesized: bool) -> Result<Expr<'a>> {
        let (from, mut items, mut several) = (self.at, Vec::new(), false);
        loop {
            let ends =
                matches!(self.token(), Token::VariableEnd | Token::BlockEnd) || self.is(")") || self.is_name(end);
            if ends {
                break;
            }
            items.push(item(self)?);
            if !self.skip(",") {
                break;
            }
            several = true;
        }
        match items.pop() {
            Some(item) if !several => Ok(item),
            None if !parenthesized => self.unexpected("an expression"),
            last => {
                items.extend(last);
                Ok(tuple(items, self.span(from)))
            }
        }
    }

    fn conditional(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        let mut value = self.or()?;
        while self.skip_name("if") {
            let test_expr = self.or()?;
            let false_expr = if self.skip_name("else") { Some(self.expression()?) } else { None };
            let node = ast::IfExpr { test_expr, true_expr: value, false_expr };
            value = Expr::IfExpr(Spanned::new(node, self.span(from)));
        }
        Ok(value)
    }

    pub(super) fn or(&mut self) -> Result<Expr<'a>> {
        self.logical("or", BinOpKind::ScOr, Self::and)
    }

    fn and(&mut self) -> Result<Expr<'a>> {
        self.logical("and", BinOpKind::ScAnd, Self::not)
    }

    fn logical(&mut self, name: &str, op: BinOpKind, operand: Parse<'a>) -> Result<Expr<'a>> {
        let from = self.at;
        let mut left = operand(self)?;
        while self.skip_name(name) {
            let right = operand(self)?;
            left = Expr::BinOp(Spanned::new(ast::BinOp { op, left, right }, self.span(from)));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        if self.skip_name("not") {
            let operand = self.nested(Self::not)?;
            return Ok(self.negated(operand, from));
        }
        self.comparison()
    }

    fn negated(&self, expr: Expr<'a>, from: usize) -> Expr<'a> {
        Expr::UnaryOp(Spanned::new(ast::UnaryOp { op: UnaryOpKind::Not, expr }, self.span(from)))
    }

    /// The comparison that comes next, if one does.
    fn comparing(&mut self) -> Option<(&'static str, CompareOpKind)> {
        let found = match self.token() {
            Token::Operator(found) => COMPARISONS.into_iter().find(|(operator, _)| operator == found)?,
            Token::Name("in") => ("in", CompareOpKind::In),
            Token::Name("not") if *self.next_token() == Token::Name("in") => {
                self.advance();
                ("not in", CompareOpKind::NotIn)
            }
            _ => return None,
        };
        self.advance();
        Some(found)
    }

    fn comparison(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        let left = self.sum()?;
        let mut operands = Vec::new();
        while let Some(op) = self.comparing() {
            operands.push((op, self.sum()?));
        }
        let span = self.span(from);
        if operands.len() < 2 {
            return Ok(match operands.pop() {
                None => left,
                Some((("not in", _), right)) => {
                    let within = operator("in", left, [right], span);
                    self.negated(within, from)
                }
                Some(((name, _), right)) => operator(name, left, [right], span),
            });
        }
        // Each operand is weighed once; the engine compares neighbours.
        let weighed = |operand: Expr<'a>| {
            let span = operand.span();
            operator("weighed", operand, [], span)
        };
        let ops = operands.into_iter().map(|((_, op), expr)| ast::CompareOp { op, expr: weighed(expr) }).collect();
        Ok(Expr::Compare(Spanned::new(ast::Compare { expr: weighed(left), ops }, span)))
    }

    /// Operands with operators of the same rank between them, from left to right.
    fn binary(&mut self, operators: &[&'static str], operand: Parse<'a>) -> Result<Expr<'a>> {
        let from = self.at;
        let mut left = operand(self)?;
        while let Token::Operator(found) = *self.token()
            && operators.contains(&found)
        {
            self.advance();
            let right = operand(self)?;
            left = operator(found, left, [right], self.span(from));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr<'a>> {
        self.binary(&["+", "-"], |parser| parser.binary(&["~"], Self::product))
    }

    fn product(&mut self) -> Result<Expr<'a>> {
        self.binary(&["*", "/", "//", "%"], |parser| parser.binary(&["**"], Self::filtered))
    }

    /// A value with its filters and tests.
    fn filtered(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        let mut value = self.signed()?;
        loop {
            if self.is("|") {
                value = self.filters(Some(value), false)?.unwrap_or(constant((), self.span(from)));
            } else if self.is_name("is") {
                value = self.test(value, from)?;
            } else if self.is("(") {
                value = self.call(value, from)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn signed(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        let value = match self.token() {
            Token::Operator(sign @ ("-" | "+")) => {
                let name = if *sign == "-" { "-x" } else { "+x" };
                self.advance();
                let operand = self.nested(Self::signed)?;
                operator(name, operand, [], self.span(from))
            }
            _ => self.primary()?,
        };
        self.postfix(value, from)
    }

    fn primary(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        let value = match self.token().clone() {
            Token::Name(name) => {
                self.advance();
                match name {
                    "true" | "True" => Value::from(true),
                    "false" | "False" => Value::from(false),
                    "none" | "None" => Value::from(()),
                    name => {
                        self.special.extend(macros::SPECIAL.into_iter().find(|special| *special == name));
                        return Ok(variable(name, self.span(from)));
                    }
                }
            }
            Token::Text(mut text) => {
                self.advance();
                while let Token::Text(more) = self.token() {
                    text.push_str(more);
                    self.advance();
                }
                text.into()
            }
            Token::Number(number) => {
                self.advance();
                number
            }
            Token::Operator("(") => {
                self.advance();
                let value = self.tuple(Self::expression, ")", true)?;
                self.expect(")")?;
                return Ok(value);
            }
            Token::Operator("[") => {
                self.advance();
                let items = self.separated("]", Self::expression)?;
                return Ok(list(items, self.span(from)));
            }
            Token::Operator("{") => {
                self.advance();
                return self.dictionary(from);
            }
            _ => return self.unexpected("an expression"),
        };
        Ok(constant(value, self.span(from)))
    }

    /// Items between commas, up to `close`, which may follow a comma.
    fn separated<T>(&mut self, close: &'static str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.is(close) {
            items.push(item(self)?);
            if !self.is(close) {
                self.expect(",")?;
            }
        }
        self.advance();
        Ok(items)
    }

    fn dictionary(&mut self, from: usize) -> Result<Expr<'a>> {
        let entries = self.separated("}", |parser| {
            let key = parser.expression()?;
            let span = key.span();
            parser.expect(":")?;
            Ok((operator("key", key, [], span), parser.expression()?))
        })?;
        let (keys, values) = entries.into_iter().unzip();
        Ok(Expr::Map(Spanned::new(ast::Map { keys, values }, self.span(from))))
    }

    /// A value with its attributes, subscripts and calls.
    fn postfix(&mut self, mut value: Expr<'a>, from: usize) -> Result<Expr<'a>> {
        loop {
            if self.skip(".") {
                value = self.attribute(value, from)?;
            } else if self.skip("[") {
                value = self.subscript(value, from)?;
            } else if self.is("(") {
                value = self.call(value, from)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn attribute(&mut self, value: Expr<'a>, from: usize) -> Result<Expr<'a>> {
        let name = match self.token().clone() {
            Token::Name(name) => name,
            Token::Number(number) if number.is_integer() => {
                self.advance();
                let span = self.span(from);
                return Ok(operator("[]", value, [constant(number, span)], span));
            }
            _ => return self.unexpected("a name or a number"),
        };
        self.advance();
        let span = self.span(from);
        let block = matches!(&value, Expr::Var(variable) if variable.id == "self");
        if self.is("(") && !block {
            let args = self.arguments()?;
            let args = [CallArg::Pos(constant(name, span))].into_iter().chain(args).collect();
            return Ok(with_args("()", Some(value), args, self.span(from)));
        }
        if name.starts_with('_') || is_attribute(name) {
            return Ok(operator(".", value, [constant(name, span)], span));
        }
        Ok(Expr::GetAttr(Spanned::new(ast::GetAttr { expr: value, name }, span)))
    }

    fn subscript(&mut self, value: Expr<'a>, from: usize) -> Result<Expr<'a>> {
        let mut items = Vec::new();
        while !self.skip("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            let start = if self.is(":") { None } else { Some(self.expression()?) };
            if !self.is(":") {
                items.extend(start);
                continue;
            }
            let bounds = self.slice(start)?;
            if !items.is_empty() || !self.skip("]") {
                return self.unexpected("`]` after a slice");
            }
            return Ok(operator("[:]", value, bounds, self.span(from)));
        }
        let span = self.span(from);
        let key = if items.len() == 1 { items.pop() } else { None };
        Ok(operator("[]", value, [key.unwrap_or_else(|| tuple(items, span))], span))
    }

    /// The bounds of a slice, `start:stop:step`, after `start`.
    fn slice(&mut self, start: Option<Expr<'a>>) -> Result<[Expr<'a>; 3]> {
        let mut bounds = [start, None, None];
        for bound in &mut bounds[1..] {
            if self.skip(":") && !self.is(":") && !self.is("]") && !self.is(",") {
                *bound = Some(self.expression()?);
            }
        }
        let span = self.span(self.at);
        Ok(bounds.map(|bound| bound.unwrap_or_else(|| constant((), span))))
    }

    pub(super) fn call(&mut self, value: Expr<'a>, from: usize) -> Result<Expr<'a>> {
        let mut args = self.arguments()?;
        if matches!(&value, Expr::Var(variable) if variable.id == "loop") {
            // What a recursive loop goes through next.
            args = args
                .into_iter()
                .map(|arg| match arg {
                    CallArg::Pos(items) => {
                        let span = items.span();
                        CallArg::Pos(operator("iter", items, [], span))
                    }
                    other => other,
                })
                .collect();
        }
        Ok(Expr::Call(Spanned::new(ast::Call { expr: value, args }, self.span(from))))
    }

    fn arguments(&mut self) -> Result<Vec<CallArg<'a>>> {
        self.expect("(")?;
        let (mut rank, mut names) = (0, Vec::new());
        self.separated(")", |parser| {
            let from = parser.at;
            let named = matches!(parser.token(), Token::Name(_)) && *parser.next_token() == Token::Operator("=");
            // By position, by name, all of a list, all of a dictionary: in this order, the last two once; names may follow a list.
            let (next, allowed) = match parser.token() {
                Token::Operator("*") => (2, rank < 2),
                Token::Operator("**") => (3, rank < 3),
                _ if named => (rank.max(1), rank < 3 || parser.is_name("caller")),
                _ => (0, rank == 0),
            };
            if !allowed {
                return Err(parser.error(
                    "arguments by position, by name, of a list and of a dictionary: expected them in this order",
                ));
            }
            rank = next;
            if next > 1 && !named {
                parser.advance();
                let splat = parser.expression()?;
                let splat = operator("weighed", splat, [], parser.span(from));
                return Ok(if next == 2 { CallArg::PosSplat(splat) } else { CallArg::KwargSplat(splat) });
            }
            if named {
                let name = parser.name()?;
                if names.contains(&name) {
                    return Err(parser.error(format!("found two arguments `{name}`")));
                }
                names.push(name);
                parser.advance();
                return Ok(CallArg::Kwarg(name, parser.expression()?));
            }
            Ok(CallArg::Pos(parser.expression()?))
        })
    }

    /// The name of a filter or test, as an argument.
    fn called(&mut self) -> Result<CallArg<'a>> {
        let from = self.at;
        let mut name = self.name()?.to_owned();
        while self.skip(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(CallArg::Pos(constant(name, self.span(from))))
    }

    /// Filters of `value`, or of a block if there is none. The first has no `|` if `inline`.
    pub(super) fn filters(&mut self, value: Option<Expr<'a>>, mut inline: bool) -> Result<Option<Expr<'a>>> {
        let from = self.at;
        let mut filtered = value;
        while inline || self.skip("|") {
            inline = false;
            let mut args = vec![self.called()?];
            if self.is("(") {
                args.extend(self.arguments()?);
            }
            filtered = Some(with_args("|", filtered, args, self.span(from)));
        }
        Ok(filtered)
    }

    fn test(&mut self, value: Expr<'a>, from: usize) -> Result<Expr<'a>> {
        self.advance();
        let negated = self.skip_name("not");
        let mut args = vec![self.called()?];
        match self.token() {
            Token::Operator("(") => args.extend(self.arguments()?),
            Token::Name("is") => return Err(self.error("expected one test, found another `is`")),
            Token::Name("else" | "or" | "and") => {}
            Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Operator("[" | "{") => {
                let from = self.at;
                let arg = self.nested(Self::primary)?;
                args.push(CallArg::Pos(self.postfix(arg, from)?));
            }
            _ => {}
        }
        let test = Expr::Test(Spanned::new(ast::Test { name: "is", expr: value, args }, self.span(from)));
        Ok(if negated { self.negated(test, from) } else { test })
    }
}
