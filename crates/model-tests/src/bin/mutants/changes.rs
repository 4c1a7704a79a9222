//! What is changed: found by syntax, in the order of the text, so that the same sources always give the same mutants.

use std::fmt;
use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// One change of one file.
pub struct Mutant {
    /// Counted through all files, from 1.
    pub number: usize,
    /// In the core's `src`.
    pub file: String,
    /// Where, in lines from 1.
    pub line: usize,
    /// The function that it is in.
    pub function: String,
    /// What kind of change.
    pub kind: &'static str,
    /// The text that is changed.
    pub original: String,
    /// What it becomes.
    pub changed: String,
    /// Its bytes in the file.
    pub place: Range<usize>,
    /// It is a statement, not an expression.
    pub statement: bool,
    /// The compiler accepts it.
    pub compiles: bool,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}:{} in {}, {}: `{}` becomes `{}`",
            self.number,
            self.file,
            self.line,
            self.function,
            self.kind,
            folded(&self.original),
            folded(&self.changed)
        )
    }
}

/// Text with each run of blanks and line ends as one blank.
pub fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All mutants of a file.
pub fn of_file(file: &str, source: &str, first: usize) -> Vec<Mutant> {
    let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut finder = Finder {
        file,
        source,
        first,
        function: String::new(),
        found: Vec::new(),
    };
    finder.visit_file(&parsed);
    finder.found
}

struct Finder<'s> {
    file: &'s str,
    source: &'s str,
    first: usize,
    function: String,
    found: Vec<Mutant>,
}

impl Finder<'_> {
    fn text(&self, span: Span) -> &str {
        &self.source[span.byte_range()]
    }

    fn add(&mut self, kind: &'static str, span: Span, changed: String, statement: bool) {
        self.found.push(Mutant {
            number: self.first + self.found.len(),
            file: self.file.to_owned(),
            line: span.start().line,
            function: self.function.clone(),
            kind,
            original: self.text(span).to_owned(),
            changed,
            place: span.byte_range(),
            statement,
            compiles: true,
        });
    }
}

/// Whether an expression binds something on the way (`if let`), so that it can only be added to.
fn binds(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg"))
}

/// A statement that only does something: a call, or an assignment.
fn does(statement: &syn::Stmt) -> bool {
    let syn::Stmt::Expr(expression, Some(_)) = statement else {
        return false;
    };
    let inner = match expression {
        syn::Expr::Try(tried) => &tried.expr,
        other => other,
    };
    matches!(
        inner,
        syn::Expr::MethodCall(_) | syn::Expr::Call(_) | syn::Expr::Assign(_)
    )
}

