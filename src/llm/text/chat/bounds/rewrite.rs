//! A template's syntax tree with operators and filters that count.

use minijinja::machinery::ast::{self, BinOpKind, CallArg, EmitExpr, Expr, Filter, Spanned, Stmt};
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind, Value};

/// Names of filters that templates cannot write.
pub(in crate::llm::text::chat) const WHOLE: &str = "(value)";
pub(in crate::llm::text::chat) const MANY: &str = "(parts)";
pub(in crate::llm::text::chat) const TOP: &str = "(entries)";
pub(in crate::llm::text::chat) const ENTERED: &str = "(entered)";
pub(in crate::llm::text::chat) const DICT: &str = "(object)";
pub(in crate::llm::text::chat) const MACRO: &str = "(macro)";
pub(in crate::llm::text::chat) const ADD: &str = "+";
pub(in crate::llm::text::chat) const MULTIPLY: &str = "*";
pub(in crate::llm::text::chat) const CONCATENATE: &str = "~";
pub(in crate::llm::text::chat) const SLICE: &str = "[:]";

/// Filters that look no further than at a value's own entries.
const SHALLOW: [&str; 13] = [
    "default",
    "d",
    "length",
    "count",
    "first",
    "last",
    "list",
    "reverse",
    "items",
    "selectattr",
    "rejectattr",
    "batch",
    "slice",
];

/// Filters and methods that give a list with an entry for every few bytes, or sort.
const APART: [&str; 15] = [
    "chain",
    "dictsort",
    "groupby",
    "lines",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "select",
    "sort",
    "split",
    "splitlines",
    "unique",
    "zip",
];

/// Tests that look at no more than what kind of value it is.
const KINDS: [&str; 16] = [
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "even",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "string",
    "true",
];

type Rewritten<T> = Result<T, Error>;

/// Bytes of a template.
const SOURCE: usize = 1 << 20;

/// Words and signs of a tag, and alternatives of a condition: each may be in the one before it.
const LONG: usize = 4000;

/// Refuses a template whose parts may be deeper in one another than can be read.
///
/// # Errors
/// A template, a tag or a condition that is too long. (What else is wrong is said when it is parsed.)
pub(in crate::llm::text::chat) fn short(source: &str, syntax: SyntaxConfig) -> Rewritten<()> {
    if source.len() > SOURCE {
        let problem = format!("it has more than {} MB", SOURCE >> 20);
        return Err(Error::new(ErrorKind::SyntaxError, problem));
    }
    let (mut words, mut alternatives) = (0, 0);
    for token in tokenize(source, false, syntax).map_while(Result::ok) {
        match token.0 {
            Token::VariableStart | Token::BlockStart => words = 0,
            Token::Ident("elif") if words == 0 => alternatives += 1,
            _ => words += 1,
        }
        if words.max(alternatives) > LONG {
            let problem = format!("a tag or a condition has more than {LONG} parts");
            return Err(Error::new(ErrorKind::SyntaxError, problem));
        }
    }
    Ok(())
}

