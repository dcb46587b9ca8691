use minijinja::Value;
use minijinja::machinery::ast::{self, Expr, Spanned, Stmt};

use super::super::lexer::Token;
use super::{Parser, constant, emit, list, operator, scope, set, tuple, variable};
use crate::Result;

impl<'a> Parser<'a> {
    /// Statements up to a tag that is one of `ends`, whose name comes next, or to the end of the template if none is expected.
    pub(super) fn body(&mut self, ends: Option<&[&str]>) -> Result<(Vec<Stmt<'a>>, &'a str)> {
        let (mut stmts, opened) = (Vec::new(), self.at.saturating_sub(1));
        loop {
            let from = self.at;
            match self.token().clone() {
                Token::Data(text) => {
                    self.advance();
                    let span = self.span(from);
                    stmts.push(emit(constant(Value::from_safe_string(text.to_owned()), span), span));
                }
                Token::VariableBegin => {
                    self.advance();
                    let value = self.tuple(Self::expression, "", false)?;
                    self.expect_token(Token::VariableEnd)?;
                    stmts.push(emit(value, self.span(from)));
                }
                Token::BlockBegin => {
                    self.advance();
                    if let (Token::Name(name), Some(ends)) = (self.token().clone(), ends)
                        && ends.contains(&name)
                    {
                        self.advance();
                        return Ok((stmts, name));
                    }
                    stmts.extend(self.nested(|parser| parser.statement(from))?);
                    self.expect_token(Token::BlockEnd)?;
                }
                _ => match ends {
                    None => return Ok((stmts, "")),
                    Some(ends) => {
                        let line = self.tokens[opened].line;
                        let ends: Vec<String> = ends.iter().map(|end| format!("`{end}`")).collect();
                        let expected = ends.join(" or ");
                        return Err(super::at_line(
                            line,
                            format!("expected {expected} for this tag, found the end of the template"),
                        ));
                    }
                },
            }
        }
    }

    /// The body of a tag, up to one of `ends`.
    fn inside(&mut self, ends: &[&str]) -> Result<(Vec<Stmt<'a>>, &'a str)> {
        // As in Python.
        self.skip(":");
        self.expect_token(Token::BlockEnd)?;
        self.body(Some(ends))
    }