/// Two statements that only set, count up or empty two different things: their order means nothing.
fn independent(one: &str, other: &str) -> bool {
    let changed = |text: &str| {
        let text = folded(text);
        if let Some(emptied) = text.strip_suffix(".clear();") {
            return Some(emptied.to_owned());
        }
        let (place, value) = text.strip_suffix(';')?.split_once(" = ")?;
        let counts = value.starts_with(&format!("{place}.saturating_")) && value.matches('(').count() <= 2;
        (counts || !value.contains('(')).then(|| place.trim_start_matches('*').to_owned())
    };
    match (changed(one), changed(other)) {
        (Some(first), Some(second)) => !folded(other).contains(&first) && !folded(one).contains(&second),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.constness.is_none() {
            self.function = item.sig.ident.to_string();
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.sig.constness.is_none() && !is_test(&item.attrs) {
            self.function = item.sig.ident.to_string();
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function = item.sig.ident.to_string();
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        for (index, statement) in block.stmts.iter().enumerate() {
            if !does(statement) {
                continue;
            }
            self.add("left out", statement.span(), String::new(), true);
            if let Some(next) = block.stmts.get(index + 1).filter(|next| does(next)) {
                let swapped = format!("{} {}", self.text(next.span()), self.text(statement.span()));
                let both = statement.span().join(next.span());
                let both = both.filter(|_| !independent(self.text(statement.span()), self.text(next.span())));
                if let Some(both) = both {
                    self.add("swapped", both, swapped, true);
                }
            }
        }
        visit::visit_block(self, block);
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        let text = self.text(expression.cond.span()).to_owned();
        if binds(&expression.cond) {
            self.add("never", expression.cond.span(), format!("{text} && false"), false);
        } else {
            self.add("never", expression.cond.span(), "false".into(), false);
            self.add("always", expression.cond.span(), "true".into(), false);
        }
        visit::visit_expr_if(self, expression);
    }

    fn visit_expr_binary(&mut self, expression: &'ast syn::ExprBinary) {
        use syn::BinOp;
        let other = match expression.op {
            BinOp::Lt(_) => "<=",
            BinOp::Le(_) => "<",
            BinOp::Gt(_) => ">=",
            BinOp::Ge(_) => ">",
            BinOp::Eq(_) => "!=",
            BinOp::Ne(_) => "==",
            BinOp::And(_) => "||",
            BinOp::Or(_) => "&&",
            _ => return visit::visit_expr_binary(self, expression),
        };
        if !binds(&expression.left) && !binds(&expression.right) {
            let (left, right) = (self.text(expression.left.span()), self.text(expression.right.span()));
            let changed = format!("({left}) {other} ({right})");
            self.add("operator", expression.span(), changed, false);
        }
        visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        if let ("saturating_add" | "saturating_sub", Some(argument)) = (name.as_str(), call.args.first()) {
            self.add("nothing added", argument.span(), "0".into(), false);
        }
        for argument in &call.args {
            if let syn::Expr::Lit(literal) = argument
                && let syn::Lit::Bool(value) = &literal.lit
            {
                self.add("truth", argument.span(), (!value.value).to_string(), false);
            }
        }
        let other = match name.as_str() {
            "any" => "all",
            "all" => "any",
            "is_some" => "is_none",
            "is_none" => "is_some",
            "min" => "max",
            "max" => "min",
            _ => return visit::visit_expr_method_call(self, call),
        };
        let whole = self.source[call.span().byte_range()].to_owned();
        let at = call.method.span().byte_range().start - call.span().byte_range().start;
        let changed = format!("{}{other}{}", &whole[..at], &whole[at + name.len()..]);
        self.add("method", call.span(), changed, false);
        visit::visit_expr_method_call(self, call);
    }
}

/// The file with all its mutants that compile, each behind its switch.
pub fn with_switches(source: &str, mutants: &[&Mutant]) -> String {
    // At one place what ends comes before what begins; of what begins there the longest comes first, of what ends the shortest.
    let mut insertions: Vec<(usize, u8, isize, String)> = Vec::new();
    for mutant in mutants {
        let Range { start, end } = mutant.place.clone();
        let length = isize::try_from(end - start).unwrap_or(isize::MAX);
        let (switch, changed) = (format!("crate::mutants::is({})", mutant.number), &mutant.changed);
        let (before, after) = match (mutant.statement, mutant.kind) {
            (true, _) => (format!("if {switch} {{ {changed} }} else {{ "), " }".to_owned()),
            // A condition that binds something is only added to.
            (false, "never") if changed != "false" => (String::new(), format!(" && !{switch}")),
            (false, _) => (format!("(if {switch} {{ {changed} }} else {{ "), " })".to_owned()),
        };
        insertions.push((start, 1, -length, before));
        insertions.push((end, 0, length, after));
    }
    insertions.sort_by_key(|(at, kind, length, _)| (*at, *kind, *length));
    let mut text = String::with_capacity(source.len() * 2);
    let mut done = 0;
    for (at, _, _, inserted) in insertions {
        text.push_str(&source[done..at]);
        text.push_str(&inserted);
        done = at;
    }
    text.push_str(&source[done..]);
    text
}