/// The template, rewritten.
///
/// # Errors
/// A template that wants others.
pub(in crate::llm::text::chat) fn statement<'a>(stmt: &Stmt<'a>) -> Rewritten<Stmt<'a>> {
    Ok(match stmt {
        Stmt::Template(s) => Stmt::Template(Spanned::new(
            ast::Template {
                children: body(&s.children)?,
            },
            s.span(),
        )),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(Spanned::new(
            EmitExpr {
                expr: plain(&s.expr),
            },
            s.span(),
        )),
        // Counted where it is written, as values are.
        Stmt::EmitRaw(s) => {
            let value = Value::from(s.raw);
            let expr = Expr::Const(Spanned::new(ast::Const { value }, s.span()));
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, s.span()))
        }
        Stmt::ForLoop(s) => Stmt::ForLoop(Spanned::new(
            ast::ForLoop {
                target: assigned(&s.target),
                iter: through(TOP, &s.iter),
                filter_expr: s.filter_expr.as_ref().map(plain),
                recursive: s.recursive,
                body: body(&s.body)?,
                else_body: body(&s.else_body)?,
            },
            s.span(),
        )),
        Stmt::IfCond(s) => Stmt::IfCond(Spanned::new(
            ast::IfCond {
                expr: plain(&s.expr),
                true_body: body(&s.true_body)?,
                false_body: body(&s.false_body)?,
            },
            s.span(),
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter();
            Stmt::WithBlock(Spanned::new(
                ast::WithBlock {
                    assignments: assignments
                        .map(|(to, from)| (assigned(to), plain(from)))
                        .collect(),
                    body: body(&s.body)?,
                },
                s.span(),
            ))
        }
        Stmt::Set(s) => Stmt::Set(Spanned::new(
            ast::Set {
                target: assigned(&s.target),
                expr: plain(&s.expr),
            },
            s.span(),
        )),
        Stmt::SetBlock(s) => Stmt::SetBlock(Spanned::new(
            ast::SetBlock {
                target: assigned(&s.target),
                filter: s.filter.as_ref().map(captured),
                body: body(&s.body)?,
            },
            s.span(),
        )),
        Stmt::AutoEscape(s) => Stmt::AutoEscape(Spanned::new(
            ast::AutoEscape {
                enabled: plain(&s.enabled),
                body: body(&s.body)?,
            },
            s.span(),
        )),
        Stmt::FilterBlock(s) => Stmt::FilterBlock(Spanned::new(
            ast::FilterBlock {
                filter: captured(&s.filter),
                body: body(&s.body)?,
            },
            s.span(),
        )),
        Stmt::Macro(s) => Stmt::Macro(declared(s)?),
        Stmt::CallBlock(s) => Stmt::CallBlock(Spanned::new(
            ast::CallBlock {
                call: called(&s.call),
                macro_decl: declared(&s.macro_decl)?,
            },
            s.span(),
        )),
        Stmt::Do(s) => Stmt::Do(Spanned::new(
            ast::Do {
                call: called(&s.call),
            },
            s.span(),
        )),
        Stmt::Continue(s) => Stmt::Continue(Spanned::new(ast::Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(Spanned::new(ast::Break, s.span())),
        Stmt::Block(_)
        | Stmt::Import(_)
        | Stmt::FromImport(_)
        | Stmt::Extends(_)
        | Stmt::Include(_) => {
            let problem = "a chat template is one file: it has no blocks, and includes, imports and \
                           extends no other";
            return Err(Error::new(ErrorKind::SyntaxError, problem));
        }
    })
}

fn body<'a>(statements: &[Stmt<'a>]) -> Rewritten<Vec<Stmt<'a>>> {
    let mut all = Vec::with_capacity(statements.len());
    for stmt in statements {
        // What a macro remembers of where it is declared is kept until the end.
        let span = match stmt {
            Stmt::Macro(s) => Some(s.span()),
            Stmt::CallBlock(s) => Some(s.span()),
            _ => None,
        };
        if let Some(span) = span {
            let nothing = Expr::Const(Spanned::new(ast::Const { value: "".into() }, span));
            let expr = filter(MACRO, nothing, Vec::new());
            all.push(Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, span)));
        }
        all.push(statement(stmt)?);
    }
    Ok(all)
}

fn declared<'a>(s: &Spanned<ast::Macro<'a>>) -> Rewritten<Spanned<ast::Macro<'a>>> {
    let made = ast::Macro {
        name: s.name,
        args: s.args.iter().map(assigned).collect(),
        defaults: s.defaults.iter().map(plain).collect(),
        body: body(&s.body)?,
    };
    Ok(Spanned::new(made, s.span()))
}

/// A filter of what a block captures, which is counted as it is written.
fn captured<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Filter(s) => Expr::Filter(Spanned::new(
            Filter {
                name: s.name,
                expr: s.expr.as_ref().map(captured),
                args: arguments(WHOLE, &s.args),
            },
            s.span(),
        )),
        other => plain(other),
    }
}

