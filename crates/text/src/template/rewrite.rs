//! A template's syntax tree with Python's operators in place of the engine's.
//!
//! Operators, subscripts, filters and tests become calls of [`super::operators`], which have names that no template can
//! spell, and text between tags is printed like any value. So everything that reads or builds much passes the budget,
//! and the engine folds no constants.

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, Expr, Spanned, Stmt, UnaryOpKind};

fn body<'a>(stmts: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    stmts.iter().map(stmt).collect()
}

/// The tree with its operators replaced.
pub(super) fn stmt<'a>(stmt: &Stmt<'a>) -> Stmt<'a> {
    match stmt {
        Stmt::Template(s) => Stmt::Template(at(s, ast::Template { children: body(&s.children) })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(at(s, ast::EmitExpr { expr: expr(&s.expr) })),
        Stmt::EmitRaw(s) => {
            let text = Value::from_safe_string(s.raw.to_owned());
            Stmt::EmitExpr(at(s, ast::EmitExpr { expr: constant(text, s.span()) }))
        }
        Stmt::ForLoop(s) => {
            let node = ast::ForLoop {
                target: target(&s.target),
                iter: operator("iter", &s.iter, [], s.iter.span()),
                filter_expr: s.filter_expr.as_ref().map(expr),
                recursive: s.recursive,
                body: body(&s.body),
                else_body: body(&s.else_body),
            };
            Stmt::ForLoop(at(s, node))
        }
        Stmt::IfCond(s) => {
            let (true_body, false_body) = (body(&s.true_body), body(&s.false_body));
            Stmt::IfCond(at(s, ast::IfCond { expr: expr(&s.expr), true_body, false_body }))
        }
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(name, value)| (target(name), expr(value))).collect();
            Stmt::WithBlock(at(s, ast::WithBlock { assignments, body: body(&s.body) }))
        }
        Stmt::Set(s) => Stmt::Set(at(s, ast::Set { target: target(&s.target), expr: expr(&s.expr) })),
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(expr);
            Stmt::SetBlock(at(s, ast::SetBlock { target: target(&s.target), filter, body: body(&s.body) }))
        }
        Stmt::AutoEscape(s) => {
            Stmt::AutoEscape(at(s, ast::AutoEscape { enabled: expr(&s.enabled), body: body(&s.body) }))
        }
        Stmt::FilterBlock(s) => {
            Stmt::FilterBlock(at(s, ast::FilterBlock { filter: expr(&s.filter), body: body(&s.body) }))
        }
        Stmt::Block(s) => Stmt::Block(at(s, ast::Block { name: s.name, required: s.required, body: body(&s.body) })),
        Stmt::Import(s) => Stmt::Import(at(s, ast::Import { expr: expr(&s.expr), name: target(&s.name) })),
        Stmt::FromImport(s) => {
            let names = s.names.iter().map(|(name, alias)| (target(name), alias.as_ref().map(target))).collect();
            Stmt::FromImport(at(s, ast::FromImport { expr: expr(&s.expr), names }))
        }
        Stmt::Extends(s) => Stmt::Extends(at(s, ast::Extends { name: expr(&s.name) })),
        Stmt::Include(s) => {
            Stmt::Include(at(s, ast::Include { name: expr(&s.name), ignore_missing: s.ignore_missing }))
        }
        Stmt::Macro(s) => Stmt::Macro(macro_(s)),
        Stmt::CallBlock(s) => {
            Stmt::CallBlock(at(s, ast::CallBlock { call: call(&s.call), macro_decl: macro_(&s.macro_decl) }))
        }
        Stmt::Continue(s) => Stmt::Continue(at(s, ast::Continue)),
        Stmt::Break(s) => Stmt::Break(at(s, ast::Break)),
        Stmt::Do(s) => Stmt::Do(at(s, ast::Do { call: call(&s.call) })),
    }
}