    /// The body of a tag that has one end.
    pub(super) fn closed(&mut self, ends: &[&str]) -> Result<Vec<Stmt<'a>>> {
        self.inside(ends).map(|(body, _)| body)
    }

    fn statement(&mut self, from: usize) -> Result<Vec<Stmt<'a>>> {
        let name = self.name()?;
        let line = self.tokens[from].line;
        Ok(vec![match name {
            "set" => return self.set(from),
            "macro" => return self.macro_(from),
            "print" => return self.print(from),
            "if" => self.if_(from)?,
            "for" => self.for_(from)?,
            "with" => self.with(from)?,
            "call" => self.call_block(from)?,
            "filter" => {
                let filter = self.filters(None, true)?.unwrap_or(constant((), self.span(from)));
                let body = self.closed(&["endfilter"])?;
                Stmt::FilterBlock(Spanned::new(ast::FilterBlock { filter, body }, self.span(from)))
            }
            // What transformers marks as the text of the assistant.
            "generation" => {
                let body = self.closed(&["endgeneration"])?;
                scope(Vec::new(), body, self.span(from))
            }
            "autoescape" => {
                let enabled = self.expression()?;
                let body = self.closed(&["endautoescape"])?;
                let span = self.span(from);
                let enabled = operator("bool", enabled, [], span);
                let node = Stmt::AutoEscape(Spanned::new(ast::AutoEscape { enabled, body }, span));
                scope(Vec::new(), vec![node], span)
            }
            "block" => self.block(from)?,
            "include" => {
                let name = self.expression()?;
                let ignore_missing = self.is_name("ignore") && *self.next_token() == Token::Name("missing");
                if ignore_missing {
                    self.advance();
                    self.advance();
                }
                self.context();
                Stmt::Include(Spanned::new(ast::Include { name, ignore_missing }, self.span(from)))
            }
            "extends" => {
                let name = self.expression()?;
                Stmt::Extends(Spanned::new(ast::Extends { name }, self.span(from)))
            }
            "import" => {
                let expr = self.expression()?;
                self.expect_name("as")?;
                let name = self.assignable()?;
                self.context();
                Stmt::Import(Spanned::new(ast::Import { expr, name }, self.span(from)))
            }
            "from" => self.import_from(from)?,
            "break" | "continue" if self.loops == 0 => {
                return Err(super::at_line(line, format!("`{name}` outside of a loop")));
            }
            "break" => Stmt::Break(Spanned::new(ast::Break, self.span(from))),
            "continue" => Stmt::Continue(Spanned::new(ast::Continue, self.span(from))),
            name => return Err(super::at_line(line, format!("expected the name of a tag, found `{name}`"))),
        }])
    }

    /// A name that may be assigned to.
    pub(super) fn assignable_name(&mut self) -> Result<&'a str> {
        let taken = ["true", "false", "none", "True", "False", "None"];
        if taken.iter().any(|name| self.is_name(name)) {
            return self.unexpected("a name to assign to");
        }
        self.name()
    }

    fn assignable(&mut self) -> Result<Expr<'a>> {
        let from = self.at;
        let name = self.assignable_name()?;
        Ok(variable(name, self.span(from)))
    }

    /// What is assigned to, up to the name `end`: names, several of these, and the fields of a namespace if it says so.
    fn target(&mut self, end: &str, fields: bool) -> Result<Expr<'a>> {
        let (from, mut items, mut several) = (self.at, Vec::new(), false);
        while !self.is(")") && !self.is_name(end) && *self.token() != Token::BlockEnd {
            let at = self.at;
            let item = if self.skip("(") {
                let item = self.nested(|parser| parser.target("", false))?;
                self.expect(")")?;
                item
            } else {
                let variable = self.assignable()?;
                if fields && self.skip(".") {
                    let name = self.name()?;
                    Expr::GetAttr(Spanned::new(ast::GetAttr { expr: variable, name }, self.span(at)))
                } else {
                    variable
                }
            };
            items.push(item);
            if !self.skip(",") {
                break;
            }
            several = true;
        }
        match items.pop() {
            Some(item) if !several => Ok(item),
            None => self.unexpected("a name to assign to"),
            last => {
                items.extend(last);
                Ok(list(items, self.span(from)))
            }
        }
    }

    fn set(&mut self, from: usize) -> Result<Vec<Stmt<'a>>> {
        let target = self.target("", true)?;
        if self.skip("=") {
            let value = self.tuple(Self::expression, "", false)?;
            let span = self.span(from);
            let value = if matches!(target, Expr::List(_)) { operator("unpack", value, [], span) } else { value };
            return Ok(vec![set(target, value, span)]);
        }
        let filter = self.filters(None, false)?;
        let body = self.closed(&["endset"])?;
        let span = self.span(from);
        // Its variables are its own.
        let body = vec![scope(Vec::new(), body, span)];
        Ok(vec![Stmt::SetBlock(Spanned::new(ast::SetBlock { target, filter, body }, span))])
    }

    fn print(&mut self, from: usize) -> Result<Vec<Stmt<'a>>> {
        let mut stmts = Vec::new();
        while *self.token() != Token::BlockEnd {
            if !stmts.is_empty() {
                self.expect(",")?;
            }
            let value = self.expression()?;
            stmts.push(emit(value, self.span(from)));
        }
        Ok(stmts)
    }

    fn if_(&mut self, from: usize) -> Result<Stmt<'a>> {
        let (mut branches, mut false_body) = (Vec::new(), Vec::new());
        loop {
            let expr = self.tuple(Self::or, "", false)?;
            let (body, end) = self.inside(&["elif", "else", "endif"])?;
            branches.push((expr, body));
            match end {
                "elif" => {}
                "else" => {
                    false_body = self.closed(&["endif"])?;
                    break;
                }
                _ => break,
            }
        }
        let span = self.span(from);
        while branches.len() > 1
            && let Some((expr, true_body)) = branches.pop()
        {
            false_body = vec![Stmt::IfCond(Spanned::new(ast::IfCond { expr, true_body, false_body }, span))];
        }
        let (expr, true_body) = branches.pop().unwrap_or((constant(false, span), Vec::new()));
        Ok(Stmt::IfCond(Spanned::new(ast::IfCond { expr, true_body, false_body }, span)))
    }

    fn for_(&mut self, from: usize) -> Result<Stmt<'a>> {
        let target = self.target("in", false)?;
        self.expect_name("in")?;
        let iter = self.tuple(Self::or, "recursive", false)?;
        let iter = operator("iter", iter, [], self.span(from));
        let filter_expr = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let (body, end) = self.inside(&["endfor", "else"])?;
        self.loops -= 1;
        let else_body = if end == "else" { self.closed(&["endfor"])? } else { Vec::new() };
        let node = ast::ForLoop { target, iter, filter_expr, recursive, body, else_body };
        Ok(Stmt::ForLoop(Spanned::new(node, self.span(from))))
    }

    fn with(&mut self, from: usize) -> Result<Stmt<'a>> {
        let (mut targets, mut values) = (Vec::new(), Vec::new());
        while *self.token() != Token::BlockEnd && !self.is(":") {
            if !targets.is_empty() {
                self.expect(",")?;
            }
            targets.push(self.assignable()?);
            self.expect("=")?;
            values.push(self.expression()?);
        }
        let body = self.closed(&["endwith"])?;
        let span = self.span(from);
        // All values are those outside.
        let assignments =
            if targets.is_empty() { Vec::new() } else { vec![(list(targets, span), tuple(values, span))] };
        Ok(scope(assignments, body, span))
    }

    fn block(&mut self, from: usize) -> Result<Stmt<'a>> {
        let name = self.name()?;
        if self.blocks.contains(&name) {
            return Err(self.error(format!("block `{name}` is there twice")));
        }
        self.blocks.push(name);
        self.skip_name("scoped");
        let required = self.skip_name("required");
        let body = self.closed(&["endblock"])?;
        self.skip_name(name);
        Ok(Stmt::Block(Spanned::new(ast::Block { name, required, body }, self.span(from))))
    }

    /// `with context` or `without context`, which change nothing where there are no other templates.
    fn context(&mut self) -> bool {
        let found = (self.is_name("with") || self.is_name("without")) && *self.next_token() == Token::Name("context");
        if found {
            self.advance();
            self.advance();
        }
        found
    }

    fn import_from(&mut self, from: usize) -> Result<Stmt<'a>> {
        let expr = self.expression()?;
        self.expect_name("import")?;
        let mut names = Vec::new();
        loop {
            if !names.is_empty() && self.context() {
                break;
            }
            let name = self.assignable()?;
            let alias = if self.skip_name("as") { Some(self.assignable()?) } else { None };
            names.push((name, alias));
            if self.context() || !self.skip(",") {
                break;
            }
        }
        Ok(Stmt::FromImport(Spanned::new(ast::FromImport { expr, names }, self.span(from))))
    }
}