/// An operand, whose size is counted; texts and numbers that the template has are small.
fn through<'a>(counter: &'static str, expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Const(_) => plain(expr),
        _ => filter(counter, plain(expr), Vec::new()),
    }
}

fn filter<'a>(name: &'static str, expr: Expr<'a>, args: Vec<CallArg<'a>>) -> Expr<'a> {
    let span = expr.span();
    Expr::Filter(Spanned::new(
        Filter {
            name,
            expr: Some(expr),
            args,
        },
        span,
    ))
}

fn arguments<'a>(counter: &'static str, args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let argument = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(through(counter, expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, through(counter, expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(through(counter, expr)),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(through(counter, expr)),
    };
    args.iter().map(argument).collect()
}

fn called<'a>(s: &Spanned<ast::Call<'a>>) -> Spanned<ast::Call<'a>> {
    let (expr, counter) = match &s.expr {
        Expr::GetAttr(method) => {
            let counter = if APART.contains(&method.name) {
                MANY
            } else {
                WHOLE
            };
            let counter = if ["get", "items", "keys", "values"].contains(&method.name) {
                TOP
            } else {
                counter
            };
            let expr = match &method.expr {
                // What is called by name is not looked at.
                Expr::Var(name) if ["loop", "self"].contains(&name.id) => plain(&method.expr),
                other => through(counter, other),
            };
            let method = ast::GetAttr {
                expr,
                name: method.name,
            };
            (Expr::GetAttr(Spanned::new(method, s.expr.span())), WHOLE)
        }
        other => (plain(other), TOP),
    };
    Spanned::new(
        ast::Call {
            expr,
            args: arguments(counter, &s.args),
        },
        s.span(),
    )
}