fn expr<'a>(node: &Expr<'a>) -> Expr<'a> {
    let span = node.span();
    match node {
        Expr::Var(e) => Expr::Var(at(e, ast::Var { id: e.id })),
        Expr::Const(e) => constant(e.value.clone(), span),
        Expr::Slice(e) => {
            let bound = |bound: &Option<Expr<'a>>| bound.as_ref().map_or(constant(Value::from(()), span), expr);
            operator("[:]", &e.expr, [bound(&e.start), bound(&e.stop), bound(&e.step)], span)
        }
        Expr::UnaryOp(e) => Expr::UnaryOp(at(e, ast::UnaryOp { op: unary(&e.op), expr: expr(&e.expr) })),
        Expr::BinOp(e) => match symbol(e.op) {
            Some(name) => operator(name, &e.left, [expr(&e.right)], span),
            None => Expr::BinOp(at(e, ast::BinOp { op: e.op, left: expr(&e.left), right: expr(&e.right) })),
        },
        // Each operand is weighed once; the engine compares neighbours.
        Expr::Compare(e) => {
            let weighed = |operand: &Expr<'a>| operator("weighed", operand, [], span);
            let ops = e.ops.iter().map(|op| ast::CompareOp { op: op.op, expr: weighed(&op.expr) }).collect();
            Expr::Compare(at(e, ast::Compare { expr: weighed(&e.expr), ops }))
        }
        Expr::IfExpr(e) => {
            let false_expr = e.false_expr.as_ref().map(expr);
            let (test_expr, true_expr) = (expr(&e.test_expr), expr(&e.true_expr));
            Expr::IfExpr(at(e, ast::IfExpr { test_expr, true_expr, false_expr }))
        }
        Expr::Filter(e) => {
            let args = named(e.name, &e.args, span);
            Expr::Filter(at(e, ast::Filter { name: "|", expr: e.expr.as_ref().map(expr), args }))
        }
        Expr::Test(e) => {
            Expr::Test(at(e, ast::Test { name: "is", expr: expr(&e.expr), args: named(e.name, &e.args, span) }))
        }
        Expr::GetAttr(e) => Expr::GetAttr(at(e, ast::GetAttr { expr: expr(&e.expr), name: e.name })),
        Expr::GetItem(e) => operator("[]", &e.expr, [expr(&e.subscript_expr)], span),
        Expr::Call(e) => Expr::Call(call(e)),
        Expr::List(e) => Expr::List(at(e, ast::List { items: exprs(&e.items) })),
        Expr::Tuple(e) => Expr::Tuple(at(e, ast::Tuple { items: exprs(&e.items) })),
        Expr::Map(e) => {
            let keys = e.keys.iter().map(|key| operator("weighed", key, [], span)).collect();
            Expr::Map(at(e, ast::Map { keys, values: exprs(&e.values) }))
        }
    }
}

/// What is assigned to: names, the fields of a namespace, or several of these.
fn target<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::List(e) => Expr::List(at(e, ast::List { items: e.items.iter().map(target).collect() })),
        Expr::Tuple(e) => Expr::Tuple(at(e, ast::Tuple { items: e.items.iter().map(target).collect() })),
        _ => expr(node),
    }
}

fn exprs<'a>(nodes: &[Expr<'a>]) -> Vec<Expr<'a>> {
    nodes.iter().map(expr).collect()
}

fn call<'a>(node: &Spanned<ast::Call<'a>>) -> Spanned<ast::Call<'a>> {
    // A method may read what it is given; a function is a macro, or one of ours.
    let method = matches!(node.expr, Expr::GetAttr(_));
    let weighed = |value: &Expr<'a>| operator("weighed", value, [], value.span());
    let args = node.args.iter().map(|given| match given {
        CallArg::Pos(value) if method => CallArg::Pos(weighed(value)),
        CallArg::Kwarg(name, value) if method => CallArg::Kwarg(name, weighed(value)),
        _ => arg(given),
    });
    at(node, ast::Call { expr: expr(&node.expr), args: args.collect() })
}

fn macro_<'a>(node: &Spanned<ast::Macro<'a>>) -> Spanned<ast::Macro<'a>> {
    let (args, defaults) = (node.args.iter().map(target).collect(), exprs(&node.defaults));
    at(node, ast::Macro { name: node.name, args, defaults, body: body(&node.body) })
}

fn arg<'a>(arg: &CallArg<'a>) -> CallArg<'a> {
    match arg {
        CallArg::Pos(value) => CallArg::Pos(expr(value)),
        CallArg::Kwarg(name, value) => CallArg::Kwarg(name, expr(value)),
        CallArg::PosSplat(value) => CallArg::PosSplat(operator("weighed", value, [], value.span())),
        CallArg::KwargSplat(value) => CallArg::KwargSplat(operator("weighed", value, [], value.span())),
    }
}

/// The arguments of a filter or test, after its name.
fn named<'a>(name: &str, args: &[CallArg<'a>], span: Span) -> Vec<CallArg<'a>> {
    let name: String = name.split_ascii_whitespace().collect();
    [CallArg::Pos(constant(name.into(), span))].into_iter().chain(args.iter().map(arg)).collect()
}

fn operator<'a, const N: usize>(name: &'a str, left: &Expr<'a>, right: [Expr<'a>; N], span: Span) -> Expr<'a> {
    let args = right.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(expr(left)), args }, span))
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(ast::Const { value }, span))
}

fn at<T, U>(old: &Spanned<T>, node: U) -> Spanned<U> {
    Spanned::new(node, old.span())
}

/// The operators that differ from Python's or read what they are given; the others are the engine's.
fn symbol(op: BinOpKind) -> Option<&'static str> {
    Some(match op {
        BinOpKind::Eq => "==",
        BinOpKind::Ne => "!=",
        BinOpKind::Lt => "<",
        BinOpKind::Lte => "<=",
        BinOpKind::Gt => ">",
        BinOpKind::Gte => ">=",
        BinOpKind::Add => "+",
        BinOpKind::Mul => "*",
        BinOpKind::Rem => "%",
        BinOpKind::Concat => "~",
        BinOpKind::In => "in",
        BinOpKind::ScAnd | BinOpKind::ScOr | BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Pow => {
            return None;
        }
    })
}

fn unary(op: &UnaryOpKind) -> UnaryOpKind {
    match op {
        UnaryOpKind::Not => UnaryOpKind::Not,
        UnaryOpKind::Neg => UnaryOpKind::Neg,
    }
}