fn plain<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let span = expr.span();
    match expr {
        Expr::Var(s) => Expr::Var(Spanned::new(ast::Var { id: s.id }, span)),
        Expr::Const(s) => Expr::Const(Spanned::new(
            ast::Const {
                value: s.value.clone(),
            },
            span,
        )),
        Expr::Slice(s) => {
            let part = |part: &Option<Expr<'a>>| {
                let none = || Expr::Const(Spanned::new(ast::Const { value: ().into() }, span));
                CallArg::Pos(part.as_ref().map_or_else(none, plain))
            };
            let parts = vec![part(&s.start), part(&s.stop), part(&s.step)];
            filter(SLICE, through(TOP, &s.expr), parts)
        }
        Expr::UnaryOp(s) => {
            let op = if matches!(s.op, ast::UnaryOpKind::Not) {
                ast::UnaryOpKind::Not
            } else {
                ast::UnaryOpKind::Neg
            };
            Expr::UnaryOp(Spanned::new(
                ast::UnaryOp {
                    op,
                    expr: plain(&s.expr),
                },
                span,
            ))
        }
        Expr::BinOp(s) => {
            let ours = match s.op {
                BinOpKind::Add => Some((ADD, TOP)),
                BinOpKind::Mul => Some((MULTIPLY, TOP)),
                BinOpKind::Concat => Some((CONCATENATE, WHOLE)),
                _ => None,
            };
            if let Some((name, counter)) = ours {
                let right = CallArg::Pos(through(counter, &s.right));
                return filter(name, through(counter, &s.left), vec![right]);
            }
            let [left, right] = match s.op {
                BinOpKind::ScAnd | BinOpKind::ScOr => [plain(&s.left), plain(&s.right)],
                BinOpKind::In if brief(&s.left) => [plain(&s.left), through(TOP, &s.right)],
                BinOpKind::In => [through(WHOLE, &s.left), through(WHOLE, &s.right)],
                _ if brief(&s.left) || brief(&s.right) => [plain(&s.left), plain(&s.right)],
                _ => [through(WHOLE, &s.left), through(WHOLE, &s.right)],
            };
            Expr::BinOp(Spanned::new(
                ast::BinOp {
                    op: s.op,
                    left,
                    right,
                },
                span,
            ))
        }
        Expr::Compare(s) => {
            let operand = |expr: &Expr<'a>| through(WHOLE, expr);
            let ops = s.ops.iter();
            let ops = ops.map(|o| ast::CompareOp {
                op: o.op,
                expr: operand(&o.expr),
            });
            let made = ast::Compare {
                expr: operand(&s.expr),
                ops: ops.collect(),
            };
            Expr::Compare(Spanned::new(made, span))
        }
        Expr::IfExpr(s) => Expr::IfExpr(Spanned::new(
            ast::IfExpr {
                test_expr: plain(&s.test_expr),
                true_expr: plain(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(plain),
            },
            span,
        )),
        Expr::Filter(s) => {
            let counter = match s.name {
                name if APART.contains(&name) => MANY,
                name if SHALLOW.contains(&name) => TOP,
                _ => WHOLE,
            };
            let made = Filter {
                name: s.name,
                expr: s.expr.as_ref().map(|expr| through(counter, expr)),
                args: arguments(WHOLE, &s.args),
            };
            filter(TOP, Expr::Filter(Spanned::new(made, span)), Vec::new())
        }
        Expr::Test(s) => {
            let bare = KINDS.contains(&s.name) || s.name == "undefined";
            let made = ast::Test {
                name: s.name,
                expr: if bare {
                    plain(&s.expr)
                } else {
                    through(WHOLE, &s.expr)
                },
                args: arguments(WHOLE, &s.args),
            };
            Expr::Test(Spanned::new(made, span))
        }
        Expr::GetAttr(s) => {
            let made = ast::GetAttr {
                expr: plain(&s.expr),
                name: s.name,
            };
            Expr::GetAttr(Spanned::new(made, span))
        }
        Expr::GetItem(s) => {
            let named = matches!(&s.subscript_expr, Expr::Const(c) if c.value.as_str().is_some());
            let made = if named {
                ast::GetItem {
                    expr: plain(&s.expr),
                    subscript_expr: plain(&s.subscript_expr),
                }
            } else {
                ast::GetItem {
                    expr: through(ENTERED, &s.expr),
                    subscript_expr: through(WHOLE, &s.subscript_expr),
                }
            };
            Expr::GetItem(Spanned::new(made, span))
        }
        Expr::Call(s) => filter(TOP, Expr::Call(called(s)), Vec::new()),
        Expr::List(s) => {
            let made = ast::List {
                items: s.items.iter().map(plain).collect(),
            };
            filter(TOP, Expr::List(Spanned::new(made, span)), Vec::new())
        }
        // Not made a list, but looked at.
        Expr::Tuple(s) => {
            let made = ast::Tuple {
                items: s.items.iter().map(plain).collect(),
            };
            filter(WHOLE, Expr::Tuple(Spanned::new(made, span)), Vec::new())
        }
        Expr::Map(s) => {
            let made = ast::Map {
                keys: s.keys.iter().map(|key| through(WHOLE, key)).collect(),
                values: s.values.iter().map(plain).collect(),
            };
            filter(DICT, Expr::Map(Spanned::new(made, span)), Vec::new())
        }
    }
}

/// What is assigned to, as it is.
fn assigned<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let span = expr.span();
    match expr {
        Expr::List(s) => {
            let items = s.items.iter().map(assigned).collect();
            Expr::List(Spanned::new(ast::List { items }, span))
        }
        Expr::Tuple(s) => {
            let items = s.items.iter().map(assigned).collect();
            Expr::Tuple(Spanned::new(ast::Tuple { items }, span))
        }
        other => plain(other),
    }
}

/// Whether comparing with it takes no time: it is a text or a number of the template.
fn brief(expr: &Expr) -> bool {
    matches!(expr, Expr::Const(c) if c.value.as_str().is_some_and(|s| s.len() < 64))
}
